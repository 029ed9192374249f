"""The paper beside its tables, `experiments/base/paper.yaml`: sources of its numbers, where it
disagrees with itself or with the authors' code, and what others measured who tried the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from repro.errors import UserError, nearest
from repro.harness.experiments.experiment import Experiment
from repro.harness.experiments.folders import experiments_dir
from repro.harness.experiments.keys import REQUIRED, Keys, check_keys, check_unique, read_yaml

FILE: Keys = {
    "sources": (dict, REQUIRED),
    "inconsistencies": (list, REQUIRED),
    "code_differences": (list, REQUIRED),
    "anchors": (list, REQUIRED),
}
INCONSISTENCY: Keys = {
    "id": (str, REQUIRED),
    "concerns": (list, REQUIRED),
    "what": (str, REQUIRED),
    "handling": (str, REQUIRED),
}
DIFFERENCE: Keys = {"item": (str, REQUIRED), "paper": (str, REQUIRED), "code": (str, REQUIRED)}
ANCHOR: Keys = {
    "what": (str, REQUIRED),
    "cells": (dict, {}),
    "beside": (dict, {}),
    "source": (str, REQUIRED),
}


@dataclass(frozen=True)
class Inconsistency:
    """Two places of the paper that disagree, and which one is followed."""

    id: str
    concerns: tuple[str, ...]
    what: str
    handling: str


@dataclass(frozen=True)
class CodeDifference:
    """What the paper says and what the authors' code does."""

    item: str
    paper: str
    code: str


@dataclass(frozen=True)
class Anchor:
    """An independent measurement; `cells` are the paper's that it comes closest to, by address."""

    what: str
    cells: Mapping[str, float]
    beside: Mapping[str, float]
    source: str


@dataclass(frozen=True)
class Paper:
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
    where = str(path)
    values = check_keys(read_yaml(path.read_text(encoding="utf-8")), FILE, where)
    entries = {
        "inconsistencies": [_entry(i, INCONSISTENCY, where) for i in values["inconsistencies"]],
        "code_differences": [_entry(i, DIFFERENCE, where) for i in values["code_differences"]],
        "anchors": [_entry(i, ANCHOR, where) for i in values["anchors"]],
    }
    check_unique([i["id"] for i in entries["inconsistencies"]], f"{where}: inconsistencies")
    for anchor in entries["anchors"]:
        if anchor["source"] not in values["sources"]:
            close = nearest(anchor["source"], values["sources"])
            raise UserError(
                f"{where}: {anchor['what']}: no source '{anchor['source']}'; nearest: {close}"
            )
    return Paper(
        sources=values["sources"],
        inconsistencies=tuple(
            Inconsistency(**i | {"concerns": tuple(i["concerns"])})
            for i in entries["inconsistencies"]
        ),
        code_differences=tuple(CodeDifference(**i) for i in entries["code_differences"]),
        anchors=tuple(Anchor(**i) for i in entries["anchors"]),
    )


def _entry(item: Any, keys: Keys, where: str) -> dict[str, Any]:
    return check_keys(item, keys, where)
