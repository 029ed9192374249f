"""One run folder that this code cannot read is left out, and every command goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from repro.cli.parser import main
from repro.harness.experiments.folders import results_dir
from repro.harness.plan.plan import plan
from repro.harness.runs.store import RunFolder, create_run
from tests.analysis.comparison.made import make_own
from tests.cli.conftest import results

__all__ = ["results"]

SMOKE = ("--scale", "smoke")
COMMANDS = (
    ("list",),
    ("plan", "F7", *SMOKE),
    ("submit", "F7:centering", *SMOKE, "--yes"),
    ("status",),
    ("status", "F7:both"),
    ("runs",),
    ("table", "F7", *SMOKE),
    ("check", "F7", *SMOKE),
    ("explain", "F7:both:kl", *SMOKE),
    ("explain", "good"),
    ("why-new", "good", "F7:both", *SMOKE),
    ("figure", "collapse", "good"),
    ("compare", "good", "F7-both-laptop-s0"),
    ("retry",),
    ("cancel",),
    ("gc",),
)


def unknown(folder: RunFolder) -> None:
    """As a colleague's code has it, which knows one more loss."""
    config = folder.path / "config.yaml"
    config.write_text(config.read_text().replace("kind: cross_entropy", "kind: absolute"))


def elsewhere(folder: RunFolder) -> None:
    """Of a scale that only a colleague has."""
    folder.update_run(scale="huge")


def cut(folder: RunFolder) -> None:
    (folder.path / "run.json").write_text("{")


def empty(folder: RunFolder) -> None:
    for file in ("config.yaml", "run.json", "metrics.jsonl"):
        (folder.path / file).unlink(missing_ok=True)


@pytest.mark.parametrize("damage", [unknown, elsewhere, cut, empty])
def test_no_command_is_stopped_by_it(
    damage: Callable[[RunFolder], None],
    results: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("repro.cli.runs.start._start_here", lambda *_: 0)
    make_own(results, {"seed": 5}, name="good")
    (run,) = plan(["F7:both"], "smoke", 1, results).runs
    damage(create_run(results_dir() / "runs", run.slug, run.config))
    damage(make_own(results, {"seed": 6}, name="bad"))
    ends = {" ".join(argv): (main(argv), capsys.readouterr().err) for argv in COMMANDS}
    assert {line: end for line, end in ends.items() if end[0] != 0} == {}


def test_the_page_and_figures_go_on_without_it_and_name_it(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run,) = plan(["F7:both"], "laptop", 1, results).runs
    damaged = create_run(results_dir() / "runs", run.slug, run.config)
    empty(damaged)
    (damaged.path / "result.json").write_text("{}")
    page, everything = tmp_path / "page.html", ("--scale", "laptop", "--evidence", "all")
    for command in (["report", "--out", str(page)], ["figure", "F7"], ["table", "F7"]):
        assert main([*command, *everything]) == 0, command
        assert f"{damaged.path}/config.yaml: missing" in capsys.readouterr().err, command
    assert "Emerging" in page.read_text()


def test_a_submission_of_damaged_runs_alone_says_why_none_of_them_starts(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run,) = plan(["F7:both"], "smoke", 1, results).runs
    damaged = create_run(results_dir() / "runs", run.slug, run.config)
    unknown(damaged)
    assert main(["submit", "F7:both", *SMOKE, "--yes"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "1 run, 0 to do" in said
    assert f"damaged, and left as it is: {damaged.path}/config.yaml: key 'loss.kind'" in said
