"""What runs will cost, before they start: their arithmetic over the rate of finished ones.

The work of a run is the floating-point operations of its training: backbone and head forward and
backward (three forward passes) of the student on all views, one forward of the teacher on the
global views. Rates come from finished runs of the same scale; where there is none, from the
benchmark of a training step (`make bench`, `make bench-gpu`); without that, the paper scale has the
times of Table 8: hours on 16 V100 GPUs for eight of its rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from repro.checks import PHOTOGRAPHS
from repro.config import DataKind, HeadConfig, ModelConfig, RunConfig
from repro.harness.files import read_json
from repro.harness.spec import Row, load, row_config
from repro.harness.store import find_runs, read_records

IMAGES = {"imagenet": 1_281_167}  # training images of data sets that need not be opened to know
TABLE_8_GPUS = 16  # "two 8-GPU machines"
TABLE_8 = {"time_h_100ep": "100ep", "time_h_300ep": "300ep"}
GLOBAL_VIEWS = 2


@dataclass(frozen=True)
class Cost:
    """Of all runs that are still to do; each training process counts."""

    cpu_hours: float  # hours of one core; 0 where only GPU times are known
    gpu_hours: float  # hours of one GPU; 0 for runs without
    basis: str  # what the estimate rests on


@dataclass(frozen=True)
class Rates:
    """Operations an hour, of one core and of one GPU; a missing one is 0."""

    core: float
    gpu: float
    basis: str


def estimate(todo: Sequence[RunConfig], scale: str, results: Path) -> Cost | None:
    """The cost of `todo`; None where nothing comparable is known."""
    works = [work(config) for config in todo]
    rates = _rates_of_finished(scale, results) or _rates_of_benchmarks(scale, results)
    if rates is None and scale == "paper":
        rates = _rates_of_table_8()
    if rates is None or None in works:
        return None
    total = sum(w for w in works if w is not None)
    cpu = total / rates.core if rates.core else 0.0
    gpu = total / rates.gpu if rates.gpu else 0.0
    return Cost(cpu, gpu, rates.basis)


def work(config: RunConfig) -> float | None:
    """Floating-point operations of a training; None where the number of images is not known."""
    if config.data.kind is DataKind.photographs:
        images = PHOTOGRAPHS * config.data.train_tiles
    elif config.data.name in IMAGES:
        images = IMAGES[config.data.name]
    else:
        return None
    return float(config.train.epochs * images * work_of_an_image(config))


def work_of_an_image(config: RunConfig) -> int:
    """Floating-point operations that one image costs in a training step."""
    model, views = tuple(vars(config.model).items()), config.views

    def forward(size: int) -> int:
        backbone, dim = _backbone(model, views.global_size, size)
        return backbone + _head(dim, tuple(vars(config.head).items()))

    taught = GLOBAL_VIEWS * forward(views.global_size)
    local = views.local_number * forward(views.local_size) if views.local_number else 0
    return 3 * (taught + local) + taught


@cache
def _backbone(model: tuple[Any, ...], global_size: int, size: int) -> tuple[int, int]:
    """Operations of one view of `size`, counted by torch without any data, and feature width."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from repro.dino.backbones import build_backbone, feature_dim

    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        backbone = build_backbone(ModelConfig(**dict(model)), global_size).eval()
        backbone(torch.empty(1, 3, size, size))
    return int(counter.get_total_flops()), feature_dim(backbone)


@cache
def _head(dim: int, head: tuple[Any, ...]) -> int:
    """Operations of one view's features through the head."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from repro.dino.heads import DinoHead

    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        DinoHead(dim, HeadConfig(**dict(head))).eval()(torch.empty(1, dim))
    return int(counter.get_total_flops())


def _rates_of_finished(scale: str, results: Path) -> Rates | None:
    """Medians over the finished runs of this scale known here, published or not."""
    cores: list[float] = []
    gpus: list[float] = []
    for config, seconds, hardware in _finished(scale, results):
        done = work(config)
        if done and seconds:
            processes = hardware.get("ranks", 1) if hardware["gpu"] else hardware["threads"]
            (gpus if hardware["gpu"] else cores).append(3600 * done / (seconds * processes))
    if not cores and not gpus:
        return None
    basis = f"{len(cores) + len(gpus)} finished"
    return Rates(median(cores) if cores else 0.0, median(gpus) if gpus else 0.0, basis)


def _finished(scale: str, results: Path) -> Iterable[tuple[RunConfig, float, dict[str, Any]]]:
    """(config, wall seconds, hardware) of each."""
    from repro.compose import from_plain

    seen = set()
    published = results / "published" / scale / "records.jsonl"
    for record in read_records(published):
        seen.add(record["id"])
        config = from_plain(record["config"], f"{published}: {record['id']}")
        yield config, record["times"]["wall_seconds"], record["env"]["hardware"]
    for folder in find_runs(results / "runs"):
        result, env = folder.result(), read_json(folder.path / "env.json")
        if folder.id in seen or result is None or env is None:
            continue
        if folder.read_run().get("scale") == scale:
            yield folder.config(), result["wall_seconds"], env["hardware"]


def _rates_of_benchmarks(scale: str, results: Path) -> Rates | None:
    """From the training steps of the benchmark suite, the fastest of each device.

    Only a GPU's tell of the paper scale: nobody trains it on a CPU.
    """
    rates = {"cpu": 0.0, "cuda": 0.0}
    for device in rates:
        try:
            measured = json.loads((results / "benchmarks" / f"{device}.json").read_text())
        except (OSError, ValueError):
            continue
        for entry in measured["benchmarks"]:
            kind = "paper" if scale == "paper" else "laptop"
            if entry.get("scale") == kind and not (device == "cpu" and kind == "paper"):
                rates[device] = max(rates[device], 3600 * entry["work_rate"])
    if not any(rates.values()):
        return None
    return Rates(rates["cpu"], rates["cuda"], "the benchmark of a training step")


def _rates_of_table_8() -> Rates:
    table = load("T8")

    def rate(row: Row, metric: str, variant: str) -> float:
        done = work(row_config(table, row, "paper", 0, variant))
        assert done is not None, "Table 8 trains on ImageNet"
        return done / (row.reported[metric] * TABLE_8_GPUS)

    rates = [rate(row, *cell) for row in table.rows for cell in TABLE_8.items()]
    return Rates(0.0, median(rates), "the times of Table 8 on V100 GPUs")
