"""What all rows of a body of evidence measured, as one table for each quantity.

A row here is a set of runs: rows of several experiments that ask for the same runs are one, and
count once. Its name is `MeasuredRow.identity`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from analysis.evidence.evidence import Evidence
from analysis.evidence.model import Table
from analysis.evidence.rows import MeasuredRow, once
from analysis.evidence.stats import sampling_floor
from repro.harness.experiments.address import Address
from repro.harness.experiments.experiment import Experiment, Metric
from repro.harness.runs.records import NotMeasured, Record

COUNTED = ("knn", "student_knn", "linear", "logistic", "finetune", "scratch")  # shares of images
LIKE_A_PRODUCT = ("1/s", "h", "G", "M")  # units of quantities that vary by a share of themselves


@dataclass(frozen=True)
class Quantity:
    """A number of a run, on the scale on which seeds vary alike whatever its size.

    `scaled` leads to that scale, of values and of limits; `shown` leads back, to words for a value.
    `at_any_end`: whether a run that ended early has it as well, being a state that it was in.
    """

    name: str
    raw: Callable[[Record], float]
    floor: Callable[[Record], float]
    shown: Callable[[float], str]
    scaled: Callable[[float], float] = float
    at_any_end: bool = True

    def of(self, run: Record) -> float:
        return self.scaled(self.raw(run))


@dataclass(frozen=True, eq=False)
class Measured:
    """Tables of some experiments, made when they are asked for."""

    evidence: Evidence
    experiments: Sequence[Experiment]

    @cached_property
    def rows(self) -> list[tuple[MeasuredRow, str]]:
        """Every row that has runs, with each of its variants."""
        return [
            (row, variant)
            for experiment in self.experiments
            for row in self.evidence.rows(experiment)
            for variant in experiment.runs_a_row
            if row.runs(variant)
        ]

    @cached_property
    def apart(self) -> frozenset[str]:
        """Rows with a run that has collapsed or diverged."""
        return frozenset(
            row.identity(variant)
            for row, variant in self.rows
            if any(not run.sentinel.healthy for run in row.runs(variant).values())
        )

    @once
    def cells(self, source: str, logarithms: bool) -> Table:
        """Of one metric in the cells of all tables; of a product's logarithm, if asked for."""
        values: dict[str, Mapping[int, float]] = {}
        floors: dict[str, float] = {}
        for row, variant in self.rows:
            for metric in row.experiment.metrics:
                if metric.variant != variant or source_of(row, metric) != source:
                    continue
                if ended_early(row, metric):
                    continue
                measured = row.cell(metric.key).values
                if not measured or (logarithms and min(measured.values()) <= 0):
                    continue
                name = identity_of(row, metric)
                values[name] = {
                    s: math.log(v) if logarithms else float(v) for s, v in measured.items()
                }
                floors[name] = 0.0 if logarithms else floor_of(row, metric)
        name = f"log {source}" if logarithms else source
        return Table(name, values, self._apart_of(values), floors)

    @once
    def pattern(self, sources: tuple[tuple[str, float], ...]) -> Table:
        """Of a weighted sum of metrics of the same runs, e.g. linear minus k-NN."""
        tables = [(self.cells(source, False), weight) for source, weight in sources]
        values, floors = {}, {}
        for name in set.intersection(*(set(table.values) for table, _ in tables)):
            seeds = set.intersection(*(set(table.values[name]) for table, _ in tables))
            if seeds:
                values[name] = {
                    seed: sum(w * table.values[name][seed] for table, w in tables)
                    for seed in sorted(seeds)
                }
                floors[name] = math.sqrt(sum((w * t.floors.get(name, 0)) ** 2 for t, w in tables))
        words = " ".join(f"{weight:+g} {source}" for source, weight in sources)
        return Table(words, dict(sorted(values.items())), self._apart_of(values), floors)

    @once
    def runs(self, quantity: Quantity) -> Table:
        """Of a number that every run has by itself; of those that have it."""
        values: dict[str, Mapping[int, float]] = {}
        floors: dict[str, float] = {}
        for row, variant in self.rows:
            if row.stopped(variant) and not quantity.at_any_end:
                continue
            by_seed, least = {}, 0.0
            for seed, run in row.runs(variant).items():
                try:
                    by_seed[seed] = quantity.of(run)
                except NotMeasured:
                    continue
                least = max(least, quantity.floor(run))
            if by_seed:
                name = row.identity(variant)
                values[name], floors[name] = by_seed, least
        return Table(quantity.name, values, self._apart_of(values), floors)

    def _apart_of(self, values: Mapping[str, object]) -> frozenset[str]:
        """A difference of two rows (`identity_of`) stands apart where either does."""
        return frozenset(name for name in values if self.apart & set(name.split("-")))


def source_of(row: MeasuredRow, metric: Metric) -> str:
    """Which metric of its runs, or difference of two, a cell of the row is."""
    if not metric.difference:
        return row.source(metric.key)
    columns = (row.experiment.metric(key) for key in metric.difference)
    return " - ".join(row.source(column.key) for column in columns)


def identity_of(row: MeasuredRow, metric: Metric) -> str:
    """Which runs a cell rests on."""
    columns = [row.experiment.metric(key) for key in metric.difference] or [metric]
    return "-".join(row.identity(column.variant) for column in columns)


def ended_early(row: MeasuredRow, metric: Metric) -> bool:
    """Whether a run that a cell rests on did."""
    columns = [row.experiment.metric(key) for key in metric.difference] or [metric]
    return any(row.stopped(column.variant) for column in columns)


def is_product(metric: Metric) -> bool:
    """Whether a quantity is compared by its logarithm."""
    return metric.unit in LIKE_A_PRODUCT


def cell_of(evidence: Evidence, address: str) -> tuple[MeasuredRow, Metric]:
    return evidence.row(Address.of_cell(address)), evidence.metric(address)


def counting_floor(run: Record, *metrics: str) -> float:
    """What a sum or difference of accuracies of a run varies by with its test images alone."""
    images = run.counts.test_images
    if not images:
        return 0.0
    shares = [value for metric in metrics if (value := run.metrics.get(metric)) is not None]
    return math.sqrt(sum(sampling_floor(share, images) ** 2 for share in shares))


def floor_of(row: MeasuredRow, metric: Metric) -> float:
    """What a value of a cell varies by with its test images alone, at most.

    Other benchmarks, named behind an @, count images that the record does not number."""
    columns = [row.experiment.metric(key) for key in metric.difference] or [metric]
    squares = 0.0
    for column in columns:
        source = row.source(column.key)
        if "@" in source or (source.partition("_")[0] not in COUNTED and source not in COUNTED):
            continue
        runs = row.runs(column.variant).values()
        squares += max((counting_floor(run, source) for run in runs), default=0.0) ** 2
    return math.sqrt(squares)
