"""Answers of rows by experiment, row and evidence, for the verdicts."""

from __future__ import annotations

from analysis.evidence.distance import Distance
from analysis.evidence.evidence import Evidence, load_evidence
from analysis.evidence.frames import reported_curve
from analysis.evidence.rows import PAPER, Cell
from repro.config.schema import RunConfig
from repro.harness.experiments.address import Address
from repro.harness.experiments.experiment import Experiment, Metric, Row, row_config
from repro.harness.runs.records import Record

__all__ = ["PAPER", "Cell", "Evidence", "load_evidence", "reported_curve"]


def config_of(experiment: Experiment, row: Row, scale: str, variant: str = "") -> RunConfig:
    return row_config(experiment, row, scale, 0, variant)


def runs_of(
    experiment: Experiment, row: Row, evidence: Evidence, variant: str = ""
) -> dict[int, Record]:
    return dict(evidence.of(experiment, row).runs(variant))


def cell(experiment: Experiment, row: Row, metric: str, evidence: Evidence) -> Cell:
    return evidence.of(experiment, row).cell(metric)


def row_distance(experiment: Experiment, row: Row, evidence: Evidence, variant: str) -> Distance:
    return evidence.of(experiment, row).distance(variant)


def resolve_row(address: str, evidence: Evidence) -> tuple[Experiment, Row]:
    row = evidence.row(address)
    return row.experiment, row.row


def resolve_metric(address: str, evidence: Evidence) -> Metric:
    named = Address.of_cell(address)
    return evidence.experiment(named.experiment).metric(named.metric)


def resolve(address: str, evidence: Evidence) -> Cell:
    return evidence.cell(address)
