"""What runs will cost, before they start: their arithmetic over the rate of finished ones.

The work of a run is the floating-point operations of its training: backbone and head forward and
backward (three forward passes) of the student on all views, one forward of the teacher on the
global views. Rates come from finished runs of the same scale; where there is none, from the
benchmark of a training step (`make bench`, `make bench-gpu`); without that, the paper scale has the
times of Table 8: hours on 16 V100 GPUs for eight of its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from statistics import median
from typing import Annotated

import msgspec
from msgspec import Meta

from repro.config.schema import GLOBAL_VIEWS, HeadConfig, ModelConfig, OptimiserName, RunConfig
from repro.errors import UserError
from repro.harness.experiments.experiment import Row, load, row_config
from repro.harness.experiments.folders import benchmarks_in, published_in
from repro.harness.runs.environment import Hardware
from repro.harness.runs.published import readable
from repro.harness.runs.records import EarlyEnd, Record, early_end, environment_of
from repro.harness.runs.store import RunFolder, find_runs
from repro.kept import Answers, digest
from repro.terminal import duration

IMAGES = {
    "imagenet": 1_281_167,
    "gldv2": 1_200_000,
}  # training images of data sets that need not be opened to know
TABLE_8_GPUS = 16  # "two 8-GPU machines"
TABLE_8 = {"time_h_100ep": "100ep", "time_h_300ep": "300ep"}
CHECKPOINTS = 2  # last and previous
MOST_UNKNOWN = 50  # runs whose configs `status` reads, at 20 ms each, to tell what is left


@dataclass(frozen=True)
class Cost:
    """Of all runs that are still to do; each training process counts."""

    cpu_hours: float  # hours of one core; 0 where only GPU times are known
    gpu_hours: float  # hours of one GPU; 0 for runs without
    basis: str  # what the estimate rests on
    disk: int  # bytes of their folders


@dataclass(frozen=True)
class Rates:
    """Operations an hour, of one core and of one GPU; a missing one is 0."""

    core: float
    gpu: float
    basis: str


def estimate(todo: Mapping[str, RunConfig], scale: str, results: Path) -> Cost | None:
    """The cost of `todo`, configs by run id; None where nothing comparable is known, or nothing is
    there to count with.
    """
    try:
        works = [_work_of(name, partial(work, todo[name])) for name in todo]
    except ImportError:  # torch, which a login node may lack
        return None
    space = sum(map(disk, todo.values()))
    rates = _rates_of_finished(scale, results) or _rates_of_benchmarks(scale, results)
    if rates is None and scale == "paper":
        rates = _rates_of_table_8()
    if rates is None or None in works:
        return None
    total = sum(w for w in works if w is not None)
    cpu = total / rates.core if rates.core else 0.0
    gpu = total / rates.gpu if rates.gpu else 0.0
    return Cost(cpu, gpu, rates.basis, space)


def hours_left(unfinished: Sequence[tuple[RunFolder, str, float]], results: Path) -> str:
    """In words, what (folder, scale, share still to do) will take; empty where nothing is known."""
    unknown = sum(f"run {folder.id}" not in answers() for folder, _, _ in unfinished)
    if unknown > MOST_UNKNOWN:
        return ""
    hours: dict[str, float] = {}
    for scale in {scale for _, scale, _ in unfinished}:
        rates = _rates_of_finished(scale, results) or _rates_of_benchmarks(scale, results)
        if rates is None:
            return ""
        for folder, its_scale, share in unfinished:
            if its_scale == scale:
                done = _work_of_run(folder.id, folder.config) or 0.0
                unit, rate = ("GPU", rates.gpu) if rates.gpu else ("core", rates.core)
                hours[unit] = hours.get(unit, 0.0) + share * done / rate
    return " and ".join(f"about {duration(n)} of {unit}s left" for unit, n in hours.items())


def work(config: RunConfig) -> float | None:
    """Floating-point operations of a training; None where the number of images is not known."""
    if config.data.made_here:
        images = config.data.images_made
    elif config.data.name in IMAGES:
        images = IMAGES[config.data.name]
    else:
        return None
    return float(config.train.epochs * images * work_of_an_image(config))


def work_of_an_image(config: RunConfig) -> int:
    """Floating-point operations that one image costs in a training step."""
    views = config.views

    def forward(size: int) -> int:
        backbone, dim, _ = _backbone(config.model, views.global_size, size)
        return backbone + _head(dim, config.head)[0]

    taught = GLOBAL_VIEWS * forward(views.global_size)
    local = views.local_number * forward(views.local_size) if views.local_number else 0
    return 3 * (taught + local) + taught


def disk(config: RunConfig) -> int:
    """Bytes of a run's folder: two checkpoints with student, teacher and the optimiser's state."""
    size = config.views.global_size
    _, dim, backbone = _backbone(config.model, size, size)
    copies = 4 if config.optim.name is OptimiserName.adamw else 3
    return CHECKPOINTS * 4 * copies * (backbone + _head(dim, config.head)[1])


def _backbone(model: ModelConfig, global_size: int, size: int) -> tuple[int, int, int]:
    """Of a view of `size`: operations, feature width, parameters; counted without any data."""

    def count() -> tuple[int, int, int]:
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        from repro.dino.backbones import build_backbone, feature_dim

        with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
            backbone = build_backbone(model, global_size).eval()
            backbone(torch.empty(1, 3, size, size))
        weights = sum(p.numel() for p in backbone.parameters())
        return int(counter.get_total_flops()), feature_dim(backbone), weights

    key = f"backbone {model} {global_size} {size}"
    return answers().get(key, tuple[int, int, int], count)


def _head(dim: int, head: HeadConfig) -> tuple[int, int]:
    """Operations of one view's features through the head, and its parameters."""

    def count() -> tuple[int, int]:
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        from repro.dino.heads import DinoHead

        with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
            layers = DinoHead(dim, head).eval()
            layers(torch.empty(1, dim))
        return int(counter.get_total_flops()), sum(p.numel() for p in layers.parameters())

    return answers().get(f"head {dim} {head}", tuple[int, int], count)


