"""`python -m tests.benchmarks.laptop_rate SECONDS THREADS`: laptop-scale images a second."""

from __future__ import annotations

import sys
import time

from tests.benchmarks.measure import use_threads
from tests.benchmarks.test_bench_step import laptop

WARM_UP = 3


def main() -> None:
    seconds, threads = float(sys.argv[1]), int(sys.argv[2])
    trainer, config = laptop()
    use_threads(threads)
    steps = (event for event in trainer.run() if event["kind"] == "step")
    for _ in range(WARM_UP):
        next(steps)
    count, start = 0, time.perf_counter()
    while count == 0 or time.perf_counter() - start < seconds:
        next(steps)
        count += 1
    print(count * config.train.batch_size / (time.perf_counter() - start))


if __name__ == "__main__":
    main()
