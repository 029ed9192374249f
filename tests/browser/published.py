"""The published records read and counted by other means than the analysis."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import yaml

PILOTS = 100  # the first seed with which settings were chosen; such runs are no evidence
T_OF_THREE = 4.302652729911275  # 97.5 % point of Student's t with two degrees of freedom


class Published:
    """Records of the laptop scale by run id, and the experiment files as they are written."""

    def __init__(self, repository: Path) -> None:
        folder = repository / "results" / "published" / "laptop"
        records = _lines(folder, "records")
        self.runs: dict[str, dict[str, Any]] = {r["id"]: r for r in records if r["seed"] < PILOTS}
        for line in _lines(folder, "evaluations"):
            if line["run"] not in self.runs:
                continue
            self.runs[line["run"]]["metrics"].update(line["metrics"])
            self.runs[line["run"]].setdefault("shas", {})[line["name"]] = line["env"]["git_sha"]
        self.experiments: dict[str, dict[str, Any]] = {
            path.stem: yaml.safe_load(path.read_text())
            for path in (repository / "experiments").glob("*.yaml")
        }

    def siblings(self, run: str) -> set[str]:
        """The runs with the very config of `run`, whatever their seed."""
        return {i for i, other in self.runs.items() if self._config(i) == self._config(run)}

    def values(self, address: str, runs: list[str], tier: str = "") -> list[float]:
        """What the runs measured for a cell."""
        number, at, data = self.source(*address.split(":")).partition("@")
        source = f"{number}{tier}{at}{data}"
        return [self.runs[run]["metrics"][source] for run in runs]

    def source(self, name: str, row: str, metric: str) -> str:
        column = self.column(name, metric)
        own: dict[str, str] = self.row(name, row).get("of", {})
        return own.get(metric) or column.get("of") or metric

    def row(self, name: str, row: str) -> dict[str, Any]:
        return next(one for one in self.experiments[name]["rows"] if one["name"] == row)

    def column(self, name: str, metric: str) -> dict[str, Any]:
        return next(one for one in self.experiments[name]["metrics"] if one["key"] == metric)

    def reported(self, address: str) -> str:
        """The paper's number as it prints it."""
        name, row, metric = address.split(":")
        value = self.row(name, row).get("reported", {}).get(metric)
        return "-" if value is None else f"{value:.{self.column(name, metric)['decimals']}f}"

    def _config(self, run: str) -> dict[str, Any]:
        return self.runs[run]["config"] | {"seed": None}


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def half_width_of_three(values: list[float]) -> float:
    a, b, c = values
    middle = (a + b + c) / 3
    variance = sum((value - middle) ** 2 for value in values) / 2
    return T_OF_THREE * math.sqrt(variance / 3)


def _lines(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