@cache
def answers() -> Answers:
    """Counting operations and bytes takes seconds, and they are those of the networks' code."""
    return Answers("costs", digest([], ("dino", "harness/plan/cost.py"), ("torch", "timm")))


def _rates_of_finished(scale: str, results: Path) -> Rates | None:
    """Medians over the finished runs of this scale known here, published or not."""
    cores: list[float] = []
    gpus: list[float] = []
    for done, seconds, hardware in _finished(scale, results):
        if done and seconds:
            cards = (hardware.ranks or 1) / (hardware.runs_a_gpu or 1)
            processes = cards if hardware.gpu else hardware.threads
            (gpus if hardware.gpu else cores).append(3600 * done / (seconds * processes))
    if not cores and not gpus:
        return None
    basis = f"{len(cores) + len(gpus)} finished"
    return Rates(median(cores) if cores else 0.0, median(gpus) if gpus else 0.0, basis)


def _finished(scale: str, results: Path) -> Iterable[tuple[float | None, float | None, Hardware]]:
    """(work, wall seconds, hardware) of each; of a run that ended early what it has done."""
    seen = set()
    published = published_in(results) / scale / "records.jsonl"
    for record in readable(published):
        seen.add(record.id)
        if record.env.hardware is None:
            continue
        config = partial(_published_config, record, published)
        with suppress(UserError):  # a config of other code
            done = _work_done(_work_of_run(record.id, config), record.stopped_on)
            yield done, record.times.wall_seconds, record.env.hardware
    for folder in find_runs(results / "runs"):
        with suppress(UserError):  # a damaged folder tells nothing; others do
            result, env = folder.result(), environment_of(folder)
            if folder.id in seen or result is None or env.hardware is None:
                continue
            if folder.read_run().scale == scale:
                early = early_end(result, str(folder.path))
                done = _work_done(_work_of_run(folder.id, folder.config), early)
                yield done, result.get("wall_seconds"), env.hardware


def _work_done(work: float | None, early: EarlyEnd | None) -> float | None:
    return work if work is None or early is None else work * early.step / early.of


def _published_config(record: Record, file: Path) -> RunConfig:
    from repro.config.compose import from_plain  # with Hydra, which takes longer than a status

    return from_plain(record.config, f"{file}: {record.id}")


def _work_of_run(name: str, config: Callable[[], RunConfig]) -> float | None:
    return _work_of(name, lambda: work(config()))


def _work_of(name: str, count: Callable[[], float | None]) -> float | None:
    return answers().get(f"run {name}", float | None, count)


class _Measured(msgspec.Struct):
    """What a benchmark may say of the work that is done in a second, at a scale."""

    scale: str = ""
    work_rate: Annotated[float, Meta(gt=0)] | None = None


class _Suite(msgspec.Struct):
    benchmarks: list[_Measured]


def _rates_of_benchmarks(scale: str, results: Path) -> Rates | None:
    """From the training steps of the benchmark suite, the fastest of each device.

    Only a GPU's tell of the paper scale: nobody trains it on a CPU. Of the other scales those of
    their own do, or else the laptop's.
    """
    rates = {"cpu": 0.0, "cuda": 0.0}
    for device in rates:
        try:
            content = (benchmarks_in(results) / f"{device}.json").read_bytes()
            suite = msgspec.json.decode(content, type=_Suite)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):  # absent, or no such suite
            continue
        if device == "cpu" and scale == "paper":
            continue
        found: dict[str, list[float]] = {}
        for entry in suite.benchmarks:
            if entry.work_rate is not None:
                found.setdefault(entry.scale, []).append(3600 * entry.work_rate)
        others = [] if scale == "paper" else found.get("laptop", [])
        rates[device] = max(found.get(scale) or others, default=0.0)
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
