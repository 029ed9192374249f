"""F7 submitted to a scripted SLURM, for the tests of what is sent and what becomes of it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from repro.harness.experiments.clusters import SlurmCluster
from repro.harness.plan.plan import plan
from repro.harness.plan.submit import submit
from repro.harness.slurm.requirements import Increase
from repro.harness.slurm.submissions import submissions

CLUSTER = SlurmCluster(name="mine", gpus=1, cpus=4, memory_gb=16, minutes=90)
LIMIT = "sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed\n"


def send(
    results: Path, cluster: SlurmCluster = CLUSTER, seeds: int = 2, more: Increase | None = None
) -> list[str]:
    """Submit F7; what was said."""
    lines: list[str] = []
    runs = plan(["F7"], "smoke", seeds, results).runs
    submit(runs, cluster, results, more or Increase(), lines.append)
    return lines


def arrays(results: Path) -> list[dict[str, Any]]:
    """Those of the newest submission; names of one second are in no order."""
    return [asdict(array) for array in submissions(results)[-1].arrays]
