"""Rows with what a body of evidence has of them: runs, cells, configs.

A record belongs to a row of an experiment when its id is the run id of that row's config at that
scale and seed. Nothing else is matched: a run that another table asked for serves this one too,
and a run whose config has since changed serves none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from analysis.evidence.distance import Distance, protocol_distance
from repro.config.identity import canonical, run_ids
from repro.config.schema import RunConfig
from repro.harness.evaluation.names import clean_tier
from repro.harness.experiments.address import Address
from repro.harness.experiments.experiment import Experiment, Metric, Row, row_config
from repro.harness.experiments.missing import NOT_MEASURED, NOT_RUN, Missing
from repro.harness.runs.records import Record

PAPER = "paper"
KEPT = "_once_{}"  # where an object has the answers of a method
S = TypeVar("S")
P = ParamSpec("P")
R = TypeVar("R")


def once(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """A method whose answer for the same arguments is found once an object, and goes with it."""
    kept = KEPT.format(method.__name__)

    @wraps(method)
    def answer(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        answers: dict[object, R] = self.__dict__.setdefault(kept, {})
        key = (args, *kwargs.items())
        if key not in answers:
            answers[key] = method(self, *args, **kwargs)
        return answers[key]

    return answer


def share_answers(method: str, one: object, other: object) -> None:
    """Let both have what either was answered by a method of `once`."""
    other.__dict__[KEPT.format(method)] = one.__dict__.setdefault(KEPT.format(method), {})


@dataclass(frozen=True)
class Cell:
    """Row x metric: what the paper prints and what each seed gave us.

    `missing` says why there is no value of ours; it is None where there is one.
    """

    address: Address
    reported: float | None
    values: Mapping[int, float]
    runs: Mapping[int, str]
    missing: Missing | None

    @property
    def mean(self) -> float | None:
        """Over our seeds; None where there are none."""
        return sum(self.values.values()) / len(self.values) if self.values else None


@dataclass(frozen=True, eq=False)
class MeasuredRow:
    """One row of an experiment among all records of a scale, by run id.

    Tables, figures, claims and verdicts ask for the same answers many times: each is found once.
    """

    experiment: Experiment
    row: Row
    scale: str
    records: Mapping[str, Record]
    seeds: Sequence[int]

    def among(self, records: Mapping[str, Record], seeds: Sequence[int]) -> MeasuredRow:
        """The row among other records, with the configs that were composed of it."""
        row = replace(self, records=records, seeds=seeds)
        share_answers("config", self, row)
        return row

    @property
    def name(self) -> str:
        return self.row.name

    @property
    def address(self) -> Address:
        return Address(self.experiment.id, self.row.name)

    @property
    def missing(self) -> Missing | None:
        """Why it has no run at this scale, where it is not meant to have any."""
        return self.row.why_not(self.scale)

    @once
    def config(self, variant: str = "") -> RunConfig:
        """The composed config of a variant, by default the first, at seed 0."""
        variant = variant or self.experiment.runs_a_row[0]
        return row_config(self.experiment, self.row, self.scale, 0, variant)

    @once
    def identity(self, variant: str = "") -> str:
        """The same for every row, of whatever experiment, that has the same runs."""
        return run_ids(self.config(variant), [0])[0]

    @once
    def paper_config(self, variant: str = "") -> RunConfig:
        """That of the paper's own row."""
        variant = variant or self.experiment.runs_a_row[0]
        return row_config(self.experiment, self.row, PAPER, 0, variant)

    @once
    def distance(self, variant: str = "") -> Distance:
        """How far the config is from that of the paper's own row."""
        ours, paper = self.config(variant), self.paper_config(variant)
        return protocol_distance(canonical(ours), canonical(paper))

    @once
    def runs(self, variant: str = "") -> Mapping[int, Record]:
        """The records of a variant, by default the first, by seed."""
        if self.missing or not self.records:
            return {}
        ids = zip(self.seeds, run_ids(self.config(variant), self.seeds), strict=True)
        known = {seed: self.records.get(identity) for seed, identity in ids}
        return {seed: run for seed, run in known.items() if run is not None}

    @once
    def stopped(self, variant: str = "") -> list[Record]:
        """Its runs that ended early: nothing of theirs is of the end of a training, and to judge
        the others alone would be to choose them by what they came to.
        """
        return [run for run in self.runs(variant).values() if run.stopped_on]

    @property
    def all_runs(self) -> list[Record]:
        """The records of all variants and seeds."""
        by_variant = (self.runs(variant) for variant in self.experiment.runs_a_row)
        return [run for runs in by_variant for run in runs.values()]

    def source(self, key: str) -> str:
        """Which metric of its runs a column is."""
        return self.row.measured.get(key, self.experiment.metric(key).measured)

    @once
    def cell(self, key: str) -> Cell:
        """One cell; a run in which the metric is missing or not finite has no part in it."""
        column = self.experiment.metric(key)
        return (
            self._difference(column)
            if column.difference
            else self._measured(column, self.source(key))
        )

    @once
    def clean_cell(self, key: str) -> Cell | None:
        """The same cell in the clean tier; None where tiers do not differ."""
        source = clean_tier(self.source(key))
        return self._measured(self.experiment.metric(key), source) if source else None

    def _measured(self, column: Metric, source: str) -> Cell:
        runs = self.runs(column.variant)
        values = {seed: run.metrics.get(source) for seed, run in runs.items()}
        measured = {seed: float(value) for seed, value in values.items() if value is not None}
        missing = self.missing
        if not missing and not measured:
            missing = NOT_MEASURED if runs else NOT_RUN
        return Cell(
            address=replace(self.address, metric=column.key),
            reported=self.row.reported.get(column.key),
            values=measured,
            runs={seed: runs[seed].id for seed in measured},
            missing=missing,
        )

    def _difference(self, column: Metric) -> Cell:
        """One column minus another, seed by seed; its runs are those of the first."""
        first, second = (self.cell(key) for key in column.difference)
        seeds = [seed for seed in first.values if seed in second.values]
        return replace(
            first,
            address=replace(self.address, metric=column.key),
            reported=self.row.reported.get(column.key),
            values={seed: first.values[seed] - second.values[seed] for seed in seeds},
            runs={seed: first.runs[seed] for seed in seeds},
            missing=None if seeds else first.missing or second.missing or NOT_MEASURED,
        )
