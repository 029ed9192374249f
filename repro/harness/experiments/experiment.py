"""Reads `experiments/*.yaml`: one file for each table or figure of the paper.

A file is checked when it is read: unknown and missing keys, wrong types, duplicate names, cells and
claims that address rows or metrics which the file does not have. The overrides themselves are
checked against the config's schema when a row is composed (`row_config`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from repro.errors import UserError, nearest
from repro.harness.experiments.claims import Claim, read_claim
from repro.harness.experiments.folders import experiments_dir
from repro.harness.experiments.keys import (
    COLUMN,
    EXPERIMENT,
    METRIC,
    ROW,
    VARIANT,
    check_keys,
    check_reported,
    check_unique,
    read_yaml,
)
from repro.harness.experiments.missing import Missing, Reason

if TYPE_CHECKING:
    from repro.config.schema import RunConfig


@dataclass(frozen=True)
class Column:
    """A descriptive column of the paper's table; `key` is one of a row's `cells`."""

    key: str
    title: str


@dataclass(frozen=True)
class Metric:
    """A column of numbers; `decimals` as the paper prints them.

    Its values are the metric `of` of a row's runs of that `variant` (empty: the only one), or the
    difference of the two columns that `minus` names, the first (whose variant it takes) minus the
    second. `reading` is how far off the paper's numbers may be where they were read off a figure.
    """

    key: str
    title: str
    unit: str
    decimals: int
    of: str
    variant: str
    minus: tuple[str, ...]
    reading: float


@dataclass(frozen=True)
class Variant:
    """One of the runs that a line of the table rests on, e.g. 100 and 300 epochs (Table 8)."""

    title: str
    overrides: Mapping[str, Any]
    at: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Row:
    """One line of an experiment.

    `cells` are the paper's descriptive cells, `reported` its numbers by metric, `reported_curve`
    its digitised curves with their `epoch`. `at` holds further overrides by scale, `variants` those
    of the experiment's variants that need more for this row. Empty `scales` means every scale.
    `reported_only` says why the paper's numbers stand alone, e.g. where they are quoted from. `of`
    says which metrics of its runs the columns are, where that differs from row to row (Table 10).
    `source` says where the numbers were read (`experiments/base/paper.yaml`).
    """

    name: str
    label: str
    cells: Mapping[str, Any]
    overrides: Mapping[str, Any]
    at: Mapping[str, Mapping[str, Any]]
    reported: Mapping[str, float]
    reported_curve: Mapping[str, Sequence[float]] | None
    source: tuple[str, ...]
    scales: tuple[str, ...]
    reported_only: str
    variants: Mapping[str, Variant]
    of: Mapping[str, str]

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


@dataclass(frozen=True)
class Experiment:
    """One table or figure. `baseline` and `at[scale]` apply to every row, before its overrides.

    `variants` are empty where every row is one run.
    """

    id: str
    kind: str
    title: str
    where: str
    source: tuple[str, ...]
    source_note: str
    question: str
    baseline: Mapping[str, Any]
    at: Mapping[str, Mapping[str, Any]]
    variants: Mapping[str, Variant]
    layout: tuple[Column, ...]
    metrics: tuple[Metric, ...]
    curves: tuple[str, ...]
    rows: tuple[Row, ...]
    claims: tuple[Claim, ...]
    path: Path

    @property
    def runs_a_row(self) -> tuple[str, ...]:
        """The variants of every row; a single nameless one where there are none."""
        return tuple(self.variants) or ("",)

    def sources(self, row: Row, variant: str) -> list[str]:
        """The metrics that this table reads from a row's runs of a variant."""
        return [
            row.of.get(metric.key, metric.of)
            for metric in self.metrics
            if metric.variant == variant and not metric.minus
        ]

    def metric(self, key: str) -> Metric:
        """Raises: UserError with the nearest key."""
        keys = [metric.key for metric in self.metrics]
        if key not in keys:
            raise UserError(
                f"{self.path}: no metric '{key}' in {self.id}; nearest: {nearest(key, keys)} "
                f"(one of {', '.join(keys)})"
            )
        return self.metrics[keys.index(key)]

    def row(self, name: str) -> Row:
        """Raises: UserError with the nearest name."""
        names = [row.name for row in self.rows]
        if name not in names:
            raise UserError(
                f"{self.path}: no row '{name}' in {self.id}; nearest: {nearest(name, names)} "
                f"(one of {', '.join(names)})"
            )
        return self.rows[names.index(name)]


