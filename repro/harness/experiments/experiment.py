"""Reads `experiments/*.yaml`: one file for each table or figure of the paper; people's own lie in
`experiments/own`.

A file is checked when it is read: its keys and types are those of the structs here, names are used
once, cells and claims address rows and metrics that the file has. The overrides themselves are
checked against the config's schema when a row is composed (`row_config`).

Docstrings speak of keys as files spell them; an attribute may be longer (`of` is `measured`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from msgspec import Meta, field
from msgspec.structs import replace

from repro.decode import Strict, check_among, check_unique, decode, read_yaml
from repro.errors import UserError, nearest
from repro.harness.experiments.about import (
    Reasons,
    Setting,
    Topic,
    check_declared,
    check_topics,
    overrides_of,
)
from repro.harness.experiments.address import Address, row_name, unknown, with_colon
from repro.harness.experiments.claims import Claim, read_claim
from repro.harness.experiments.figure import AblationFigure, Figure, HeatmapFigure, RowsFigure
from repro.harness.experiments.folders import composed_from, experiments_dir, own_dir, scales_of
from repro.harness.experiments.grid import Grid, Overrides, with_rows
from repro.harness.experiments.missing import Missing, Reason
from repro.harness.experiments.names import own_files

if TYPE_CHECKING:
    from repro.config.schema import RunConfig

T = TypeVar("T")


class Column(Strict, frozen=True, kw_only=True):
    """A descriptive column of the paper's table; `key` is one of a row's `cells`, `about` the
    settings that it stands for where its name does not say it (`about.py`)."""

    key: str
    title: str
    about: tuple[Setting, ...] = ()


class Metric(Strict, frozen=True, kw_only=True):
    """A column of numbers; `decimals` as the paper prints them.

    Its values are the metric `of` (by default `key`) of a row's runs of that `variant` (empty: the
    only one), or the difference of the two columns that `minus` names, the first (whose variant it
    takes) minus the second. `reading` is how far off the paper's numbers may be where they were
    read off a figure.
    """

    key: str
    title: str
    unit: str
    decimals: Annotated[int, Meta(ge=0)]
    measured: str = field(default="", name="of")
    variant: str = ""
    difference: tuple[str, ...] = field(default=(), name="minus")
    reading_error: Annotated[float, Meta(ge=0)] = field(default=0, name="reading")

    def __post_init__(self) -> None:
        if self.difference and len(self.difference) != 2:
            raise ValueError(f"minus names {len(self.difference)} columns, not 2")


class Variant(Strict, frozen=True, kw_only=True):
    """One of the runs that a line of the table rests on, e.g. 100 and 300 epochs (Table 8)."""

    title: str = ""
    overrides: Overrides = field(default_factory=dict)
    at_scale: Mapping[str, Overrides] = field(default_factory=dict, name="at")


class Row(Strict, frozen=True, kw_only=True):
    """One line of an experiment.

    `cells` are the paper's descriptive cells, `reported` its numbers by metric, `reported_curve`
    its digitised curves with their `epoch`. `at` holds further overrides by scale, `variants` those
    of the experiment's variants that need more for this row. Empty `scales` means every scale.
    `reported_only` says why the paper's numbers stand alone, e.g. where they are quoted from. `of`
    says which metrics of its runs the columns are, where that differs from row to row (Table 10).
    `source` says where the numbers were read (`experiments/base/paper.yaml`), `also` which settings
    go along with what its cells declare, and why.
    """

    name: str
    label: str
    described: Mapping[str, Any] = field(default_factory=dict, name="cells")
    overrides: Overrides = field(default_factory=dict)
    at_scale: Mapping[str, Overrides] = field(default_factory=dict, name="at")
    reported: Mapping[str, float]
    reported_curve: Mapping[str, Sequence[float | None]] | None = None
    source: tuple[str, ...] = ()
    scales: tuple[str, ...] = ()
    reported_only: str = ""
    variants: Mapping[str, Variant] = field(default_factory=dict)
    measured: Mapping[str, str] = field(default_factory=dict, name="of")
    also: Reasons = field(default_factory=dict)

    @property
    def trainable(self) -> bool:
        """Whether this row is trained at all; see `why_not` for one scale."""
        return not self.reported_only

    def why_not(self, scale: str) -> Missing | None:
        """Why this row has no run at `scale`; None where it has."""
        if self.reported_only:
            return Missing(Reason.REPORTED_ONLY, self.reported_only)
        if self.scales and scale not in self.scales:
            return Missing(Reason.OTHER_SCALE, ", ".join(self.scales))
        return None


class Experiment(Strict, frozen=True, kw_only=True):
    """One table or figure. `baseline` and `at[scale]` apply to every row, before its overrides.

    `variants` are empty where every row is one run; `figure` says how it is drawn. `about` is what
    rows differ in on purpose where a claim compares them and does not say so itself, `also` in what
    else any of them may. The rows and columns that a `grid` stands for are among `rows` and
    `layout`.
    """

    id: str
    kind: Literal["table", "figure"]
    title: str
    where: str
    source: tuple[str, ...] = ()
    source_note: str = ""
    question: str
    baseline: Overrides = field(default_factory=dict)
    at_scale: Mapping[str, Overrides] = field(default_factory=dict, name="at")
    variants: Mapping[str, Variant] = field(default_factory=dict)
    layout: tuple[Column, ...]
    metrics: tuple[Metric, ...]
    curves: tuple[str, ...] = ()
    figure: Figure = RowsFigure()
    grid: Grid | None = None
    rows: tuple[Row, ...]
    about: tuple[Topic, ...] = ()
    also: Reasons = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    path: Path  # of its file

    @property
    def runs_a_row(self) -> tuple[str, ...]:
        """The variants of every row; a single nameless one where there are none."""
        return tuple(self.variants) or ("",)

    def sources(self, row: Row, variant: str) -> list[str]:
        """The metrics that this table reads from a row's runs of a variant."""
        return [
            row.measured.get(metric.key, metric.measured)
            for metric in self.metrics
            if metric.variant == variant and not metric.difference
        ]

    def metric(self, key: str) -> Metric:
        """Raises: UserError with the nearest key."""
        return self._named("metric", key, {metric.key: metric for metric in self.metrics})

    def row(self, name: str) -> Row:
        """Raises: UserError with the nearest name."""
        return self._named("row", name, {row.name: row for row in self.rows})

    def _named(self, what: str, name: str, known: Mapping[str, T]) -> T:
        if name not in known:
            raise UserError(
                f"{self.path}: no {what} '{name}' in {self.id}; nearest: {nearest(name, known)} "
                f"(one of {', '.join(known)})"
            )
        return known[name]


