"""The scorecard and the overlay of any runs."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from textwrap import wrap
from typing import Any

import pytest
from matplotlib.patches import FancyBboxPatch, Polygon

from analysis.evidence.evidence import Evidence
from analysis.evidence.rows import PAPER
from analysis.figures.draw import draw_collapse
from analysis.figures.runs import ShownRun, draw_runs, find_shown
from analysis.figures.scorecard import LETTERS, MARKS, draw_scorecard, kind_of, number_of
from analysis.verdicts.claims import ClaimVerdict, judge_ours, judge_reported
from analysis.verdicts.verdict import Outcome, Verdict
from repro.errors import UserError
from repro.harness.experiments.experiment import experiment_ids, load, row_config
from repro.harness.runs.store import RunFolder, create_run

Record = dict[str, Any]
Records = Callable[..., Record]
Build = Callable[..., Evidence]


def test_the_scorecard_has_a_tile_a_claim_and_counts_the_verdicts(
    make: Records, evidence_of: Build
) -> None:
    evidence = evidence_of([make(f"F7.{row}", seed) for row in ("both",) for seed in range(3)])
    verdicts = [v for name in experiment_ids() for v in judge_ours(load(name), evidence)]
    axes = draw_scorecard(verdicts).axes[0]
    words = [text.get_text() for text in axes.texts]
    kinds = [kind_of(verdict) for verdict in verdicts]
    legend = {kind: f"{kinds.count(kind)} {MARKS[kind].title}" for kind in set(kinds)}
    assert set(legend.values()) < set(words)
    assert f"{len(verdicts)} claims of the paper" in words
    ears = [patch for patch in axes.patches if isinstance(patch, Polygon)]
    overclaims = sum(verdict.on_paper == "overclaim" for verdict in verdicts)
    assert len(ears) == overclaims + 1  # and one in the legend
    tiles = [patch for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    assert len(tiles) == len(verdicts) + len(legend) + 1
    assert words.count("T7") == 1


def test_every_verdict_has_its_own_tile(make: Records, evidence_of: Build) -> None:
    one = judge_ours(load("F7"), evidence_of([]))[0]
    assert kind_of(one) == "not run"

    def kind(words: str, verdict: Verdict) -> str:
        assert str(verdict) == words
        return kind_of(replace(one, verdict=verdict))

    confirmed, collapse = Verdict(Outcome.CONFIRMED), Verdict(Outcome.EXPECTED_COLLAPSE)
    assert kind("direction confirmed", confirmed) == kind("expected collapse", collapse)
    assert kind("direction confirmed", confirmed) == "confirmed"
    contradicted = Verdict(Outcome.CONTRADICTED, in_part=True)
    assert kind("direction contradicted (in part)", contradicted) == "contradicted"
    assert kind("undecided at 3 seeds", Verdict(Outcome.UNDECIDED, 3)) == "undecided"
    assert kind("2 of 3 seeds (in part)", Verdict(Outcome.TOO_FEW, 2, in_part=True)) == "too few"
    assert kind("not judged at this scale", Verdict(Outcome.NOT_JUDGED)) == "not judged"
    assert kind("not evidence (smoke)", Verdict(Outcome.NOT_EVIDENCE)) == "not evidence"
    assert len({mark.sign for mark in MARKS.values()}) == len(MARKS)  # told apart in grey


def test_smoke_runs_are_counted_as_no_evidence_and_not_as_missing_runs(
    make: Records, evidence_of: Build
) -> None:
    records = [make("F7.centering", seed, scale="smoke") for seed in range(3)]
    verdicts = judge_ours(load("F7"), evidence_of(records, scale="smoke"))
    kinds = [kind_of(verdict) for verdict in verdicts]
    made = [str(verdict.verdict) == "not evidence (smoke)" for verdict in verdicts]
    assert [kind == "not evidence" for kind in kinds] == made
    assert 0 < sum(made) < len(made)
    words = [text.get_text() for text in draw_scorecard(verdicts).axes[0].texts]
    assert f"{sum(made)} not evidence (smoke)" in words
    assert f"{len(made) - sum(made)} not run" in words


def test_the_papers_own_numbers_make_a_scorecard_too() -> None:
    evidence = Evidence(PAPER, {})
    verdicts: list[ClaimVerdict] = judge_reported(load("T6"), evidence)
    assert [kind_of(verdict) for verdict in verdicts].count("contradicted") == 1
    assert draw_scorecard(verdicts).axes


def test_no_two_tiles_of_an_experiment_have_one_name_and_each_says_how_far_it_carries() -> None:
    for name in experiment_ids():
        verdicts = judge_ours(load(name), Evidence("laptop", {}))
        axes = draw_scorecard(verdicts).axes[0]
        words = [text.get_text() for text in axes.texts]
        numbers = [number_of(verdict) for verdict in verdicts]
        assert len(set(numbers)) == len(numbers)
        assert all(words.count(number) == 1 for number in numbers)
        letters = [verdict.portability for verdict in verdicts]
        assert all(words.count(letter) == letters.count(letter) for letter in "MLSI")
        assert "\n".join(wrap(load(name).title, LETTERS)) in words  # whole


def unfinished(results: Path, row: str = "both") -> RunFolder:
    """A run folder with forty steps, in which the sentinel speaks from step 31 on."""
    experiment = load("F7")
    config = row_config(experiment, experiment.row(row), "laptop", 0)
    folder = create_run(results / "runs", f"F7-{row}-laptop-s0", config)
    folder.append_metrics(
        [{"kind": "eval", "step": 0, "epoch": 0.0, "knn": 60.0, "student_knn": 60.0}]
        + [
            {"kind": "step", "step": s, "epoch": s / 10, "entropy": 2.0, "kl": 0.5 / s,
             "effective_rank": 10.0, "centre_norm": 1.0, "feature_spread": 0.7,
             "sentinel": "healthy" if s <= 30 else "uniform"}
            for s in range(1, 41)
        ]
    )  # fmt: skip
    return folder


def test_an_unfinished_run_is_overlaid_on_a_published_one_with_the_sentinels_words(
    make: Records, published: Callable[..., Path], results: Path
) -> None:
    record = make("F7.centering", 0)
    record["sentinel"] |= {"state": "constant", "since_step": 64}
    record["counts"]["steps"] = 640
    published([record])
    folder = unfinished(results)
    words = [str(folder.path), record["id"][:6]]
    *paths, first, second = draw_collapse(words, None, ["png", "svg"])
    assert [path.rpartition(".")[2] for path in paths] == ["png", "svg"]
    assert all(re.fullmatch(r"collapse-[0-9a-f]{6}", Path(path).stem) for path in paths)
    assert all(Path(path).parent == results / "figures" for path in paths)
    assert first.startswith(f"{folder.id}  F7-both-laptop-s0: uniform since epoch 3.1: loss = ln K")
    assert (
        second == f"{record['id']}  F7-centering-laptop-s0: constant since epoch 1: as it should be"
    )


def test_pictures_of_other_runs_and_runs_of_one_name_lie_apart(
    results: Path, tmp_path: Path
) -> None:
    one, other = unfinished(results), unfinished(results, "centering")
    moved = Path(shutil.copytree(one.path, tmp_path / "elsewhere" / one.path.name))
    drawn = [next(draw_collapse(words, None, ["svg"])) for words in ([one.id], [other.id])]
    assert len(set(drawn)) == 2
    assert all(Path(path).is_file() for path in drawn)
    shown = find_shown([str(one.path), str(moved), str(one.path)])
    assert [run.place for run in shown] == [str(one.path.parent), str(moved.parent)]
    assert len({run.name for run in shown}) == 2


def test_every_run_is_a_line_in_every_panel_and_its_onset_a_mark(results: Path) -> None:
    folder = unfinished(results)
    (run,) = find_shown(["F7-both-*"])
    assert run == find_shown([folder.id])[0] == find_shown([str(folder.path)])[0]
    figure = draw_runs([run])
    log_K = math.log(folder.config().head.prototypes)
    line, mark = figure.axes[0].lines[:2]
    assert line.get_ydata() == pytest.approx([2.0 / log_K] * 40)
    assert mark.get_xydata().tolist() == [[pytest.approx(3.1), pytest.approx(2.0 / log_K)]]
    assert figure.axes[1].lines[0].get_ydata()[:3] == pytest.approx([0.5, 0.25, 0.166667])
    assert figure.axes[4].lines[0].get_xydata().tolist() == [[0.0, 60.0]]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == [f"F7-both-laptop-s0 ({folder.id[:6]}): uniform"]


def test_published_runs_are_found_by_experiment_row_and_glob(
    make: Records, published: Callable[..., Path], results: Path
) -> None:
    both, centering = make("F7.both", 0), make("F7.centering", 0)
    published([both, centering])

    def found(*words: str) -> list[str]:
        return [run.id for run in find_shown(words)]

    assert found("F7") == [both["id"], centering["id"]]
    assert found("F7:centering", "F7") == [centering["id"], both["id"]]
    assert found("F7-both-*") == [both["id"]]
    assert {run.state for run in find_shown(["F7"])} == {"healthy"}
    assert isinstance(find_shown(["F7"])[0], ShownRun)


def test_a_run_without_a_step_is_named_with_what_to_do(results: Path) -> None:
    experiment = load("F7")
    config = row_config(experiment, experiment.row("both"), "laptop", 0)
    folder = create_run(results / "runs", "F7-both-laptop-s0", config)
    for word in (str(folder.path), "F7", folder.id):
        with pytest.raises(
            UserError, match=f"no step has been logged yet; repro status {folder.id}"
        ):
            find_shown([word])
