"""What a job asks of SLURM: from a run and a profile to the parameters of its batch script."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from repro.config.schema import RunConfig
from repro.harness.experiments.clusters import SlurmCluster
from repro.harness.runs import variables
from repro.harness.slurm.submissions import TRAIN


@dataclass(frozen=True)
class Requirements:
    """What one job asks for."""

    ranks: int
    gpus: int  # of each rank
    cpus: int
    memory_gb: float
    minutes: int


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
    memory = max(cluster.memory_gb * together, had.get("memory_gb", 0.0)) * more.memory
    minutes = max(
        cluster.minutes if training else cluster.evaluation_minutes, had.get("minutes", 0)
    )
    return Requirements(
        ranks, cluster.gpus, cluster.cpus, round(memory, 3), ceil(minutes * more.minutes)
    )


def parameters_of(
    name: str,
    required: Requirements,
    share: int,
    cluster: SlurmCluster,
    code: Path,
    dependency: str | None,
) -> dict[str, Any]:
    """submitit's parameters of an array."""
    a_node = min(required.ranks, max(1, cluster.gpus_per_node // max(1, required.gpus)))
    exported = {
        **variables.REQUEUES.holding(cluster.requeues),
        **variables.PACKED.holding(cluster.packed),
        **variables.WARNING.holding(cluster.warning_seconds),
    }
    setup = [
        *cluster.setup,
        f'export PYTHONPATH={shlex.quote(str(code))}"${{PYTHONPATH:+:$PYTHONPATH}}"',
        "export PYTHONSAFEPATH=1  # not the working directory, whose code may have been edited",
        *(f"export {variable}={value}" for variable, value in exported.items()),
        # From SLURM 22.05 on, srun does not inherit it, and a job's workers share one core.
        "export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK",
    ]
    further: dict[str, Any] = {"requeue": True, **cluster.extra}
    if dependency:
        further["kill-on-invalid-dep"] = "yes"
    parameters = {
        "job_name": name,
        "partition": cluster.partition,
        "account": cluster.account,
        "qos": cluster.qos,
        "constraint": cluster.constraint,
        "dependency": dependency,
        "time": required.minutes,
        "nodes": ceil(required.ranks / a_node),
        "ntasks_per_node": a_node,
        "cpus_per_task": required.cpus,
        "gpus_per_node": required.gpus * a_node,
        "mem": f"{ceil(required.memory_gb * 1024 * a_node)}M",
        "signal_delay_s": cluster.warning_seconds,
        "array_parallelism": share,
        "stderr_to_stdout": True,
        "setup": setup,
        "srun_args": ["--kill-on-bad-exit=1", *cluster.srun],
        # An option that is set to false in the profile is left out.
        "additional_parameters": {k: v for k, v in further.items() if v not in (False, None)},
    }
    return {key: value for key, value in parameters.items() if value or value == []}
