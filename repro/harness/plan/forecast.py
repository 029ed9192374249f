"""What a plan means for a place: jobs, hours, wall-clock, disk. Starts nothing."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from repro.config.schema import RunConfig
from repro.hardware import available_cores, visible_gpus
from repro.harness.experiments.clusters import Cluster, LocalCluster, SlurmCluster
from repro.harness.plan.obstacles import remarks
from repro.harness.plan.plan import Plan
from repro.harness.plan.room import workers_here


@dataclass(frozen=True)
class Forecast:
    """`hours` (of GPUs or cores) and `wall_hours` are None where nothing comparable is known;
    `remarks` say what would keep the runs from ending well.
    """

    place: str
    jobs: int
    at_a_time: int  # runs
    hours: float | None
    unit: str  # GPU or core
    wall_hours: float | None
    disk_gb: float | None
    free_gb: float
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Room:
    """How many runs a place trains at a time, and the GPUs or cores they then use."""

    at_a_time: int
    on_gpus: bool
    units: float


def forecast(planned: Plan, cluster: Cluster, results: Path, workers: int | None) -> Forecast:
    """For what is still to do of `planned`; `workers` as `repro submit` takes it.

    Raises:
        UserError: a profile that does not suit the runs.
    """
    configs = [cluster.placed(run.config) for run in planned.todo]
    ranks = Counter(config.resources.ranks for config in configs)
    if isinstance(cluster, SlurmCluster):
        room = _room_on_slurm(cluster, ranks)
        jobs = _jobs(cluster, ranks, len(planned.to_evaluate))
        place = "SLURM" + (f", partition {cluster.partition}" if cluster.partition else "")
    else:
        room = _room_here(cluster, configs, workers)
        jobs = ranks.total()
        place = "this machine"
    cost = planned.cost
    hours = wall = None
    unit = "GPU" if room.on_gpus else "core"
    if cost is not None and ranks:
        hours = (cost.gpu_hours if room.on_gpus else cost.cpu_hours) or None
        wall = hours / room.units if hours else None
    folder = next(p for p in (results, *results.parents) if p.exists())
    return Forecast(
        place=f"cluster {cluster.name}: {place}",
        jobs=jobs,
        at_a_time=room.at_a_time,
        hours=hours,
        unit=unit,
        wall_hours=wall,
        disk_gb=cost.disk / 1e9 if cost is not None else None,
        free_gb=shutil.disk_usage(folder).free / 1e9,
        remarks=remarks(configs, cluster, results),
    )


def _room_on_slurm(cluster: SlurmCluster, ranks: Counter[int]) -> Room:
    """Runs packed into one job share its GPUs."""
    runs = max(1, ranks.total())
    at_a_time = min(cluster.parallel * cluster.packed, runs)
    processes = at_a_time * sum(r * n for r, n in ranks.items()) / runs
    each = cluster.gpus or cluster.cpus / cluster.packed
    return Room(at_a_time, cluster.gpus > 0, max(1.0, processes * each))


def _room_here(cluster: LocalCluster, configs: Sequence[RunConfig], workers: int | None) -> Room:
    gpus = cluster.visible or visible_gpus()
    at_a_time = workers_here(cluster, configs, workers)
    return Room(at_a_time, bool(gpus), len(gpus) or available_cores())


def _jobs(cluster: SlurmCluster, ranks: Counter[int], unevaluated: int) -> int:
    """Trainings, each with the evaluation behind it, and evaluations of what is trained."""
    trainings = sum(ceil(n / (cluster.packed if r == 1 else 1)) for r, n in ranks.items())
    return 2 * trainings + ceil(unevaluated / cluster.packed)
