"""`repro evals`: a line for everything that was evaluated here, of files of weights and of runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from repro.errors import UserError, nearest
from repro.harness.evaluation.names import PROTOCOLS
from repro.harness.evaluation.several import told_apart
from repro.harness.runs.evaluations import (
    Evaluation,
    read_evaluation,
    read_weights_evaluation,
)
from repro.harness.runs.store import RunFolder, find_runs

COLUMNS = ("when", "weights", "sha256", "data", "protocol", "numbers", "code")
NO_ANSWERS = (".request.json", ".failure.json")


@dataclass(frozen=True)
class Evaluated:
    """One answer.

    Attributes:
        weights: a file, or the name of a run's folder.
        run: its id; empty for files.
        code: the commit of the code that made it, with a plus where that was changed.
    """

    weights: str
    sha256: str
    run: str
    data: str
    root: str
    protocol: str
    metrics: Mapping[str, float | None]
    made: float
    code: str
    answer: Path

    def words(self) -> str:
        """In which a filter's words are looked for."""
        parts = (self.weights, self.sha256, self.run, self.data, self.root, self.protocol)
        return " ".join((*parts, self.code, *self.metrics)).lower()


SORTED: Mapping[str, Callable[[Evaluated], Any]] = {
    "when": lambda one: one.made,
    "weights": lambda one: (one.weights, one.data, one.protocol),
    "data": lambda one: (one.data, one.protocol, one.weights),
    "protocol": lambda one: (one.protocol, one.data, one.weights),
    "code": lambda one: (one.code, one.made),
}


def evaluated(results: Path) -> tuple[list[Evaluated], list[str]]:
    """All answers that can be read, and a line for each that cannot."""
    of_files = [(path, None) for path in sorted((results / "evaluations").glob("*.json"))]
    of_runs = [
        (path, folder)
        for folder in find_runs(results / "runs")
        for path in sorted((folder.path / "evaluations").glob("*.json"))
        if not path.name.endswith(NO_ANSWERS)
    ]
    found, notes = [], []
    for path, folder in [*of_files, *of_runs]:
        try:
            one = _of_run(path, folder) if folder else _of_weights(path)
        except UserError as damaged:
            notes.append(f"left out: {damaged}; repro eval makes it again")
        else:
            found += [one] if one else []
    return found, notes


def chosen(found: Sequence[Evaluated], words: Sequence[str], key: str) -> list[Evaluated]:
    """Those in which all words stand, sorted; by a metric the largest first.

    Raises:
        UserError: none of them has such a key.
    """
    kept = [one for one in found if all(word.lower() in one.words() for word in words)]
    if key in SORTED:
        return sorted(kept, key=SORTED[key])
    having = [one for one in kept if _number(one, key) is not None]
    if kept and not having:
        known = {*SORTED, *(name.partition("@")[0] for one in kept for name in one.metrics)}
        raise UserError(f"--sort {key}: none has that; nearest: {nearest(key, sorted(known))}")
    return sorted(having, key=lambda one: -(_number(one, key) or 0.0))


def table(found: Sequence[Evaluated]) -> tuple[list[str], list[list[str]]]:
    """Columns and lines, with the numbers of the official tier."""
    files = list(dict.fromkeys(one.weights for one in found if not one.run))
    short = dict(zip(files, told_apart(list(map(Path, files))), strict=True))
    lines = [
        [
            f"{datetime.fromtimestamp(one.made):%Y-%m-%d %H:%M}",
            short.get(one.weights, one.weights),
            one.sha256,
            one.data,
            one.protocol,
            _in_words(one),
            one.code,
        ]
        for one in found
    ]
    return list(COLUMNS), lines


def as_json(found: Sequence[Evaluated]) -> list[dict[str, Any]]:
    """For --json."""
    return [
        vars(one)
        | {"metrics": dict(one.metrics), "run": one.run or None, "answer": str(one.answer)}
        for one in found
    ]


def _of_weights(path: Path) -> Evaluated | None:
    made = read_weights_evaluation(path)
    if made is None:
        return None
    weights, data = made.weights, made.data
    return _line(path, made, weights.file, weights.sha256, "", data.name, data.root)


def _of_run(path: Path, folder: RunFolder) -> Evaluated | None:
    made = read_evaluation(path, folder.id)
    if made is None:
        return None
    asked = made.request
    data = (asked and asked.data) or folder.config().data.name
    return _line(path, made, folder.path.name, "", folder.id, data, asked.root if asked else "")


def _line(
    path: Path, made: Evaluation, weights: str, sha256: str, run: str, data: str, root: str
) -> Evaluated:
    env = made.env or {}
    code = f"{env.get('git_sha') or ''}"[:10] + ("+" if env.get("dirty") else "")
    protocol = made.protocol or path.stem
    when = made.made or path.stat().st_mtime
    return Evaluated(weights, sha256, run, data, root, protocol, made.metrics, when, code, path)


def _number(one: Evaluated, key: str) -> float | None:
    """By its name, without or with the benchmark's."""
    for name, value in one.metrics.items():
        if key in (name, name.partition("@")[0]):
            return value
    return None


def _in_words(one: Evaluated) -> str:
    known = PROTOCOLS.get(one.protocol)
    shown = known.metrics if known else ()
    numbers = ((name, _number(one, name)) for name in shown)
    return ", ".join(f"{name} {value:.4g}" for name, value in numbers if value is not None)