def experiment_ids() -> list[str]:
    """Ids of all experiments, i.e. the names of their files."""
    return sorted(path.stem for path in experiments_dir().glob("*.yaml"))


def load(reference: str | Path) -> Experiment:
    """An experiment by its id, or from the path of a file.

    Raises:
        UserError: no such experiment, or a mistake in the file; names the file and the key.
    """
    if isinstance(reference, Path):
        return _parse(reference)
    known = experiment_ids()
    if reference not in known:
        raise UserError(
            f"no experiment '{reference}' in {experiments_dir()}; nearest: "
            f"{nearest(reference.upper(), known)} (repro list shows all)"
        )
    return _parse(experiments_dir() / f"{reference}.yaml")


def select(references: Sequence[str]) -> list[tuple[Experiment, list[Row]]]:
    """Experiments and their rows from words such as `T7`, `T7:r1,r2` or `all`.

    An experiment named twice is one entry; rows are in the order of the file.
    """
    wanted: dict[str, set[str]] = {}
    loaded: dict[str, Experiment] = {}
    for word in references:
        name, colon, rows = word.partition(":")
        for one in experiment_ids() if name == "all" and not colon else [name]:
            experiment = loaded.setdefault(one, load(one))
            names = rows.split(",") if colon else [row.name for row in experiment.rows]
            wanted.setdefault(one, set()).update(experiment.row(n).name for n in names)
    return [
        (loaded[one], [row for row in loaded[one].rows if row.name in names])
        for one, names in wanted.items()
    ]


def row_config(
    experiment: Experiment, row: Row, scale: str, seed: int, variant: str = ""
) -> RunConfig:
    """The resolved config of one run.

    Layers, later ones win: baseline, variant, row, the row's variant; each with its part for the
    scale. Then the seed.

    Raises:
        UserError: names the file, the row and the key that the config does not accept.
    """
    from repro.config.composed import remembered

    assert variant in experiment.runs_a_row, f"{experiment.id} has no variant '{variant}'"
    parts: list[Row | Variant] = [row]
    if variant:
        parts = [experiment.variants[variant], row, *_own_variant(row, variant)]
    overrides = {**experiment.baseline, **experiment.at.get(scale, {})}
    for part in parts:
        overrides |= {**part.overrides, **part.at.get(scale, {})}
    overrides["seed"] = seed
    name = run_name(row, variant)
    source = f"{experiment.path}: row {name}"
    experiments = experiment.path.parent

    def compose() -> RunConfig:
        from repro.config.compose import compose as ask_hydra

        return ask_hydra(experiments, scale, overrides, source)

    config = remembered(experiments, scale, overrides, compose)
    config.label.experiment, config.label.row = experiment.id, name
    return config


def run_name(row: Row, variant: str) -> str:
    """What a row's run is called in labels and slugs: "l0.100ep" for variant 100ep of row l0."""
    return f"{row.name}.{variant}" if variant else row.name


def _own_variant(row: Row, variant: str) -> list[Variant]:
    return [row.variants[variant]] if variant in row.variants else []


