"""The evidence of one scale: published records, then finished run folders that they lack."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import msgspec

from analysis.evidence.believed import Believed, believe, found_in_files, found_in_runs
from analysis.evidence.rows import Cell, MeasuredRow, once
from repro.errors import UserError, nearest
from repro.harness.experiments.address import Address
from repro.harness.experiments.experiment import Experiment, Metric, Row, load
from repro.harness.experiments.folders import experiments_dir, results_dir
from repro.harness.runs.published import Refusal
from repro.harness.runs.records import Record, with_evaluations
from repro.terminal import count


def published_dir(scale: str) -> Path:
    return results_dir() / "published" / scale


@dataclass(frozen=True, eq=False)
class Evidence:
    """All records of one scale that are believed, by run id, and what was refused."""

    scale: str
    records: Mapping[str, Record]
    refused: tuple[Refusal, ...] = field(default=(), kw_only=True)

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

    @cached_property
    def _rows(self) -> dict[tuple[Path, str], MeasuredRow]:
        return {}

    @once
    def experiment(self, name: str) -> Experiment:
        return load(name)

    def rows(self, experiment: Experiment) -> list[MeasuredRow]:
        """All rows of an experiment, in the order of its file."""
        return [self.of(experiment, row) for row in experiment.rows]

    def of(self, experiment: Experiment, row: Row) -> MeasuredRow:
        """A row, the same object every time."""
        key = experiment.path, row.name
        if key not in self._rows:
            self._rows[key] = MeasuredRow(experiment, row, self.scale, self.records, self.seeds)
        return self._rows[key]

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


def tell(evidence: Evidence) -> Evidence:
    """Say on standard error what was refused that should not have been, and what is absent."""
    if evidence.faults or evidence.absent:
        for line in evidence.remarks():
            print(line, file=sys.stderr)
    return evidence


def load_evidence(scale: str, published_only: bool = False) -> Evidence:
    """The published records of `scale` and the finished run folders they lack.

    Raises:
        UserError: no such scale.
    """
    scales = sorted(path.stem for path in (experiments_dir() / "scales").glob("*.yaml"))
    if scale not in scales:
        raise UserError(
            f"--scale {scale}: no such file in {experiments_dir() / 'scales'}; "
            f"nearest: {nearest(scale, scales)}"
        )
    believed = published(scale)
    records, refused = dict(believed.records), list(believed.refused)
    if not published_only:
        own = believe(found_in_runs(results_dir() / "runs", scale), scale)
        refused += own.refused
        for identity, run in own.records.items():
            known = records.get(identity, run)
            records[identity] = with_evaluations(known, run.evaluations.values())
    return Evidence(scale, records, refused=tuple(refused))


def published(scale: str) -> Believed:
    """What is believed of published/<scale>/."""
    return believe(found_in_files(published_dir(scale)), scale)
