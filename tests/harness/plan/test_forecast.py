"""What a plan will take: jobs, hours, disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from msgspec import structs

from repro.harness.experiments.clusters import LocalCluster, SlurmCluster
from repro.harness.plan.cost import Cost
from repro.harness.plan.forecast import forecast
from repro.harness.plan.plan import plan

CLUSTER = SlurmCluster(name="mine", gpus=1, cpus=4, memory_gb=16, minutes=90, parallel=2)


def test_a_forecast_counts_jobs_hours_and_disk(tmp_path: Path) -> None:
    planned = plan(["F7"], "smoke", 2, tmp_path)
    planned = replace(planned, cost=Cost(cpu_hours=0, gpu_hours=8, basis="test", disk=4 * 10**9))
    expected = forecast(planned, structs.replace(CLUSTER, packed=2), tmp_path, None)
    assert expected.jobs == 4 + 4  # trainings, each with its evaluation
    assert (expected.at_a_time, expected.wall_hours) == (4, 2.0)
    assert (expected.hours, expected.unit, expected.disk_gb) == (8, "GPU", 4.0)
    ranks = structs.replace(CLUSTER, resources={"ranks": 2})
    assert forecast(planned, ranks, tmp_path, None).wall_hours == 2.0  # two runs of two GPUs
    here = forecast(planned, LocalCluster(name="local"), tmp_path, 3)
    assert (here.jobs, here.at_a_time) == (8, 3)
