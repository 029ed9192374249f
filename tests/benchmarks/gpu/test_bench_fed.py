"""What feeds a card, and how many runs share one."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from repro.config.schema import PHOTOGRAPHS, RunConfig
from repro.data.from_files import FileSplit, file_split
from repro.data.photographs import load_photograph
from repro.data.views.kinds import to_pixels
from repro.harness.local.card import Mps
from tests.benchmarks.measure import (
    DEVICE,
    FULL,
    fastest,
    note,
    one_line,
    use_threads,
    wait_for_device,
)
from tests.benchmarks.test_bench_step import EPOCH, random_views, stepper, trainer_of, vit_config

PICTURES = 192 if FULL else 4
SIZE = (500, 375)  # ImageNet's usual
SECONDS = 4.0 if FULL else 0.0
# Runs side by side, each having its turns on the card, and then through MPS.
PACKED = {"gpu": (1, 8, 16), "laptop": (1, 8, 16, 32)} if FULL else {"laptop": (1, 2)}
PACKED_BY_MPS = {"gpu": (8, 16), "laptop": (8, 32)}


def jpegs(folder: Path) -> list[Path]:
    """Parts of the bundled photographs, each another one, as files."""
    random = torch.Generator().manual_seed(0)
    whole = [load_photograph(name) for name in PHOTOGRAPHS]
    files = []
    for number in range(PICTURES):
        pixels = whole[number % len(whole)]
        _, height, width = pixels.shape
        high, wide = height * 3 // 4, width * 3 // 4
        top = int(torch.randint(height - high + 1, (), generator=random))
        left = int(torch.randint(width - wide + 1, (), generator=random))
        part = pixels[:, top : top + high, left : left + wide].permute(1, 2, 0).numpy()
        file = folder / f"{number}.jpg"
        resized = Image.fromarray(part).resize(SIZE, Image.Resampling.BICUBIC)
        resized.save(file, "JPEG", quality=92)
        files.append(file)
    return files


def split_of(files: list[Path], config: RunConfig) -> FileSplit:
    def open_(place: int) -> Image.Image:
        return Image.open(io.BytesIO(files[place].read_bytes()))

    labels = [0] * len(files)
    return file_split(open_, lambda i: str(files[i]), labels, config.data, config.resources)[0]


def test_jpegs_into_a_step(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """A batch decoded by all cores, on its way to the card and through a step of ViT-S/16."""
    use_threads()
    config = vit_config("vit_small", "bf16")
    workers = len(os.sched_getaffinity(0)) if FULL else 0
    config.resources.data_workers = workers
    split, batch = split_of(jpegs(tmp_path), config), config.train.batch_size
    trainer, labels = trainer_of(config), torch.zeros(batch, dtype=torch.long)
    random = torch.Generator().manual_seed(0)
    order = torch.randint(len(split.labels_N), (1000 if FULL else 3, batch), generator=random)
    warm_up = 2 * workers + 1  # batches that were made while nobody asked for them

    def seconds_a_batch(use: Callable[[list[Tensor]], object]) -> float:
        count, start = -warm_up, 0.0
        for views in split.view_batches(list(order), config.views, 0, 0):
            use(views)
            count += 1
            if count <= 0:
                wait_for_device()
                start = time.perf_counter()
            elif time.perf_counter() - start >= SECONDS:
                break
        wait_for_device()
        return (time.perf_counter() - start) / max(1, count)

    def to_card(views: list[Tensor]) -> list[Tensor]:
        return [to_pixels(view.to(DEVICE, non_blocking=True)) for view in views]

    loading = seconds_a_batch(to_card)
    found: dict[str, Any] = {
        "title": f"a batch of JPEGs to the device, {workers} processes",
        "seconds": {"ours": loading},
        "images_per_second": batch / loading,
    }
    note("test_jpegs_to_the_device", found)
    alone = fastest({"step": stepper(trainer, random_views(config))}, 3)["step"]
    training = seconds_a_batch(lambda views: trainer._step(views, labels, EPOCH))
    benchmark.extra_info.update(
        title=f"ViT-S/16 from JPEGs, {workers} processes",
        seconds={"ours": training, "limit": alone},
        images_per_second=batch / training,
        limit="the step alone",
        of_limit=alone / training,
    )
    benchmark.pedantic(lambda: None, rounds=1)


@pytest.fixture(scope="module")
def mps() -> Iterator[Mps | None]:
    """None on a CPU and where it does not work."""
    if DEVICE.type == "cpu":
        yield None
        return
    try:
        working = Mps()
    except (OSError, subprocess.SubprocessError) as error:
        note("MPS", {"error": one_line(error)})
        yield None
        return
    yield working
    working.close()


@pytest.mark.parametrize("scale", PACKED)
def test_runs_share_a_card(benchmark: BenchmarkFixture, mps: Mps | None, scale: str) -> None:
    """Of each count a line, as soon as it is there."""
    rates: dict[str, float] = {}

    def measure(counts: Sequence[int], how: str, environment: Mapping[str, str]) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.gpu.packed", scale, *map(str, counts)]
        whole = os.environ | environment
        with subprocess.Popen(command, env=whole, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                told = json.loads(line)
                together = told["images_per_second"]
                what = f"{told['runs']} runs side by side{how}" if told["runs"] > 1 else "one run"
                rates[what] = together
                alone = rates["one run"]
                found = {
                    "title": f"{scale} scale: 1,000 images, {what}",
                    "seconds": {"ours": 1000 / together, "baseline": 1000 / alone},
                    "baseline": "one run alone",
                    "speedup": together / alone,
                    "images_per_second": together,
                    "seconds_with_start": told["whole"],
                }
                note(f"test_runs_share_a_card[{scale}], {what}", found)
        assert process.returncode == 0

    measure(PACKED[scale], "", {})
    if mps is not None:
        measure(PACKED_BY_MPS[scale], " through MPS", mps.environment)
    benchmark.extra_info.update(side_by_side=rates)
    benchmark.pedantic(lambda: None, rounds=1)
