"""`repro runs`: a line a run, with its numbers and what tells it from the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from analysis.comparison.described import Described, of_folder, sentinel_words
from analysis.evidence.differences import in_words, set_apart
from repro.errors import UserError, nearest
from repro.harness.runs.store import RunFolder
from repro.harness.status.overview import Overview

NUMBERS = ("knn", "linear", "loss", "kl")  # columns, where any run has them
WORDS: dict[str, Callable[[Described], str]] = {
    "id": lambda run: run.id,
    "name": lambda run: run.row or run.slug,
    "scale": lambda run: run.scale,
    "state": lambda run: run.state,
    "sentinel": lambda run: run.sentinel,
}
COLUMNS = ("id", "run", "seed", "state", *NUMBERS, "sentinel", "differs in")


def described(folders: Iterable[RunFolder], seen: Overview) -> tuple[list[Described], list[str]]:
    """The runs in these folders, and a line a folder that cannot be read."""
    runs, notes = [], []
    for folder in folders:
        try:
            runs.append(of_folder(folder, str(seen.views[folder.id].state)))
        except UserError as error:
            notes.append(f"left out: {error}; repro rm {folder.id} removes it")
    return runs, notes


def apart(runs: Sequence[Described]) -> dict[str, dict[str, Any]]:
    """By run id what tells it from the others of its scale."""
    groups: dict[str, list[Described]] = defaultdict(list)
    for run in runs:
        groups[run.scale].append(run)
    return {
        run.id: differs
        for group in groups.values()
        for run, differs in zip(group, set_apart([r.config for r in group]), strict=True)
    }


def in_order(runs: Sequence[Described], key: str) -> list[Described]:
    """Sorted by a metric, the largest first, by a setting, a word or the time they were made.

    Raises:
        UserError: no run has such a thing.
    """
    if key == "created":
        return sorted(runs, key=lambda run: run.created)
    if key == "seed":
        return sorted(runs, key=lambda run: run.seed)
    if key in WORDS:
        return sorted(runs, key=WORDS[key])
    numbers = {run.id: run.metrics.get(key) for run in runs}
    if any(number is not None for number in numbers.values()):
        return sorted(runs, key=lambda run: _largest_first(numbers[run.id]))
    if any(key in run.config for run in runs):
        return sorted(runs, key=lambda run: _settings_order(run.config.get(key)))
    known = {*WORDS, "created", "seed", *(name for run in runs for name in run.metrics)}
    settings = {name for run in runs for name in run.config}
    close = nearest(key, sorted(known | settings))
    raise UserError(f"--sort {key}: no run has that; nearest: {close}")


def _largest_first(number: float | None) -> tuple[bool, float]:
    return number is None, -(number or 0.0)


def _settings_order(value: Any) -> tuple[bool, float, str]:
    number = isinstance(value, int | float)
    return value is None, float(value) if number else 0.0, str(value)


def table(runs: Sequence[Described]) -> tuple[list[str], list[list[str]]]:
    """Columns and lines; a column of numbers that no run has is left out."""
    differs = apart(runs)
    shown = [n for n in NUMBERS if any(run.metrics.get(n) is not None for run in runs)]
    columns = [c for c in COLUMNS if c not in NUMBERS or c in shown]
    lines = []
    for run in runs:
        numbers = [number_text(run.metrics.get(name)) for name in shown]
        name = _name(run)
        words = in_words(differs[run.id])
        lines.append([run.id, name, str(run.seed), run.state, *numbers, sentinel_words(run), words])
    return columns, lines


def _name(run: Described) -> str:
    """As short as it can be: the seed and the id stand in columns of their own."""
    name = run.slug.removesuffix(f"-s{run.seed}")
    return name + "".join(f" #{tag}" for tag in run.tags)


def number_text(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def as_json(runs: Sequence[Described]) -> list[dict[str, Any]]:
    """For --json."""
    differs = apart(runs)
    return [
        {
            "id": run.id,
            "slug": run.slug,
            "name": run.row,
            "tags": list(run.tags),
            "experiment": run.experiment,
            "scale": run.scale,
            "seed": run.seed,
            "state": run.state,
            "created": run.created,
            "sentinel": run.sentinel or None,
            "stopped_on": msgspec.to_builtins(run.stopped_on),
            "metrics": dict(run.metrics),
            "differs": differs[run.id],
            "folder": str(run.folder.path) if run.folder else None,
        }
        for run in runs
    ]
