"""What rests on runs that ended early, on a collapse: claims on outputs, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from analysis.evidence.evidence import Evidence
from analysis.explain import explain
from analysis.explained import lines_of
from analysis.figures.collapse import draw_collapse
from analysis.figures.curves import draw_curves
from analysis.figures.style import STOP, STOPPED
from analysis.tables.table import build
from analysis.verdicts.claims import ClaimVerdict, judge_ours
from repro.harness.experiments.experiment import load

Record = dict[str, Any]
Make = Callable[..., Record]
EvidenceOf = Callable[..., Evidence]
LOG_K = math.log(64)
UNIFORM = {
    "entropy": LOG_K - 1e-4,
    "kl": 1e-4,
    "mean_entropy": LOG_K - 1e-5,
    "cross_entropy": LOG_K,
}
STEPS, OF = 320, 640
SAID = f"stopped on collapse at step {STEPS} of {OF}"


def stopped(run: Record, state: str = "uniform") -> Record:
    """The same run, ended at half of its training."""
    curves = {k: v[: len(v) // 2] for k, v in run["curves"].items() if k != "eval"}
    evaluated = {k: v[: len(v) // 2 + 1] for k, v in run["curves"]["eval"].items()}
    return run | {
        "stopped_on": {"cause": "collapse", "step": STEPS, "of": OF},
        "sentinel": {"state": state, "since_step": 160, "meaning": ""},
        "counts": run["counts"] | {"steps": STEPS},
        "curves": curves | {"eval": evaluated},
    }


def verdict(name: str, claim: str, evidence: Evidence) -> ClaimVerdict:
    return next(v for v in judge_ours(load(name), evidence) if v.id == claim)


def early(make: Make, row: str, state: str = "uniform", **metrics: Any) -> list[Record]:
    return [stopped(make(row, seed, **metrics), state) for seed in range(3)]


def test_a_collapse_is_told_by_a_run_that_stopped_on_it(
    make: Make, evidence_of: EvidenceOf
) -> None:
    found = verdict("F7", "C.F7.2", evidence_of(early(make, "F7.centering", **UNIFORM)))
    assert (str(found.verdict), found.holds) == ("expected collapse", True), found.detail


def test_of_one_form_of_collapse_only_a_run_that_stopped_in_it_tells(
    make: Make, evidence_of: EvidenceOf
) -> None:
    """It might have become uniform, had it gone on."""
    found = verdict("F7", "C.F7.2", evidence_of(early(make, "F7.centering", "constant", **UNIFORM)))
    assert (str(found.verdict), found.holds) == ("not run", None)
    assert "F7.centering (stopped early, on collapse)" in found.detail


def test_a_row_that_should_be_healthy_is_contradicted_by_runs_that_stopped(
    make: Make, evidence_of: EvidenceOf
) -> None:
    """To leave them out would be to choose the runs that did well."""
    found = verdict("F7", "C.F7.3", evidence_of(early(make, "F7.both", **UNIFORM)))
    assert found.holds is False


def test_one_run_that_stopped_takes_the_row_out_of_claims_on_accuracies(
    make: Make, evidence_of: EvidenceOf
) -> None:
    whole = [make("F6R.momentum", s, knn=75.0 + s / 10) for s in range(3)]
    other = [make("F6R.prev_epoch", s, knn=70.0 + s / 10) for s in range(3)]
    assert verdict("F6R", "C.F6.4", evidence_of(whole + other)).holds is True
    one = [stopped(other[0]), *other[1:]]
    found = verdict("F6R", "C.F6.4", evidence_of(whole + one))
    assert (str(found.verdict), found.holds) == ("not run", None)
    assert "F6R.prev_epoch.knn (stopped early, on collapse)" in found.detail


def test_to_fail_is_an_accuracy_at_the_end_which_they_never_reached(
    make: Make, evidence_of: EvidenceOf
) -> None:
    runs = [make("F6R.momentum", s, knn=75.0) for s in range(3)]
    for row in ("F6R.student_copy", "F6R.prev_iter"):
        runs += early(make, row, knn=50.0)
    found = verdict("F6R", "C.F6.1", evidence_of(runs))
    assert found.holds is None
    assert "F6R.student_copy (stopped early, on collapse)" in found.detail


@pytest.mark.parametrize(
    ("name", "claim", "row"),
    [("F7", "C.F7.5", "F7.both"), ("F6L", "C.F6.5", "F6L.momentum")],
)
def test_a_claim_on_a_curve_needs_all_of_it(
    name: str, claim: str, row: str, make: Make, evidence_of: EvidenceOf
) -> None:
    found = verdict(name, claim, evidence_of(early(make, row)))
    assert found.holds is None
    assert f"{row} (stopped early, on collapse)" in found.detail


def test_the_family_has_as_many_statements_as_with_whole_runs(
    make: Make, evidence_of: EvidenceOf
) -> None:
    """Its size is fixed before any run."""
    whole = [make(row, s) for row in ("F6R.momentum", "F6R.prev_epoch") for s in range(3)]
    ended = [stopped(run) for run in whole]
    levels = {judge_ours(load("F6R"), evidence_of(runs))[0].level for runs in (whole, ended, [])}
    assert len(levels) == 1


def test_table_and_explanation_say_which_runs_stopped_and_where(
    make: Make, evidence_of: EvidenceOf
) -> None:
    evidence = evidence_of([make("F7.both", 0), *early(make, "F7.centering", **UNIFORM)])
    notes = build(load("F7"), evidence).notes
    note = next(note for note in notes if note.startswith("Stopped early, on collapse: "))
    assert "centering only (no sharpening) (3 runs, at 50% of training)" in note
    assert "both" not in note.partition(".")[0].replace("both of", "")
    assert not any("Stopped early" in n for n in build(load("F7"), evidence_of([])).notes)
    told = explain("F7:centering:kl", evidence)
    assert told["runs"][0]["stopped_on"] == {"cause": "collapse", "step": STEPS, "of": OF}
    assert sum(SAID in line for line in lines_of(told)) == 3


def test_figures_end_the_curve_there_with_a_bar_and_say_what_it_means(
    make: Make, evidence_of: EvidenceOf
) -> None:
    runs = [make("F7.centering", seed) for seed in range(2)]
    figure = draw_collapse(load("F7"), evidence_of([stopped(runs[0]), runs[1]]))
    for axes in figure.axes[2:]:
        (bar,) = [line for line in axes.lines if line.get_marker() == STOP]
        assert list(bar.get_xdata()) == [0.5]
        ends = [max(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) > 5]
        assert sorted(ends) == [0.5, 1.0]  # a line a seed: no mean over what is left
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert STOPPED in texts
    whole = draw_collapse(load("F7"), evidence_of(runs))
    assert STOPPED not in [text.get_text() for text in whole.legends[0].get_texts()]
    curves = draw_curves(load("F6L"), evidence_of([stopped(make("F6L.momentum", 0))])).axes[1]
    assert f"|: {STOPPED}" in [text.get_text() for text in curves.texts]
    assert sum(line.get_marker() == STOP for line in curves.lines) == 2  # teacher and student


def test_the_onset_is_a_share_of_the_whole_training(make: Make, evidence_of: EvidenceOf) -> None:
    figure = draw_collapse(load("F7"), evidence_of([stopped(make("F7.centering", 0))]))
    onsets = [line for line in figure.axes[2].lines if line.get_marker() == "^"]
    assert list(onsets[0].get_xdata()) == [0.25]
