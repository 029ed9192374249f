"""The evidence of one scale: this machine's own runs, the published ones, or both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import msgspec

from analysis.evidence.believed import Beside, Found, believe, found_in_files, found_in_runs
from analysis.evidence.rows import Cell, MeasuredRow, once
from analysis.evidence.sources import WORDS, Source, same_training
from repro.config.identity import run_ids
from repro.errors import UserError, nearest
from repro.harness.experiments.address import Address
from repro.harness.experiments.experiment import (
    Experiment,
    Metric,
    Row,
    experiment_ids,
    load,
)
from repro.harness.experiments.folders import experiments_dir, published_in, results_dir
from repro.harness.runs.published import Refusal
from repro.harness.runs.records import Record, with_evaluations
from repro.terminal import count


def published_dir(scale: str) -> Path:
    """Where the records of a scale are read."""
    return published_in(results_dir()) / scale


@dataclass(frozen=True, eq=False)
class Evidence:
    """All records of one scale that are believed, by run id, and what was refused."""

    scale: str
    records: Mapping[str, Record]
    source: Source = field(default=Source.published, kw_only=True)
    refused: tuple[Refusal, ...] = field(default=(), kw_only=True)
    places: Mapping[str, str] = field(default_factory=dict, kw_only=True)  # where a record lies
    twice: tuple[str, ...] = field(default=(), kw_only=True)  # own runs that are published too
    beside: Mapping[str, Beside] = field(default_factory=dict, kw_only=True)  # by run id

    def __str__(self) -> str:
        """Which evidence this is, in words."""
        number = len(self.records)
        words = WORDS[self.source] if number != 1 else WORDS[self.source].removesuffix("s")
        said = f"{number} {words} at {self.scale} scale"
        if self.twice:
            said += (
                f"; {len(self.twice)} of them were trained here and published, from different "
                "trainings: the published ones are counted (repro replicate compares them)"
            )
        return said

    @cached_property
    def seeds(self) -> list[int]:
        return sorted({run.seed for run in self.records.values()})

    @property
    def faults(self) -> list[Refusal]:
        """What was refused although it was meant to be evidence."""
        return [refusal for refusal in self.refused if not refusal.expected]

    @cached_property
    def absent(self) -> list[str]:
        """Numbers that were not finite: they have no part in any mean."""
        return [
            f"{key} of {run.slug}"
            for run in self.records.values()
            for key, value in run.metrics.items()
            if value is None
        ]

    @cached_property
    def committed(self) -> Evidence:
        """What committed code has made: on nothing else can a claim rest."""
        records = {i: _of_committed_code(run) for i, run in self.records.items()}
        if all(records[i] is run for i, run in self.records.items()):
            return self
        return replace(self, records={i: run for i, run in records.items() if run})

    def remarks(self, verbose: bool = False) -> list[str]:
        """What has no part in it, for people: counted, the first named, or all."""
        lines = []
        if self.refused:
            pilots = len(self.refused) - len(self.faults)
            of_them = f", {pilots} of them pilots" if pilots else ""
            first = "" if verbose or not self.faults else f": {self.faults[0]}"
            lines.append(f"{count(len(self.refused), 'record')} refused{of_them}{first}")
            lines += [f"  {refusal}" for refusal in self.refused if verbose]
        if self.absent:
            named = self.absent if verbose else self.absent[:1]
            more = "" if len(named) == len(self.absent) else " and others"
            absent = count(len(self.absent), "number")
            lines.append(f"{absent} absent, being not finite: {', '.join(named)}{more}")
        if uncommitted := len(self.records) - len(self.committed.records):
            runs = count(uncommitted, "run")
            lines.append(f"{runs} of uncommitted code: no claim rests on them")
        return lines

    def also_there(self, names: Sequence[str]) -> list[str]:
        """Runs of one's own that have the settings of rows of these experiments and do not count:
        a submission declares its seeds, and these were none of them.
        """
        seeds = sorted({one.seed for one in self.beside.values()})
        found = {
            identity: self.beside[identity].slug
            for row in (row for name in names for row in self.rows(self.experiment(name)))
            if seeds and not row.missing
            for variant in row.experiment.runs_a_row
            for identity in run_ids(row.config(variant), seeds)
            if identity in self.beside
        }
        return list(found.values())

    @cached_property
    def _rows(self) -> dict[tuple[Path, str], MeasuredRow]:
        return {}

    @once
    def experiment(self, name: str) -> Experiment:
        return load(name)

    def judged_with(self, experiment: Experiment) -> tuple[Experiment, ...]:
        """The experiments whose claims make one family with those of this one: all of the paper's,
        if it is one of them, else itself."""
        if experiment.path.parent != experiments_dir():
            return (experiment,)
        return tuple(self.experiment(name) for name in experiment_ids())

    def rows(self, experiment: Experiment) -> list[MeasuredRow]:
        """All rows of an experiment, in the order of its file."""
        return [self.of(experiment, row) for row in experiment.rows]

    def of(self, experiment: Experiment, row: Row) -> MeasuredRow:
        """A row, the same object every time."""
        key = experiment.path, row.name
        if key not in self._rows:
            self._rows[key] = MeasuredRow(experiment, row, self.scale, self.records, self.seeds)
        return self._rows[key]

    def knowing(self, other: Evidence) -> Evidence:
        """Itself; what the other has composed of rows at this scale is not composed again."""
        assert other.scale == self.scale, "configs of another scale"
        for key, row in other._rows.items():
            self._rows[key] = row.among(self.records, self.seeds)
        return self

    def row(self, address: str | Address) -> MeasuredRow:
        """The row that `T7.r1` names.

        Raises:
            UserError: no such experiment or row.
        """
        if isinstance(address, str):
            address = Address.of_row(address)
        experiment = self.experiment(address.experiment)
        return self.of(experiment, experiment.row(address.row))

    def metric(self, address: str | Address) -> Metric:
        """The column of the cell that `T7.r1.knn` names.

        Raises:
            UserError: no such experiment or metric.
        """
        if isinstance(address, str):
            address = Address.of_cell(address)
        return self.experiment(address.experiment).metric(address.metric)

    def cell(self, address: str | Address) -> Cell:
        """The cell that `T7.r1.knn` names.

        Raises:
            UserError: no such experiment, row or metric.
        """
        if isinstance(address, str):
            address = Address.of_cell(address)
        return self.row(address).cell(address.metric)


def _of_committed_code(run: Record) -> Record | None:
    """The record itself where nothing of it was made otherwise."""
    if not run.env.committed:
        return None
    others = [made for made in run.evaluations.values() if not made.env.committed]
    if not others:
        return run
    lost = {key for made in others for key in made.metrics}
    metrics = {key: value for key, value in run.metrics.items() if key not in lost}
    kept = {name: made for name, made in run.evaluations.items() if made.env.committed}
    return msgspec.structs.replace(run, metrics=metrics, evaluations=kept)


def load_evidence(scale: str, source: Source | None = None, asked: Sequence[str] = ()) -> Evidence:
    """What is believed at a scale.

    Args:
        source: whose runs; by default this machine's own where an experiment of `asked` (by
            default any) has some, else the published ones.

    Raises:
        UserError: no such scale.
    """
    scales = sorted(path.stem for path in (experiments_dir() / "scales").glob("*.yaml"))
    if scale not in scales:
        raise UserError(
            f"--scale {scale}: no such file in {experiments_dir() / 'scales'}; "
            f"nearest: {nearest(scale, scales)}"
        )
    if source is Source.published:
        return published_evidence(scale)
    own = _own_evidence(scale)
    if source is Source.own or (source is None and _has_runs(own, asked)):
        return own
    published = published_evidence(scale)
    if source is None:  # what of one's own is damaged is said, too
        refused = (*own.faults, *published.refused)
        return replace(published, beside=own.beside, refused=refused).knowing(own)
    return _together(own, published)


def published_evidence(scale: str) -> Evidence:
    """What is believed of published/<scale>/."""
    found = found_in_files(published_dir(scale))
    return _evidence(scale, Source.published, found)


def _own_evidence(scale: str) -> Evidence:
    found = found_in_runs(results_dir() / "runs", scale)
    return _evidence(scale, Source.own, found)


def _evidence(scale: str, source: Source, found: Found) -> Evidence:
    believed = believe(found, scale)
    places = {one.line.id: one.where for one in found.runs.candidates}
    return Evidence(
        scale,
        believed.records,
        source=source,
        refused=believed.refused,
        places=places,
        beside=found.beside,
    )


def _has_runs(evidence: Evidence, asked: Sequence[str]) -> bool:
    if not evidence.records or not asked:
        return bool(evidence.records)
    return any(row.all_runs for name in asked for row in evidence.rows(evidence.experiment(name)))


def _together(own: Evidence, published: Evidence) -> Evidence:
    """Records of both. Of an id that both have only the published one counts, with what was
    evaluated since where it is the same training; if it is another one, `twice` names it.
    """
    records = {**own.records, **published.records}
    twice = []
    for identity in own.records.keys() & published.records.keys():
        mine, theirs = own.records[identity], published.records[identity]
        if same_training(mine, theirs):
            later = [e for name, e in mine.evaluations.items() if name not in theirs.evaluations]
            records[identity] = with_evaluations(theirs, later)
        else:
            twice.append(identity)
    return Evidence(
        own.scale,
        records,
        source=Source.all,
        refused=(*own.refused, *published.refused),
        places={**own.places, **published.places},
        twice=tuple(sorted(twice)),
        beside=own.beside,
    )
