"""`python -m tests.benchmarks.gpu.packed SCALE COUNT...`: runs side by side on one card.

Prints a line of JSON for every count: images a second of all of them together, in processes forked
from one that imported torch and never touched the card, as the pool of `repro submit` starts them.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier

os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # a call of CUDA survives no fork

from tests.benchmarks.gpu.test_bench_card import trainer_on_tiles, views_of
from tests.benchmarks.measure import FULL, config_of, use_threads, wait_for_device
from tests.benchmarks.test_bench_step import EPOCH, SMALL

WARM_UP, STEPS = (3, 30) if FULL else (1, 2)
PATIENCE = 60  # seconds that the slowest may take to be ready
FORK = multiprocessing.get_context("fork")
# Pictures do not matter to speed, and few of them are made sooner.
TILES = {"data.train_tiles": 32, "data.test_tiles": 2}


def side_by_side(scale: str, count: int) -> float:
    """Images a second, from the first to begin to the last to end.

    Raises:
        RuntimeError: one of them failed.
    """
    barrier = FORK.Barrier(count)
    started = []
    for _ in range(count):
        ours, theirs = FORK.Pipe(duplex=False)
        process = FORK.Process(target=_one, args=(scale, barrier, theirs), daemon=True)
        process.start()
        theirs.close()
        started.append((process, ours))
    spans = []
    try:
        for process, ours in started:
            if not ours.poll(2 * PATIENCE):
                raise RuntimeError(f"one of {count} processes does not answer")
            spans.append(ours.recv())
            process.join()
    except EOFError:
        raise RuntimeError(f"one of {count} processes failed") from None
    finally:
        for process, _ in started:
            process.kill()
    images = spans[0][2] * STEPS * count
    seconds = max(end for _, end, _ in spans) - min(start for start, _, _ in spans)
    return float(images / seconds)


def _one(scale: str, barrier: Barrier, answer: Connection) -> None:
    use_threads(1)
    config = config_of(scale, {**SMALL, **TILES, "model.dim": 32}, TILES)
    trainer = trainer_on_tiles(config)
    make = views_of(trainer)
    labels = trainer.dataset.train.labels_N[: config.train.batch_size]
    for _ in range(WARM_UP):
        trainer._step(make(), labels, EPOCH)
    wait_for_device()
    barrier.wait(PATIENCE)
    start = time.perf_counter()  # one clock for all processes
    for _ in range(STEPS):
        trainer._step(make(), labels, EPOCH)
    wait_for_device()
    answer.send((start, time.perf_counter(), config.train.batch_size))


def main() -> None:
    scale, counts = sys.argv[1], map(int, sys.argv[2:])
    for count in counts:
        start = time.perf_counter()
        rate = side_by_side(scale, count)
        whole = time.perf_counter() - start
        print(json.dumps({"runs": count, "images_per_second": rate, "whole": whole}), flush=True)


if __name__ == "__main__":
    main()
