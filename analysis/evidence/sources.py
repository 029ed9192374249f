"""Whose runs are shown: this machine's own, the published ones, or both beside each other."""

from __future__ import annotations

from enum import StrEnum

from repro.harness.runs.records import Record


class Source(StrEnum):
    own = "own"  # finished run folders
    published = "published"  # results/published
    all = "all"


WORDS = {
    Source.own: "own runs",
    Source.published: "published runs",
    Source.all: "own and published runs",
}


def same_training(one: Record, other: Record) -> bool:
    """Whether two records of one id are of the same training, rather than of a repetition."""
    return one.times.started == other.times.started and one.curves == other.curves