def experiment_ids() -> list[str]:
    """Ids of all experiments of the paper, i.e. the names of their files."""
    return sorted(path.stem for path in experiments_dir().glob("*.yaml"))


def own_ids() -> list[str]:
    """Ids of people's own experiments; words of commands and the paper's ids keep their meaning."""
    return [path.stem for path, why in own_files(experiment_ids()) if not why]


def known_ids() -> list[str]:
    """All that `load` knows."""
    return [*experiment_ids(), *own_ids()]


def load(reference: str | Path) -> Experiment:
    """An experiment by its id, or from the path of a file.

    Raises:
        UserError: no such experiment, or a mistake in the file; names the file and the key.
    """
    if isinstance(reference, Path):
        return _parse(reference)
    if reference in own_ids():
        return _parse(own_dir() / f"{reference}.yaml")
    if reference not in (paper := experiment_ids()):
        for path, why in own_files(paper):
            if path.stem == reference:
                raise UserError(f"{path}: {why}")
        raise unknown(reference, known_ids(), experiments_dir())
    return _parse(experiments_dir() / f"{reference}.yaml")


def select(references: Sequence[str]) -> list[tuple[Experiment, list[Row]]]:
    """Experiments and their rows from words such as `T7`, `T7:r1,r2`, `T7.r1` or `all`.

    An experiment named twice is one entry; rows are in the order of the file.
    """
    chosen: dict[str, set[str]] = {}
    loaded: dict[str, Experiment] = {}
    for word in references:
        name, colon, rows = with_colon(word, known_ids()).partition(":")
        for one in experiment_ids() if name == "all" and not colon else [name]:
            experiment = loaded.setdefault(one, load(one))
            every = [row.name for row in experiment.rows]
            names = [row_name(one, n, every) for n in rows.split(",")] if colon else every
            chosen.setdefault(one, set()).update(experiment.row(n).name for n in names)
    return [
        (loaded[one], [row for row in loaded[one].rows if row.name in names])
        for one, names in chosen.items()
    ]


def row_config(
    experiment: Experiment, row: Row, scale: str, seed: int, variant: str = ""
) -> RunConfig:
    """The resolved config of one run: that of its scale, what the run sets, then the seed.

    Raises:
        UserError: names the file, the row and the key that the config does not accept.
    """
    from repro.config.composed import remembered

    assert variant in experiment.runs_a_row, f"{experiment.id} has no variant '{variant}'"
    overrides = overrides_of(experiment, row, scale, variant) | {"seed": seed}
    name = run_name(row, variant)
    source = f"{experiment.path}: row {name}"
    experiments = composed_from(experiment.path)

    def compose() -> RunConfig:
        from repro.config.compose import compose as ask_hydra

        return ask_hydra(experiments, scale, overrides, source)

    config = remembered(experiments, scale, overrides, compose)
    config.label.experiment, config.label.row = experiment.id, name
    return config


def run_name(row: Row, variant: str) -> str:
    """What a row's run is called in labels and slugs: "l0.100ep" for variant 100ep of row l0."""
    return f"{row.name}.{variant}" if variant else row.name


def _parse(path: Path) -> Experiment:
    return parse(read_yaml(path), path)


