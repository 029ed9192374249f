"""The board of an experiment that is named has the numbers and verdicts of its table."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.evidence.evidence import load_evidence
from analysis.evidence.sources import Source
from analysis.tables import board as boards
from analysis.tables.table import build
from repro.cli.parser import main
from repro.cli.runs.look import look
from repro.cli.runs.status_board import numbers
from repro.harness.experiments.experiment import load, row_config
from repro.harness.plan.plan import plan
from repro.harness.runs.store import create_run
from tests.analysis.test_publish import finished_run
from tests.cli.calling import json_of

ESCAPES = re.compile(r"\x1b\[[\d;]*m")
NOTHING_LOADED = """
import sys
from repro.cli.parser import main
assert main(sys.argv[1:]) == 0
print(*(name for name in ("pandas", "analysis.evidence.evidence") if name in sys.modules))
"""


@pytest.fixture
def three(results: Path) -> Path:
    """Three seeds of F7:both, which is T7:r1 too, and one of another row that waits."""
    for seed in range(3):
        finished_run(results, "both", seed)
    experiment = load("T7")
    config = row_config(experiment, experiment.row("r2"), "laptop", 0)
    create_run(results / "runs", "T7-r2-laptop-s0", config)
    return results


def shown(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(["status", *argv]) == 0
    return ESCAPES.sub("", capsys.readouterr().out)


@pytest.mark.usefixtures("three")
def test_a_row_has_its_mean_interval_seeds_the_papers_number_and_its_verdict(
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = shown(capsys, "T7")
    (r1,) = (line for line in out.splitlines() if line.split()[:1] == ["r1"])
    (r2,) = (line for line in out.splitlines() if line.split()[:1] == ["r2"])
    head = next(line for line in out.splitlines() if line.split()[:1] == ["row"])
    # The values are 100 (720 + s) / 1024 for s = 0, 1, 2; t(0.975, 2) = 4.3027.
    assert "70.4 ± 0.2 (3)" in r1
    assert "███" in r1
    assert "72.8" in r1
    assert "n/a at this scale" in r1
    assert "k-NN ours" in head
    assert "k-NN paper" in head
    assert "0.1" in r2
    assert "not run" in r2


@pytest.mark.usefixtures("three")
def test_the_numbers_are_those_of_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    evidence = load_evidence("laptop", Source.own)
    printed = build(load("T7"), evidence)
    (line,) = (one for one in printed.lines if one.row == "r1")
    kept = [i for i, h in enumerate(printed.headings) if h.title in ("paper", "ours", "verdict")]
    out = " ".join(shown(capsys, "T7:r1").split())
    assert kept
    assert all(" ".join(line.entries[i].text.split()) in out for i in kept)


@pytest.mark.usefixtures("three")
def test_programs_get_a_cell_a_metric_and_only_of_what_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cells = json_of(capsys, "status", "T7")["cells"]
    (one,) = (c for c in cells if (c["row"], c["metric"]) == ("r1", "knn"))
    assert one["mean"] == pytest.approx(100 * 721 / 1024)
    assert (one["n"], one["reported"], one["scale"]) == (3, 72.8, "laptop")
    assert one["verdict"] == "n/a at this scale"
    (other,) = (c for c in cells if (c["row"], c["metric"]) == ("r2", "knn"))
    assert (other["mean"], other["reported"]) == (None, 0.1)
    assert json_of(capsys, "status")["cells"] == []


@pytest.mark.usefixtures("three")
def test_a_narrow_terminal_keeps_the_first_metric_and_says_what_it_leaves_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    out = shown(capsys, "T7")
    assert "70.4 ± " in out
    assert "72.8" in out
    assert "Left out: Method, Mom., SK, MC, Loss, Pred." in out
    assert "repro table T7 --scale laptop" in " ".join(out.split())


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize("patterns", [[], ["done"], ["F7", "T7", "F6R", "T14"]])
def test_what_is_not_named_or_too_much_loads_no_evidence(patterns: list[str]) -> None:
    command = [sys.executable, "-c", NOTHING_LOADED, "status", *patterns]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert out.splitlines()[-1] == ""


def test_nothing_is_loaded_before_a_run_is_done(results: Path) -> None:
    for run in plan(["F7:both"], "smoke", 1, results).runs:
        create_run(results / "runs", run.slug, run.config)
    assert numbers(look(["F7"], results)) == {}


def test_somebody_who_watches_has_the_table_judged_once_a_finished_run(
    three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = []
    real = boards.board
    monkeypatch.setattr(boards, "board", lambda *asked: judged.append(asked) or real(*asked))
    for _ in range(3):
        assert numbers(look(["F7"], three))["F7", "laptop"].of("both")
    assert judged == [("F7", "laptop")]
    finished_run(three, "both", 3)
    cells = numbers(look(["F7"], three))["F7", "laptop"].cells
    assert {cell["n"] for cell in cells if cell["row"] == "both"} == {4}
    assert len(judged) == 2
