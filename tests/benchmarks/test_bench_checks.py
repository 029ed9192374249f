"""What it costs that nothing read is believed unchecked: processor time, which no neighbour spoils.

Of a laptop run: the checks of its metric lines, the digests of its images and of its files. Of a
resume of ViT-S: the CRC-32 of every tensor of its checkpoint.
"""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

from pytest_benchmark.fixture import BenchmarkFixture

from repro.config.compose import compose
from repro.data.datasets import open_dataset
from repro.files import json_line, with_digest
from repro.harness.runs import checkpoint
from repro.harness.runs.records import read_records
from repro.harness.worker.resume import digests
from repro.lines import checked
from tests.benchmarks.measure import DEVICE, EXPERIMENTS, FULL
from tests.benchmarks.test_bench_step import random_views, stepper, trainer_of, vit_config

RECORDS = EXPERIMENTS.parent / "results" / "published" / "laptop" / "records.jsonl"
LINE = {"kind": "step", "step": 640, "epoch": 9.5} | {f"metric_{n}": n / 7 for n in range(20)}


def seconds(call: Callable[[], object], rounds: int = 3) -> float:
    """Of processor time, the least of some rounds."""
    spent = []
    for _ in range(rounds):
        begun = time.process_time()
        call()
        spent.append(time.process_time() - begun)
    return min(spent)


def test_the_checks_of_a_laptop_run(benchmark: BenchmarkFixture) -> None:
    runs = [run for run in read_records(RECORDS) if run.slug.startswith("F7-both")]
    steps = max(run.counts.steps or 0 for run in runs)
    whole = median(run.times.wall_seconds or 0.0 for run in runs)
    config = compose(EXPERIMENTS, "laptop" if FULL else "smoke")
    dataset = open_dataset(config.data, config.paths.data, config.resources, DEVICE)
    number = steps if FULL else 10

    def lines(write: Callable[[dict[str, object]], str]) -> Callable[[], object]:
        return lambda: [write(LINE) for _ in range(number)]

    spent = {
        "lines": seconds(lines(checked)) - seconds(lines(json_line)),
        "images": seconds(lambda: digests(dataset)),
        "files": seconds(lambda: with_digest({"metrics": LINE}, "0123456789")),
    }
    total = sum(spent.values())
    assert total > 0
    benchmark.extra_info.update(spent | {"run": whole, "share": total / whole})
    benchmark.pedantic(lines(checked), rounds=1)
    print(f"checks of a laptop run: {total:.3f} s of {whole:.0f} s, {total / whole:.3%}: {spent}")


def test_the_checks_of_a_resume_of_vit_s(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    config = vit_config("vit_small", "fp32")
    trainer = trainer_of(config)
    stepper(trainer, random_views(config))()  # the optimiser has its moments after a step
    file = checkpoint.save(tmp_path, trainer.state_dict())

    def check() -> None:
        with zipfile.ZipFile(file) as records:
            assert records.testzip() is None

    spent, size = seconds(check), file.stat().st_size
    benchmark.extra_info.update({"checks": spent, "bytes": size})
    benchmark.pedantic(check, rounds=1)
    print(f"checks of a resume of ViT-S: {spent:.2f} s for {size / 1e6:.0f} MB")
