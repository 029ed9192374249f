"""What a training step costs, and what share of it goes to diagnostics and to the harness.

Each benchmark stores ratios in `extra_info`, measured in the same process on the same tensors.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from repro.compose import compose
from repro.config import RunConfig
from repro.data.datasets import open_dataset
from repro.dino.diagnostics import feature_statistics, output_statistics, to_floats
from repro.dino.teachers import relative_distance
from repro.dino.train import Event, Trainer
from repro.harness.store import create_run
from repro.harness.worker import Journal

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture
def config() -> RunConfig:
    torch.set_num_threads(1)
    return compose(EXPERIMENTS, "laptop", {"data.train_tiles": 64, "data.test_tiles": 4})


def laptop_trainer(config: RunConfig) -> Trainer:
    return Trainer(config, open_dataset(config.data, ""), torch.device("cpu"))


def fastest(call: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def test_a_laptop_training_step_and_the_share_of_its_diagnostics(
    benchmark: BenchmarkFixture, config: RunConfig
) -> None:
    trainer = laptop_trainer(config)
    steps = (event for event in trainer.run() if event["kind"] == "step")
    for _ in range(2):
        next(steps)
    event = benchmark.pedantic(next, args=(steps,), rounds=10)

    batch, prototypes = config.train.batch_size, config.head.prototypes
    targets = torch.randn(2, batch, prototypes).softmax(-1)
    student = torch.randn(2 + config.views.local_number, batch, prototypes).log_softmax(-1)
    features = torch.randn(2 * batch, config.model.dim)

    def diagnostics() -> dict[str, float]:
        scalars = output_statistics(targets, targets.log(), student)
        scalars |= feature_statistics(features)
        scalars["student_teacher_distance"] = relative_distance(trainer.teacher, trainer.student)
        return to_floats(scalars)

    diagnostics()
    seconds = fastest(diagnostics, rounds=20)
    step = batch / float(event["images_per_second"])
    benchmark.extra_info["diagnostics_share_of_step"] = seconds / step
    benchmark.extra_info["images_per_second"] = float(event["images_per_second"])


def test_writing_a_steps_metrics_and_its_share_of_the_step(
    benchmark: BenchmarkFixture, config: RunConfig, tmp_path: Path
) -> None:
    trainer = laptop_trainer(config)
    events: list[Event] = [event for event in _first_steps(trainer, 3) if event["kind"] == "step"]
    folder = create_run(tmp_path, "bench", config)
    with Journal(folder, trainer) as journal:
        benchmark(journal.see, events[-1])
        seconds = fastest(lambda: [journal.see(events[-1]) for _ in range(100)], 5) / 100
        step = config.train.batch_size / float(events[-1]["images_per_second"])

        def flush_a_second() -> None:
            """What is written and synced at most once a second: the lines of that second."""
            journal.lines = [events[-1]] * max(1, round(1 / step))
            journal.flush()

        flush = fastest(flush_a_second, 20)
    benchmark.extra_info["harness_share_of_step"] = seconds / step + flush / 1.0


def _first_steps(trainer: Trainer, count: int) -> list[Event]:
    events = []
    for event in trainer.run():
        events.append(event)
        if event["step"] == count:
            return events
    return events