def parse(content: Any, path: Path) -> Experiment:
    """An experiment from the content of its file.

    Raises:
        UserError: a mistake; names the file and the key.
    """
    where = str(path)
    content = with_rows(content, where)
    claims = content.pop("claims", []) if isinstance(content, dict) else []
    experiment = decode(content, Experiment, where, path=path)
    of_key = {metric.key: metric for metric in experiment.metrics}
    _check(experiment)
    experiment = replace(
        experiment,
        metrics=tuple(_completed(metric, of_key) for metric in experiment.metrics),
        rows=tuple(replace(r, source=r.source or experiment.source) for r in experiment.rows),
        claims=tuple(
            read_claim(item, experiment.where, where, experiment.about)
            for item in decode(claims, list[Any], f"{where}: claims")
        ),
    )
    for row in experiment.rows:
        _check_row(experiment, row)
    check_unique([claim.id for claim in experiment.claims], f"{path}: claims")
    check_topics(experiment.about, str(path))
    check_declared(experiment)
    for claim in experiment.claims:
        check_topics(claim.about, f"{path}: claim {claim.id}")
        _check_addresses(experiment, claim)
    return experiment


def _completed(metric: Metric, of_key: Mapping[str, Metric]) -> Metric:
    if metric.difference:
        return replace(metric, variant=of_key[metric.difference[0]].variant)
    return replace(metric, measured=metric.measured or metric.key)


def _check(experiment: Experiment) -> None:
    """That what a file names is there, and once."""
    path, metrics = experiment.path, experiment.metrics
    if experiment.id != path.stem:
        raise UserError(f"{path}: id '{experiment.id}' must be the file's name, '{path.stem}'")
    keys, columns = [m.key for m in metrics], [c.key for c in experiment.layout]
    check_unique([row.name for row in experiment.rows], f"{path}: rows")
    check_unique(keys, f"{path}: metrics")
    check_among(experiment.curves, keys, f"{path}: curves")
    check_among(experiment.at_scale, scales_of(composed_from(path)), f"{path}: at")
    for metric in metrics:
        where = f"{path}: metric {metric.key}"
        check_among(metric.difference, keys, f"{where}: minus")
        if experiment.variants and not metric.difference:
            check_among([metric.variant], list(experiment.variants), f"{where}: variant")
        elif metric.variant:
            raise UserError(f"{where}: variant: this file has no variants")
    if isinstance(experiment.figure, AblationFigure):
        from repro.config.keys import dotted_keys

        figure, where = experiment.figure, f"{path}: figure"
        check_among([figure.over], columns, f"{where}: over")
        check_among(figure.curves, columns, f"{where}: curves")
        check_among([figure.key] if figure.key else [], dotted_keys(), f"{where}: key")
    if isinstance(experiment.figure, HeatmapFigure):
        heatmap, where = experiment.figure, f"{path}: figure"
        check_among([heatmap.down], columns, f"{where}: down")
        check_among([heatmap.across], columns, f"{where}: across")


def _check_row(experiment: Experiment, row: Row) -> None:
    where = f"{experiment.path}: row {row.name}"
    scales = scales_of(composed_from(experiment.path))
    keys = [metric.key for metric in experiment.metrics]
    check_among(row.described, [c.key for c in experiment.layout], f"{where}: cells")
    check_among([*row.scales, *row.at_scale], scales, f"{where}: scales and at")
    check_among(row.variants, list(experiment.variants), f"{where}: variants")
    check_among(row.measured, keys, f"{where}: of")
    check_among(row.reported, keys, f"{where}: reported")
    if (row.reported or row.reported_curve) and not row.source:
        raise UserError(f"{where}: reported numbers need a source: where were they read?")
    if row.reported_curve is None:
        return
    where, curve = f"{where}: reported_curve", row.reported_curve
    if "epoch" not in curve:
        raise UserError(f"{where}: the key 'epoch' is missing")
    check_among(curve, ["epoch", *keys], where)
    if None in curve["epoch"]:
        raise UserError(f"{where}: epoch: every point needs one")
    for key, values in curve.items():
        if len(values) != len(curve["epoch"]):
            raise UserError(f"{where}: {key} must be as long a list as epoch")


def _check_addresses(experiment: Experiment, claim: Claim) -> None:
    """That what a claim names of its own experiment exists; others may not be written yet."""
    rows, metrics = (
        [row.name for row in experiment.rows],
        [metric.key for metric in experiment.metrics],
    )
    where = f"{experiment.path}: claim {claim.id}"
    try:
        of_rows = [Address.of_row(word) for word in claim.body.row_addresses()]
        of_cells = [Address.of_cell(word) for word in claim.body.cell_addresses()]
    except UserError as mistake:
        raise UserError(f"{where}: {mistake}") from None
    for address in of_rows:
        if address.experiment == experiment.id:
            check_among([address.row], rows, f"{where}: {address}: row")
    for address in of_cells:
        if address.experiment == experiment.id:
            check_among([address.row], rows, f"{where}: {address}: row")
            check_among([address.metric], metrics, f"{where}: {address}: metric")
