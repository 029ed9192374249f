"""What a job asks of SLURM: from a run and a profile to the parameters of its batch script."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from repro.config.schema import RunConfig
from repro.errors import UserError
from repro.harness.experiments.clusters import SlurmCluster
from repro.harness.slurm import script
from repro.harness.slurm.submissions import TRAIN


@dataclass(frozen=True)
class Requirements:
    """What one job asks for."""

    ranks: int
    gpus: int  # of each rank
    cpus: int
    memory_gb: float  # 0: what the site gives
    minutes: int


@dataclass(frozen=True)
class Shape:
    """How the ranks of a job fill nodes: on each of them the same number."""

    nodes: int
    ranks_a_node: int

    def __str__(self) -> str:
        return (
            f"{self.ranks_a_node} on one node"
            if self.nodes == 1
            else (f"{self.ranks_a_node} on each of {self.nodes} nodes")
        )


@dataclass(frozen=True)
class Increase:
    """By how much a retry raises what the last attempt had; 1.0: as it was."""

    memory: float = 1.0
    minutes: float = 1.0


def requirements_of(
    config: RunConfig, cluster: SlurmCluster, had: Mapping[str, Any], more: Increase, stage: str
) -> Requirements:
    """What the profile gives, or more where the last job had more or a retry asks for it.

    Runs that are packed into a job share its GPUs and CPUs; each brings its memory.
    """
    training = stage == TRAIN
    ranks = config.resources.ranks if training else 1
    together = cluster.packed if training and ranks == 1 else 1
    own = cluster.memory_gb * together
    memory = max(own, had.get("memory_gb", 0.0)) * more.memory if own else 0.0
    if more.memory > 1 and not own:
        raise UserError(
            f"--mem: cluster {cluster.name} leaves memory to the site (memory_gb: 0), so there is "
            "nothing to raise; set memory_gb: in the profile"
        )
    minutes = max(
        cluster.minutes if training else cluster.evaluation_minutes, had.get("minutes", 0)
    )
    shape_of(ranks, cluster, config.train.batch_size)
    return Requirements(
        ranks, cluster.gpus, cluster.cpus, round(memory, 3), ceil(minutes * more.minutes)
    )


def shape_of(ranks: int, cluster: SlurmCluster, batch: int | None = None) -> Shape:
    """The fewest nodes that the ranks fill evenly.

    Args:
        batch: what a number of ranks must divide to be proposed.

    Raises:
        UserError: that would leave more than half of every node empty; with the nearest numbers
            of ranks that do better.
    """
    if shape := _shape(ranks, cluster):
        return shape
    lower = range(ranks - 1, 0, -1)
    higher = range(ranks + 1, 4 * ranks + most_a_node(cluster))
    nearest = [
        next((r for r in numbers if _shape(r, cluster) and not (batch or 0) % r), None)
        for numbers in (lower, higher)
    ]
    proposed = " or ".join(f"{r} ({_shape(r, cluster)})" for r in nearest if r)
    raise UserError(
        f"cluster {cluster.name}: resources.ranks={ranks} cannot be spread evenly over nodes of "
        f"{most_a_node(cluster)} (gpus_per_node:); nearest that can: {proposed}"
    )


def most_a_node(cluster: SlurmCluster) -> int:
    """Ranks that fit on a node."""
    return cluster.gpus_per_node // max(1, cluster.gpus)


def _shape(ranks: int, cluster: SlurmCluster) -> Shape | None:
    """None where more than half of every node would stay empty."""
    most = min(ranks, most_a_node(cluster))
    a_node = next(n for n in range(most, 0, -1) if ranks % n == 0)
    return Shape(ranks // a_node, a_node) if 2 * a_node >= most else None


def parameters_of(
    name: str,
    required: Requirements,
    share: int,
    cluster: SlurmCluster,
    code: Path,
    dependency: str | None,
) -> dict[str, Any]:
    """submitit's parameters of an array."""
    shape = shape_of(required.ranks, cluster)
    memory = ceil(required.memory_gb * 1024 * shape.ranks_a_node)
    asked = {
        "job_name": name,
        "partition": cluster.partition,
        "account": cluster.account,
        "qos": cluster.qos,
        "constraint": cluster.constraint,
        "mail_type": cluster.mail_type,
        "mail_user": cluster.mail_user,
        "exclusive": cluster.exclusive,
        "dependency": dependency,
        **_gpus(required.gpus * shape.ranks_a_node, cluster),
        "mem": f"{memory}M" if memory else "",
    }
    further = {"requeue": True, "reservation": cluster.reservation, **cluster.options}
    if "gres" in asked:
        further.pop("gres", None)
    if dependency:
        further["kill-on-invalid-dep"] = "yes"
    return {
        **{key: value for key, value in asked.items() if value},
        "time": required.minutes,
        "nodes": shape.nodes,
        "ntasks_per_node": shape.ranks_a_node,
        "cpus_per_task": required.cpus,
        "wckey": cluster.wckey or None,  # submitit sends one of its own if nothing is said
        "signal_delay_s": cluster.warning_seconds,  # 0: SLURM sends none
        "array_parallelism": share,
        "stderr_to_stdout": True,
        "setup": script.before(cluster, code, shape.nodes, required.ranks),
        "teardown": script.after(),
        "srun_args": ["--kill-on-bad-exit=1", *cluster.srun, *script.DEAF],
        # An option that the profile sets to false is left out.
        "additional_parameters": {
            key: value
            for key, value in further.items()
            if value is not False and value not in (None, "")
        },
    }


def _gpus(number: int, cluster: SlurmCluster) -> dict[str, Any]:
    """Those of a node, in the site's words; with gres, other generic resources beside them."""
    kind = [cluster.gpu_type] if cluster.gpu_type else []
    if number and cluster.gpus_by == "gres":
        gpus = ":".join(["gpu", *kind, str(number)])
        return {"gres": ",".join([gpus, *filter(None, [cluster.options.get("gres")])])}
    return {"gpus_per_node": ":".join([*kind, str(number)]) if number else ""}
