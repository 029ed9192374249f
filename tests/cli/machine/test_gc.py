"""`repro gc` takes what nobody needs, and never a run."""

from __future__ import annotations

from pathlib import Path

from repro.cli.machine.gc import rubbish, sweep
from repro.cli.parser import main
from repro.harness.plan.plan import plan
from repro.harness.plan.submit import submit
from repro.harness.runs.store import find_runs
from repro.harness.slurm.requirements import Increase
from tests.cli.calling import CLUSTER
from tests.harness.scripted import Scripted, scripted

__all__ = ["scripted"]


def test_rubbish_is_what_finished_submissions_left_and_run_folders_stay(
    scripted: Scripted, results: Path
) -> None:
    submit(plan(["F7:both"], "smoke", 1, results).runs, CLUSTER, results, Increase(), print)
    assert rubbish(results) == []
    (folder,) = find_runs(results / "runs")
    folder.finish({"metrics": {}})
    items = rubbish(results)
    assert {item.path.parent.name for item in items} == {"submissions", "code"}
    sweep(items)
    assert folder.result() is not None
    assert rubbish(results) == []
    assert main(["gc", "--dry-run"]) == 0
