"""`repro submit` and `repro retry`: nothing starts unconfirmed; causes choose what is retried."""

from __future__ import annotations

from pathlib import Path

import pytest

from repro.cli.parser import main
from repro.harness.runs.failures import Failure, FailureKind
from repro.harness.runs.store import RunFolder, find_runs
from repro.harness.slurm.submissions import submissions
from tests.harness.scripted import Scripted, option, scripted

__all__ = ["scripted"]


@pytest.mark.usefixtures("nobody_there")
def test_submit_and_retry_refuse_to_start_when_nobody_can_confirm(
    queued: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", "F7:both", "--scale", "smoke"]) == 2
    assert "add --yes" in capsys.readouterr().err
    queued.fail(Failure(FailureKind.nan, line="not finite", step=1))
    assert main(["retry", "failed"]) == 2
    assert "add --yes" in capsys.readouterr().err
    assert queued.state(0) == "failed"


def test_a_run_that_found_what_fits_a_gpu_is_retried_so(
    queued: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "out of memory: on H200; resources.accumulate=2 fits, the same batch in parts"
    queued.fail(Failure(FailureKind.out_of_memory, line, fits=["resources.accumulate=2"]))
    assert main(["status"]) == 0
    assert f"1 x out of memory (--only oom): {line}" in capsys.readouterr().out
    assert main(["retry", "--only", "oom", "--yes"]) == 0
    assert "resources.accumulate=2, which fits" in capsys.readouterr().out
    assert queued.config().resources.accumulate == 2
    assert queued.state(0) == "done"


def test_a_smaller_batch_is_another_run_and_left_to_people(
    queued: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = queued.config().train.batch_size
    queued.fail(Failure(FailureKind.out_of_memory, "no room", fits=["train.batch_size=1"]))
    monkeypatch.setattr("repro.cli.runs.retry.start", lambda *_, **__: 0)
    assert main(["retry", "--only", "oom", "--yes"]) == 0
    assert queued.config().train.batch_size == batch


def test_an_evaluation_that_failed_is_on_the_board_in_the_logs_and_retried_by_its_cause(
    scripted: Scripted, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = tmp_path / "mine.yaml"
    profile.write_text("{kind: slurm, gpus: 1, cpus: 4, memory_gb: 16, minutes: 90}")
    assert main(["submit", "F7:both", "--scale", "smoke", "--cluster", str(profile), "--yes"]) == 0
    (sent,) = submissions(results)
    sent.created -= 3600
    sent.save()
    (folder,) = find_runs(results / "runs")
    folder.finish({"metrics": {}})
    (folder.path / "checkpoints" / "last.pt").touch()
    (sent.folder / "jobs" / "102_0_log.out").write_text("evaluating knn\n")
    scripted.answer("sacct", f"102|OUT_OF_MEMORY|0:125|n7|{sent.arrays[1].name}\n")

    capsys.readouterr()
    assert main(["status"]) == 0
    out = capsys.readouterr().out
    assert "1 x out of memory (--only oom) on n7: evaluation: SLURM: OUT_OF_MEMORY" in out
    assert "1 done, 1 evaluation failed" in out
    assert main(["logs"]) == 0
    assert "job: evaluating knn" in capsys.readouterr().out
    assert main(["retry", "--only", "timeout", "--yes"]) == 0
    assert len(scripted.scripts) == 2
    assert main(["retry", "--only", "oom", "--mem", "+50%", "--yes"]) == 0
    assert option(scripted.scripts[2], "mem") == "24576M"


def test_a_run_that_is_retried_elsewhere_has_the_resources_of_its_new_place(
    scripted: Scripted, results: Path, tmp_path: Path
) -> None:
    least = "kind: slurm, gpus: 1, cpus: 4, memory_gb: 16, minutes: 90"
    large, small = tmp_path / "large.yaml", tmp_path / "small.yaml"
    large.write_text(f"{{{least}, resources: {{ranks: 4, smoke: {{data_workers: 3}}}}}}")
    small.write_text(f"{{{least}, resources: {{smoke: {{data_workers: 1}}}}}}")
    assert main(["submit", "F7:both", "--scale", "smoke", "--cluster", str(large), "--yes"]) == 0
    assert option(scripted.scripts[0], "ntasks-per-node") == "4"
    (folder,) = find_runs(results / "runs")
    folder.fail(Failure(FailureKind.node, "the node failed", step=1))
    assert main(["retry", "--cluster", str(small), "--yes"]) == 0
    assert option(scripted.scripts[2], "ntasks-per-node") == "1"
    resources = folder.config().resources
    assert (resources.ranks, resources.data_workers) == (1, 1)
