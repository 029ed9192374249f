"""`repro run` and `repro train`: from words to trained networks, tables and figures."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from repro.cli.parser import main
from repro.config.compose import compose
from repro.harness.runs.failures import Failure, FailureKind
from repro.harness.runs.store import find_runs
from tests.cli.calling import ONE_THREAD, json_of
from tests.harness.processes import wait_for
from tests.harness.scripted import Scripted, scripted

__all__ = ["scripted"]


@pytest.mark.slow
def test_run_trains_once_prints_the_table_draws_the_figure_and_never_trains_again(
    results: Path, capfd: pytest.CaptureFixture[str], repository: Path
) -> None:
    argv = ["run", "F7:both", "T7:r1", "--scale", "smoke", *ONE_THREAD]
    assert main(argv) == 0
    out = capfd.readouterr().out
    assert "Figure 7" in out
    assert "Table 7" in out
    assert str(results / "figures" / "smoke" / "F7.png") in out
    assert (results / "figures" / "smoke" / "F7.svg").stat().st_size > 0
    (folder,) = find_runs(results / "runs")
    config = compose(repository / "experiments", "smoke")
    assert folder.config().head == config.head
    before = {p: p.stat().st_mtime_ns for p in folder.path.rglob("*")}

    assert main(argv) == 0
    assert {p: p.stat().st_mtime_ns for p in folder.path.rglob("*")} == before
    assert main(["submit", "F7:both", "--scale", "smoke"]) == 0
    assert "1 run, 0 to do" in capfd.readouterr().out
    rows = {entry["id"]: entry["done"] for entry in json_of(capfd, "list")}
    assert rows["F7"] == rows["T7"] == {"smoke": 1}
    assert json_of(capfd, "status", "done")["runs"][0]["step"] == 8


@pytest.mark.slow
def test_train_makes_one_run_from_overrides_and_prints_its_metrics(
    results: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    argv = ["train", "train.epochs=1", "teacher.momentum=0.5", "--scale", "smoke", *ONE_THREAD]
    assert main(argv) == 0
    out = capfd.readouterr().out
    (folder,) = find_runs(results / "runs")
    assert folder.slug == "train-smoke-s0"
    assert folder.config().teacher.momentum == 0.5
    assert any(line.startswith("knn ") for line in out.splitlines())
    assert str(folder.path) in out


def test_train_on_a_cluster_waits_until_the_run_has_ended_and_says_how(
    scripted: Scripted,
    results: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("repro.cli.runs.start.LOOK_SECONDS", 0.1)
    profile = tmp_path / "mine.yaml"
    profile.write_text("{kind: slurm, gpus: 1, cpus: 4, memory_gb: 16, minutes: 90}")

    def work() -> None:
        wait_for(lambda: scripted.scripts, "its job")
        (folder,) = find_runs(results / "runs")
        with folder.lock():
            folder.fail(Failure(FailureKind.nan, "the loss is nan", step=7))

    thread = threading.Thread(target=work)
    thread.start()
    code = main(["train", "--scale", "smoke", "--cluster", str(profile)])
    thread.join()
    assert code == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-4] == "1 failed"
    assert "the loss is nan" in lines[-3]
