"""How long a person waits before anything happens, what resuming takes, what the harness adds.

And what it costs that nothing read is believed unchecked, in processor time, which no neighbour
spoils: of a laptop run the checks of its metric lines, the digests of its images and of its files;
of a resume of ViT-S the CRC-32 of every tensor of its checkpoint.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from statistics import median

import torch
from pytest_benchmark.fixture import BenchmarkFixture

from repro.config.compose import compose
from repro.config.identity import run_id
from repro.data.datasets import open_dataset
from repro.files import json_line, with_digest
from repro.harness.local.pool import Slot, start_worker
from repro.harness.local.warm import WarmProcess
from repro.harness.runs import checkpoint
from repro.harness.runs.records import read_records
from repro.harness.runs.store import RunFolder, create_run
from repro.harness.worker.journal import Journal
from repro.harness.worker.run import DONE
from repro.lines import checked
from repro.train import Event, Trainer
from tests.benchmarks.measure import (
    DEVICE,
    EXPERIMENTS,
    FULL,
    Against,
    compare,
    config_of,
    fastest,
    use_threads,
)
from tests.benchmarks.test_bench_step import random_views, stepper, trainer_of, vit_config

RECORDS = EXPERIMENTS.parent / "results" / "published" / "laptop" / "records.jsonl"
LINE = {"kind": "step", "step": 640, "epoch": 9.5} | {f"metric_{n}": n / 7 for n in range(20)}


def test_help(benchmark: BenchmarkFixture) -> None:
    def start(*words: str) -> str:
        command = [sys.executable, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert "repro" in start("-m", "repro.cli", "--help")
    compare(
        benchmark, "repro --help", lambda: start("-m", "repro.cli", "--help"),
        limit=Against("starting Python", lambda: start("-c", "")),
    )  # fmt: skip


def test_a_worker_before_its_first_step(benchmark: BenchmarkFixture) -> None:
    every = "repro.data.datasets, repro.data.photographs, repro.train"
    modules = every if FULL else "repro.config"  # seconds each; make test imports them anyway
    imports = [sys.executable, "-c", f"import {modules}"]
    bare = [sys.executable, "-c", "import torch, torchvision" if FULL else ""]
    compare(
        benchmark, "importing the trainer", lambda: subprocess.run(imports, check=True),
        limit=Against("importing torch and torchvision", lambda: subprocess.run(bare, check=True)),
        rounds=3,
    )  # fmt: skip


if FULL:  # imports torch twice

    def test_a_run_of_a_grid(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
        """From the start of its worker to its result: what torch's import is of a tiny run."""
        seeds = count()
        environment = Slot(threads=1, gpu=None).environment()
        warm = WarmProcess(environment)
        while not warm.is_ready():
            time.sleep(0.1)

        def folder() -> RunFolder:
            seed = next(seeds)
            return create_run(tmp_path, f"run{seed}", compose(EXPERIMENTS, "smoke", {"seed": seed}))

        def fork() -> None:
            run = folder()
            assert warm.start(run.path, environment, run.path / "log.txt")[0].wait() == DONE

        def start() -> None:
            run = folder()
            assert start_worker(run, environment, run.path / "log.txt")[0].wait() == DONE

        compare(
            benchmark, "a smoke run of a grid, forked", fork,
            baseline=Against("in a process of its own", start), rounds=3,
        )  # fmt: skip
        warm.close()


def test_composing_and_hashing_a_config(benchmark: BenchmarkFixture) -> None:
    overrides = {"teacher.kind": "student_copy"}

    def identity() -> str:
        return run_id(compose(EXPERIMENTS, "paper", overrides))

    assert len(identity()) == 10
    compare(benchmark, "composing and hashing a config", identity)


def test_resuming_vit_s(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    use_threads()
    config = vit_config("vit_small", "fp32")
    trainer = trainer_of(config)
    stepper(trainer, random_views(config))()  # the optimiser has its moments after a step
    file = checkpoint.save(tmp_path, trainer.state_dict())

    def resume() -> None:
        state = checkpoint.load(tmp_path)
        assert state is not None
        trainer_of(config).load_state_dict(state)

    compare(
        benchmark, "resuming ViT-S: build, read, load", resume,
        limit=Against("reading the checkpoint", lambda: torch.load(file, weights_only=True)),
        rounds=3, megabytes=file.stat().st_size / 1e6,
    )  # fmt: skip


def test_saving_vit_s(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    config = vit_config("vit_small", "fp32")
    trainer = trainer_of(config)
    stepper(trainer, random_views(config))()
    state = trainer.state_dict()
    compare(benchmark, "saving ViT-S", lambda: checkpoint.save(tmp_path, state), rounds=3)


def test_writing_a_steps_metrics(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """The harness's share of a laptop step: a line each step, written out once a second."""
    use_threads(1)
    tiles = (
        {"data.train_tiles": 64, "data.test_tiles": 4}
        if FULL
        else {"data.train_tiles": 16, "data.test_tiles": 2}
    )
    config = config_of("laptop", {**tiles, "model.depth": 1}, tiles)
    trainer = Trainer(config, open_dataset(config.data, ""), torch.device("cpu"))
    events: list[Event] = []
    for event in trainer.run():
        events.append(event)
        if event["step"] == 3:
            break
    folder = create_run(tmp_path, "bench", config)
    with Journal(folder, trainer, lambda _: None, 0) as journal:
        line = compare(
            benchmark, "a step's line in the journal, 100 times",
            lambda: [journal.see(events[-1]) for _ in range(100)],
        )["ours"] / 100  # fmt: skip
        step = config.train.batch_size / float(events[-1]["images_per_second"])

        def write_out() -> None:
            journal.lines = [events[-1]] * max(1, round(1 / step))
            journal.flush()

        writing = fastest({"flush": write_out}, 10)["flush"]
    benchmark.extra_info["share_of_step"] = line / step + writing / 1.0


def test_runs_side_by_side(benchmark: BenchmarkFixture) -> None:
    """How `repro submit` uses a laptop: a run a core, against one run on all cores."""
    cores = len(os.sched_getaffinity(0)) if FULL else 1

    def rate(runs: int, threads: int) -> float:
        seconds = "10" if FULL else "0"
        command = [sys.executable, "-m", "tests.benchmarks.laptop_rate", seconds, str(threads)]
        started = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(runs)]
        return sum(float(process.communicate()[0]) for process in started)

    together, alone = rate(cores, 1), rate(1, cores)
    benchmark.pedantic(lambda: None, rounds=1)
    benchmark.extra_info.update(
        title=f"laptop scale: 1,000 images, {cores} runs side by side",
        seconds={"ours": 1000 / together, "baseline": 1000 / alone},
        baseline="one run on all cores",
        speedup=together / alone,
        images_per_second=together,
    )


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
        "images": seconds(dataset.digests),
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
