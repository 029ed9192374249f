"""The evidence of one scale: published records, then finished run folders that they lack."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from analysis.evidence.rows import Cell, MeasuredRow, once
from repro.errors import UserError, nearest
from repro.harness.experiments.address import Address
from repro.harness.experiments.experiment import Experiment, Metric, Row, load
from repro.harness.experiments.folders import experiments_dir, results_dir
from repro.harness.runs.records import (
    PublishedEvaluation,
    Record,
    evaluations_of,
    read_evaluations,
    read_records,
    record,
    with_evaluations,
)
from repro.harness.runs.store import find_runs


def published_dir(scale: str) -> Path:
    return results_dir() / "published" / scale


@dataclass(frozen=True, eq=False)
class Evidence:
    """All records of one scale, by run id."""

    scale: str
    records: Mapping[str, Record]

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
    records = published_records(scale)
    if not published_only:
        for folder in find_runs(results_dir() / "runs"):
            if folder.result() is None:
                continue
            known = records.get(folder.id) or record(folder)
            if known.scale == scale:
                records[folder.id] = with_evaluations(known, evaluations_of(folder))
    return Evidence(scale, records)


def published_records(scale: str) -> dict[str, Record]:
    """The records of published/<scale>/, with the evaluations published since, by run id."""
    folder = published_dir(scale)
    records = {run.id: run for run in read_records(folder / "records.jsonl")}
    later: dict[str, list[PublishedEvaluation]] = defaultdict(list)
    for one in read_evaluations(folder / "evaluations.jsonl"):
        later[one.run].append(one)
    return records | {i: with_evaluations(records[i], later[i]) for i in later if i in records}
