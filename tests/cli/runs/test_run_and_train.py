"""`repro run` and `repro train`: from words to trained networks, tables and figures."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from analysis.evidence.evidence import Evidence, published_evidence
from analysis.verdicts.in_words import in_words
from repro.cli.parser import main
from repro.config.compose import compose
from repro.harness.local.pool import Outcome
from repro.harness.runs.failures import Failure, FailureKind
from repro.harness.runs.planned import PlannedRun
from repro.harness.runs.store import find_runs
from tests.cli.calling import ONE_THREAD, json_of
from tests.harness.processes import wait_for
from tests.harness.scripted import Scripted, scripted

__all__ = ["scripted"]


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    return published_evidence("laptop")


@pytest.mark.slow
def test_run_trains_once_prints_the_table_draws_the_figure_and_never_trains_again(
    results: Path, capfd: pytest.CaptureFixture[str], repository: Path
) -> None:
    (results / "published").mkdir(parents=True)  # the repository's records are not read
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


@pytest.mark.usefixtures("results")
def test_run_says_what_came_out_of_the_rows_that_were_asked_for(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("analysis.evidence.evidence.load_evidence", lambda *_: evidence)
    monkeypatch.setattr("repro.cli.runs.run.start", lambda *_, **__: 0)
    assert main(["run", "F7:both,centering", "T7:r2"]) == 0
    out = capsys.readouterr().out
    sentences = in_words([evidence.experiment(name) for name in ("F7", "T7")], evidence)
    assert "\n".join(sentences) in out
    assert out.index(sentences[-1]) < out.index("Figure 7: Target") < out.index("Table 7: Import")
    table = out[out.index("Table 7: Import") :]
    assert "47.2 ± 21.8 (3)" in table
    assert "70.8 ± 2.3 (3)" not in table
    assert "Differs from the paper" not in out
    assert main(["run", "F7:both", "-v"]) == 0
    assert "Differs from the paper" in capsys.readouterr().out


@pytest.mark.usefixtures("results")
def test_the_runs_with_most_to_evaluate_start_first(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []

    def dispatch(planned: Sequence[PlannedRun], *_: object, **__: object) -> Outcome:
        begun.extend(run.row for run in planned)
        return Outcome()

    monkeypatch.setattr("repro.harness.local.pool.dispatch", dispatch)
    argv = ["submit", "F7:centering,sharpening", "T7:r1,r2", "--scale", "smoke", "--yes"]
    assert main(argv) == 0
    # Those of Table 7 have a linear probe, too; else the order is that of the command.
    assert begun == ["r1", "r2", "centering", "sharpening"]


@pytest.mark.slow
def test_train_makes_one_run_from_overrides_and_prints_its_metrics(
    results: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    argv = ["train", "train.epochs=1", "teacher.momentum=0.5", "--scale", "smoke", *ONE_THREAD]
    assert main(argv) == 0
    out = capfd.readouterr().out
    (folder,) = find_runs(results / "runs")
    assert folder.slug == "train-epochs_1_momentum_0.5-smoke-s0"
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