def _parse(path: Path) -> Experiment:
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    values = check_keys(content, EXPERIMENT, str(path))
    if values["id"] != path.stem:
        raise UserError(f"{path}: id '{values['id']}' must be the file's name, '{path.stem}'")
    if values["kind"] not in ("table", "figure"):
        raise UserError(f"{path}: kind '{values['kind']}' must be table or figure")
    layout = tuple(Column(**check_keys(c, COLUMN, f"{path}: layout")) for c in values["layout"])
    variants = _variants(values["variants"], f"{path}: variants")
    metrics = tuple(_metric(m, list(variants), f"{path}: metrics") for m in values["metrics"])
    rows = tuple(_row(item, values["source"], path) for item in values["rows"])
    claims = tuple(read_claim(item, values["where"], str(path)) for item in values["claims"])
    check_unique([row.name for row in rows], f"{path}: rows")
    check_unique([metric.key for metric in metrics], f"{path}: metrics")
    check_unique([claim.id for claim in claims], f"{path}: claims")

    columns, keys = [c.key for c in layout], [m.key for m in metrics]
    scales = sorted(p.stem for p in (path.parent / "scales").glob("*.yaml"))
    _among(values["curves"], keys, f"{path}: curves")
    _among(values["at"], scales, f"{path}: at")
    for column in (metric for metric in metrics if metric.minus):
        where = f"{path}: metrics {column.key}: minus"
        _among(column.minus, keys, where)
        if len(column.minus) != 2:
            raise UserError(f"{where}: names {len(column.minus)} columns, not 2")
    of_key = {metric.key: metric for metric in metrics}
    metrics = tuple(
        replace(m, variant=of_key[m.minus[0]].variant) if m.minus else m for m in metrics
    )
    for row in rows:
        where = f"{path}: row {row.name}"
        _among(row.cells, columns, f"{where}: cells")
        _among([*row.scales, *row.at], scales, f"{where}: scales and at")
        _among(row.variants, list(variants), f"{where}: variants")
        _among(row.of, keys, f"{where}: of")
        check_reported(row.reported, row.reported_curve, keys, where)
        if (row.reported or row.reported_curve) and not row.source:
            raise UserError(f"{where}: reported numbers need a source: where were they read?")
    for claim in claims:
        where = f"{path}: claim {claim.id}"
        named = [(address, False) for address in claim.body.row_addresses()]
        named += [(address, True) for address in claim.body.cell_addresses()]
        for address, is_cell in named:
            name, _, place = address.partition(".")
            if name == values["id"]:  # another experiment may not have been written yet
                line, _, metric = place.rpartition(".") if is_cell else (place, "", "")
                _among([line], [r.name for r in rows], f"{where}: {address}: row")
                _among([metric] if is_cell else [], keys, f"{where}: {address}: metric")
    return Experiment(
        **values
        | {"layout": layout, "metrics": metrics, "curves": tuple(values["curves"])}
        | {"rows": rows, "claims": claims, "path": path, "variants": variants}
        | {"source": tuple(values["source"])}
    )


def _row(item: Any, source: list[str], path: Path) -> Row:
    values = check_keys(item, ROW, f"{path}: row")
    values["source"] = tuple(values["source"] or source)
    variants = _variants(values["variants"], f"{path}: row {values['name']}: variants")
    return Row(**values | {"scales": tuple(values["scales"]), "variants": variants})


def _variants(items: Mapping[str, Any], where: str) -> dict[str, Variant]:
    return {
        str(name): Variant(**check_keys(item, VARIANT, f"{where}: {name}"))
        for name, item in items.items()
    }


def _metric(item: Any, variants: list[str], where: str) -> Metric:
    values = check_keys(item, METRIC, where)
    metric = Metric(**values | {"minus": tuple(values["minus"])})
    if metric.minus:
        return metric
    if variants:
        _among([metric.variant], variants, f"{where} {metric.key}: variant")
    elif metric.variant:
        raise UserError(f"{where} {metric.key}: variant: this file has no variants")
    return replace(metric, of=metric.of or metric.key)


def _among(words: Sequence[str] | Mapping[str, Any], valid: list[str], where: str) -> None:
    for word in words:
        if word not in valid:
            raise UserError(
                f"{where}: '{word}' is not one of {', '.join(valid)}; "
                f"nearest: {nearest(str(word), valid)}"
            )
