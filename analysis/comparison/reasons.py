"""`repro why-new`: which settings make two runs two.

A run's id is a hash of its settings. Where a row of an experiment is "new" although it was run
before, its settings of today are not those of the folder; this says which.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.comparison.described import Described, of_folder
from analysis.evidence.differences import Flat, differences, flat_identity, value_text
from repro.config.compose import to_plain
from repro.config.identity import run_ids
from repro.errors import UserError
from repro.harness.experiments.experiment import experiment_ids, row_config, run_name, select
from repro.harness.runs.store import RunFolder, find_runs
from repro.harness.status.find import find


@dataclass(frozen=True)
class Side:
    """A run here, or a row as its file has it today."""

    name: str
    id: str
    config: Flat


@dataclass(frozen=True)
class Reasons:
    one: Side
    other: Side

    @property
    def differ(self) -> dict[str, tuple[Any, Any]]:
        return differences(self.one.config, self.other.config)

    def lines(self) -> list[str]:
        said = [f"A {self.one.id}  {self.one.name}", f"B {self.other.id}  {self.other.name}"]
        if self.one.id == self.other.id:
            return [*said, "one run: their settings are the same"]
        if not self.differ:
            why = "another version of the identity made one of the ids: their settings are the same"
            return [*said, why]
        pairs = self.differ.items()
        return [*said, *(f"{key}: {value_text(a)} -> {value_text(b)}" for key, (a, b) in pairs)]

    def as_json(self) -> dict[str, Any]:
        return {
            "a": {"id": self.one.id, "name": self.one.name},
            "b": {"id": self.other.id, "name": self.other.name},
            "differ": {key: list(pair) for key, pair in self.differ.items()},
        }


def reasons(one: str, other: str | None, scale: str, seed: int, results: Path) -> Reasons:
    """Why two are two; of a row alone, why it is not the run that was made for it before.

    Raises:
        UserError: a word means no run, or several; no run was made for the row.
    """
    first = _side(one, scale, seed, results)
    if other is not None:
        return Reasons(first, _side(other, scale, seed, results))
    if not _is_row(one):
        raise UserError(f"why-new {one}: name a second run, or a row (T7:r2) alone")
    return Reasons(_made_before(one, scale, seed, results), first)


def _is_row(word: str) -> bool:
    return word.partition(":")[0] in experiment_ids()


def _side(word: str, scale: str, seed: int, results: Path) -> Side:
    if _is_row(word):
        return _of_row(word, scale, seed)
    folders, seen = find([word], results)
    if len(folders) > 1:
        named = ", ".join(folder.id for folder in folders[:4])
        raise UserError(f"'{word}' means {len(folders)} runs ({named}, ...); name one")
    return _of_run(of_folder(folders[0], str(seen.views[folders[0].id].state)))


def _of_run(run: Described) -> Side:
    return Side(run.slug, run.id, run.config)


def _of_row(word: str, scale: str, seed: int) -> Side:
    """Its first variant, as `repro plan` would run it now."""
    chosen = [(experiment, row) for experiment, rows in select([word]) for row in rows]
    if len(chosen) != 1:
        raise UserError(f"'{word}' means {len(chosen)} rows; name one, as in T7:r2")
    experiment, row = chosen[0]
    if why := row.why_not(scale):
        raise UserError(f"{word} has no run at scale {scale}: {why}")
    variant = experiment.runs_a_row[0]
    config = row_config(experiment, row, scale, seed, variant)
    (identity,) = run_ids(config, [seed])
    name = f"{experiment.id}:{run_name(row, variant)} as it is now, {scale}, seed {seed}"
    return Side(name, identity, flat_identity(to_plain(config)) | {"seed": seed})


def _made_before(word: str, scale: str, seed: int, results: Path) -> Side:
    """The latest run here that was made for this row, at this scale and seed."""
    name, _, row = word.partition(":")
    made = [f for f in find_runs(results / "runs") if _was_for(f, name, row, scale, seed)]
    if not made:
        raise UserError(f"{word}: no run was made for it at scale {scale} with seed {seed}")
    latest = max(made, key=lambda folder: folder.told().created or 0.0)
    return _of_run(of_folder(latest, ""))


def _was_for(folder: RunFolder, experiment: str, row: str, scale: str, seed: int) -> bool:
    run = folder.told()
    its_row = run.row.partition(".")[0]
    same = (run.experiment, run.scale, run.seed) == (experiment, scale, seed)
    return same and row in (run.row, its_row)
