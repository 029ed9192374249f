"""How long a person waits before anything happens, what resuming takes, what the harness adds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
from pytest_benchmark.fixture import BenchmarkFixture

from repro.config.compose import compose
from repro.config.identity import run_id
from repro.data.datasets import open_dataset
from repro.harness.runs import checkpoint
from repro.harness.runs.store import create_run
from repro.harness.worker.journal import Journal
from repro.train import Event, Trainer
from tests.benchmarks.measure import (
    EXPERIMENTS,
    FULL,
    Against,
    compare,
    config_of,
    fastest,
    use_threads,
)
from tests.benchmarks.test_bench_step import random_views, stepper, trainer_of, vit_config


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
