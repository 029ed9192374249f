"""The paper beside its tables, `experiments/base/paper.yaml`: sources of its numbers, where it
disagrees with itself or with the authors' code, and what others measured who tried the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from msgspec import field

from repro.decode import Strict, check_unique, decode, read_yaml
from repro.errors import UserError, nearest
from repro.harness.experiments.experiment import Experiment
from repro.harness.experiments.folders import experiments_dir


class Inconsistency(Strict, frozen=True, kw_only=True):
    """Two places of the paper that disagree, and which one is followed."""

    id: str
    concerns: tuple[str, ...]
    what: str
    handling: str


class CodeDifference(Strict, frozen=True, kw_only=True):
    """What the paper says and what the authors' code does."""

    item: str
    paper: str
    code: str


class Anchor(Strict, frozen=True, kw_only=True):
    """An independent measurement; `cells` are the paper's that it comes closest to, by address,
    `beside` its other numbers.
    """

    what: str
    cells: Mapping[str, float] = field(default_factory=dict)
    beside: Mapping[str, float] = field(default_factory=dict)
    source: str


class Paper(Strict, frozen=True, kw_only=True):
    """Sources by their short names, and lists of everything else."""

    sources: Mapping[str, str]
    inconsistencies: tuple[Inconsistency, ...]
    code_differences: tuple[CodeDifference, ...]
    anchors: tuple[Anchor, ...]

    def concerning(self, experiment: Experiment) -> list[Inconsistency]:
        return [one for one in self.inconsistencies if experiment.id in one.concerns]

    def anchors_of(self, address: str) -> list[tuple[float, Anchor]]:
        """What others measured for a cell such as `T7.r1.knn`."""
        return [(a.cells[address], a) for a in self.anchors if address in a.cells]


def read_paper() -> Paper:
    """Raises UserError: an unknown or missing key or source; names the file and the entry."""
    return _read(experiments_dir() / "base" / "paper.yaml")


@cache
def _read(path: Path) -> Paper:
    paper = decode(read_yaml(path), Paper, str(path))
    check_unique([entry.id for entry in paper.inconsistencies], f"{path}: inconsistencies")
    for anchor in paper.anchors:
        if anchor.source not in paper.sources:
            raise UserError(
                f"{path}: {anchor.what}: no source '{anchor.source}'; "
                f"nearest: {nearest(anchor.source, paper.sources)}"
            )
    return paper
