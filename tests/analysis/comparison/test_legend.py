"""Runs that are called alike are told apart in a picture by their settings."""

from __future__ import annotations

from pathlib import Path

from analysis.figures.runs import draw_runs, find_shown
from tests.analysis.comparison.made import make_own
from tests.cli.conftest import results

__all__ = ["results"]


def test_own_runs_of_one_name_have_what_differs_in_the_legend(results: Path) -> None:
    make_own(results, name="mine")
    make_own(results, {"optim.lr": 0.5}, name="mine")
    figure = draw_runs(find_shown(["mine"]))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sum("lr=0.5" in label for label in labels) == 1
    assert len(set(labels)) == 2
