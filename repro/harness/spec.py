"""Reads `experiments/*.yaml`: one file for each table or figure of the paper.

A file is checked when it is read: unknown and missing keys, wrong types, duplicate names, cells and
claims that address rows or metrics which the file does not have. The overrides themselves are
checked against the config's schema when a row is composed (`row_config`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

import repro
from repro.errors import UserError, nearest
from repro.harness.spec_checks import (
    CLAIM,
    COLUMN,
    EXPERIMENT,
    METRIC,
    ROW,
    addresses,
    check_claim_body,
    check_keys,
    check_reported,
    check_unique,
)

if TYPE_CHECKING:
    from repro.config import RunConfig


@dataclass(frozen=True)
class Column:
    """A descriptive column of the paper's table; `key` is one of a row's `cells`."""

    key: str
    title: str


@dataclass(frozen=True)
class Metric:
    """A column of numbers; `decimals` as the paper prints them."""

    key: str
    title: str
    unit: str
    decimals: int


@dataclass(frozen=True)
class Row:
    """One line of an experiment.

    `cells` are the paper's descriptive cells, `reported` its numbers by metric, `reported_curve`
    its digitised curves with their `epoch`. `at` holds further overrides by scale. Empty `scales`
    means every scale.
    """

    name: str
    label: str
    cells: Mapping[str, Any]
    overrides: Mapping[str, Any]
    at: Mapping[str, Mapping[str, Any]]
    reported: Mapping[str, float]
    reported_curve: Mapping[str, Sequence[float]] | None
    scales: tuple[str, ...]
    not_implemented: str

    @property
    def trainable(self) -> bool:
        """Whether the code can train this row at all; see `why_not` for one scale."""
        return not self.not_implemented

    def why_not(self, scale: str) -> str:
        """Why this row has no run at `scale`; empty where it has."""
        if self.not_implemented:
            return f"not implemented yet: {self.not_implemented}"
        if self.scales and scale not in self.scales:
            return f"only at scale {', '.join(self.scales)}"
        return ""


@dataclass(frozen=True)
class Claim:
    """A statement of the paper; `body` holds what its kind needs (`spec_checks.CLAIM_BODIES`).

    `portability`: M(echanism) holds at any scale, L(arge gap) and S(mall gap) need more of it.
    """

    id: str
    statement: str
    portability: str
    kind: str
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Experiment:
    """One table or figure. `baseline` and `at[scale]` apply to every row, before its overrides."""

    id: str
    kind: str
    title: str
    where: str
    question: str
    baseline: Mapping[str, Any]
    at: Mapping[str, Mapping[str, Any]]
    layout: tuple[Column, ...]
    metrics: tuple[Metric, ...]
    curves: tuple[str, ...]
    rows: tuple[Row, ...]
    claims: tuple[Claim, ...]
    path: Path

    def row(self, name: str) -> Row:
        """Raises: UserError with the nearest name."""
        names = [row.name for row in self.rows]
        if name not in names:
            raise UserError(
                f"{self.path}: no row '{name}' in {self.id}; nearest: {nearest(name, names)} "
                f"(one of {', '.join(names)})"
            )
        return self.rows[names.index(name)]


def experiments_dir() -> Path:
    """`experiments/` of the nearest parent of the working directory, else of this repository."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "experiments" / "base" / "run.yaml").is_file():
            return folder / "experiments"
    installed = Path(repro.__file__).resolve().parents[1] / "experiments"
    if not installed.is_dir():
        raise UserError(
            f"no experiments/base/run.yaml in {here} or above it; run repro inside the repository"
        )
    return installed


def results_dir() -> Path:
    """`results/` beside `experiments/`, unless REPRO_RESULTS points elsewhere."""
    elsewhere = os.environ.get("REPRO_RESULTS")
    return Path(elsewhere).absolute() if elsewhere else experiments_dir().parent / "results"


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


def row_config(experiment: Experiment, row: Row, scale: str, seed: int) -> RunConfig:
    """The resolved config of one run: baseline, baseline at the scale, row, row at the scale, seed.

    Raises:
        UserError: names the file, the row and the key that the config does not accept.
    """
    from repro.compose import compose

    overrides: dict[str, Any] = {}
    for layer in (experiment.baseline, experiment.at.get(scale, {})):
        overrides |= layer
    for layer in (row.overrides, row.at.get(scale, {})):
        overrides |= layer
    overrides["seed"] = seed
    source = f"{experiment.path}: row {row.name}"
    config = compose(experiment.path.parent, scale, overrides, source)
    config.label.experiment, config.label.row = experiment.id, row.name
    return config


def _parse(path: Path) -> Experiment:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
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
    metrics = tuple(Metric(**check_keys(m, METRIC, f"{path}: metrics")) for m in values["metrics"])
    rows = tuple(_row(item, path) for item in values["rows"])
    claims = tuple(_claim(item, path) for item in values["claims"])
    check_unique([row.name for row in rows], f"{path}: rows")
    check_unique([metric.key for metric in metrics], f"{path}: metrics")
    check_unique([claim.id for claim in claims], f"{path}: claims")

    columns, keys = [c.key for c in layout], [m.key for m in metrics]
    scales = sorted(p.stem for p in (path.parent / "scales").glob("*.yaml"))
    _among(values["curves"], keys, f"{path}: curves")
    _among(values["at"], scales, f"{path}: at")
    for row in rows:
        where = f"{path}: row {row.name}"
        _among(row.cells, columns, f"{where}: cells")
        _among([*row.scales, *row.at], scales, f"{where}: scales and at")
        check_reported(row.reported, row.reported_curve, keys, where)
    for claim in claims:
        where = f"{path}: claim {claim.id}"
        for address in addresses(claim.kind, claim.body):
            _check_address(address, values["id"], [row.name for row in rows], keys, where)
    return Experiment(
        **values
        | {"layout": layout, "metrics": metrics, "curves": tuple(values["curves"])}
        | {"rows": rows, "claims": claims, "path": path}
    )


def _row(item: Any, path: Path) -> Row:
    values = check_keys(item, ROW, f"{path}: row")
    return Row(**values | {"scales": tuple(values["scales"])})


def _claim(item: Any, path: Path) -> Claim:
    values = check_keys(item, CLAIM, f"{path}: claim", open_ended=True)
    body = {key: value for key, value in values.items() if key not in CLAIM}
    check_claim_body(values["kind"], body, f"{path}: claim {values['id']}")
    return Claim(**{key: values[key] for key in CLAIM}, body=body)


def _check_address(
    address: str, experiment: str, rows: list[str], metrics: list[str], where: str
) -> None:
    """Only this file's cells: another experiment may not have been written yet."""
    name, row, *metric = address.split(".")
    if name == experiment:
        _among([row], rows, f"{where}: {address}: row")
        _among(metric, metrics, f"{where}: {address}: metric")


def _among(words: Sequence[str] | Mapping[str, Any], valid: list[str], where: str) -> None:
    for word in words:
        if word not in valid:
            raise UserError(
                f"{where}: '{word}' is not one of {', '.join(valid)}; "
                f"nearest: {nearest(str(word), valid)}"
            )
