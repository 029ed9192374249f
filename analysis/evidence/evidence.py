"""The evidence of one scale: published records, then finished run folders that they lack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from analysis.evidence.believed import Believed, believe, found_in_files, found_in_runs
from analysis.evidence.rows import Cell, MeasuredRow, once
from repro.errors import UserError, nearest
from repro.harness.experiments.address import Address
from repro.harness.experiments.experiment import Experiment, Metric, Row, load
from repro.harness.experiments.folders import experiments_dir, results_dir
from repro.harness.runs.published import Refusal
from repro.harness.runs.records import Record, with_evaluations


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
