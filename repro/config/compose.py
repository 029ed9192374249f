"""Compose one run's typed config with Hydra: base groups, scale, method, preset, then overrides.

`experiments/base/run.yaml` lists the groups in their order; `experiments/scales/*.yaml` set how
big. Struct mode stays on, so a key that `repro/config/schema.py` does not declare is refused.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, cast

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from repro.config.checks import check
from repro.config.keys import GROUPS, dotted_keys
from repro.config.schema import RunConfig
from repro.config.typed import check_text, holds_names, parse_assignments
from repro.decode import read_yaml
from repro.errors import UserError, nearest
from repro.files import file_digest, of_home

__all__ = ["compose", "from_plain", "parse_assignments", "to_plain"]

# Sections of the config that the files of a group hold; those of other groups name their sections.
PACKAGES = {"data": "data.", "model": "model.", "views": "views.", "crops": "views."}


def compose(
    experiments: Path, scale: str, overrides: Mapping[str, Any] | None = None, source: str = ""
) -> RunConfig:
    """The resolved and checked config of one run.

    Args:
        experiments: the folder that holds `base/` and `scales/`.
        scale: a file of `scales/`, without its ending.
        overrides: dotted keys (`teacher.kind`) to values; a group name (`model`) chooses a file.
        source: what to name in an error, e.g. "experiments/T7.yaml: row r2".

    Raises:
        UserError: unknown scale, key, group choice, wrong type, or impossible combination.
    """
    overrides = dict(overrides or {})
    scale_file = experiments / "scales" / f"{scale}.yaml"
    where = f"{source}: " if source else ""
    if not scale_file.is_file():
        names = sorted(p.stem for p in (experiments / "scales").glob("*.yaml"))
        raise UserError(
            f"unknown scale '{scale}'; nearest: {nearest(scale, names)} (one of {', '.join(names)})"
        )
    known = set(dotted_keys())
    for key in overrides:
        if key in GROUPS:
            _check_group(experiments, key, str(overrides[key]), where)
        elif key not in known:
            raise UserError(
                f"{where}unknown key '{key}'; nearest valid key: {nearest(key, [*known, *GROUPS])}"
            )
    choices = tuple(f"{k}={v}" for k, v in overrides.items() if k in GROUPS)
    try:
        node = copy.deepcopy(_groups(experiments.resolve(), scale, choices))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_blame_file(experiments, scale, error)) from None
    for key, value in overrides.items():
        if key not in GROUPS:
            _set(node, key, value, where)
    _set(node, "label.scale", scale, where)
    where = where or f"scale {scale}: "
    config = _resolved(node, where)
    try:
        known_by_content(config)
        check(config)
    except UserError as error:
        raise UserError(f"{where}{error}") from None
    return config


def known_by_content(config: RunConfig) -> None:
    """A file of weights becomes its digest, which is part of the run's identity, and its place.

    Raises:
        UserError: no such file.
    """
    named = config.model.weights
    if not named or (re.fullmatch(r"[0-9a-f]{12}", named) and not Path(named).exists()):
        return
    path = Path(of_home(named)).resolve()
    if not path.is_file():
        raise UserError(f"model.weights={named}: no such file")
    config.model.weights, config.paths.weights = file_digest(path), str(path)


@cache
def _groups(experiments: Path, scale: str, choices: tuple[str, ...]) -> DictConfig:
    """The groups, without single keys. Cached: Hydra takes about 50 ms, rows differ in keys."""
    ConfigStore.instance().store(name="run_schema", node=RunConfig)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(experiments / "base"), version_base="1.3"):
        search = f"hydra.searchpath=[{experiments.as_uri()}]"
        return hydra_compose("run", overrides=[search, f"scales={scale}", *choices])


def from_plain(values: Mapping[str, Any], source: str) -> RunConfig:
    """The typed config of a run folder's `config.yaml`, refused if it no longer fits the schema."""
    try:
        node = OmegaConf.merge(OmegaConf.structured(RunConfig), OmegaConf.create(dict(values)))
    except OmegaConfBaseException as error:
        key = error.full_key or "?"
        close = nearest(key, dotted_keys())
        hint = "made by other code?" if close == key else f"nearest valid key: {close}"
        raise UserError(f"{source}: key '{key}': {_first_line(error)}; {hint}") from None
    return _resolved(node, f"{source}: key ")


def to_plain(config: RunConfig) -> dict[str, Any]:
    """The config as nested dicts and lists of plain values, enums by name."""

    def plain(value: Any) -> Any:
        if is_dataclass(value):
            return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
        if isinstance(value, Enum):
            return value.name
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    return cast(dict[str, Any], plain(config))


def _set(node: DictConfig, key: str, value: Any, where: str) -> None:
    check_text(key, value, where)
    try:
        OmegaConf.update(node, key, value, force_add=holds_names(key))
    except (OmegaConfBaseException, OverflowError) as error:
        raise UserError(f"{where}{key}={value}: {_first_line(error)}") from None


def _resolved(node: DictConfig | ListConfig, where: str) -> RunConfig:
    """With the values that `${...}` stands for."""
    try:
        return cast(RunConfig, OmegaConf.to_object(node))
    except OmegaConfBaseException as error:
        raise UserError(f"{where}{error.full_key or '?'}: {_first_line(error)}") from None
    except RecursionError:
        raise UserError(f"{where}a value ${{...}} stands for itself") from None


def _check_group(experiments: Path, group: str, choice: str, where: str) -> None:
    names = sorted(p.stem for p in (experiments / "base" / group).glob("*.yaml"))
    if choice not in names:
        raise UserError(
            f"{where}{group}={choice}: no such file in experiments/base/{group}; "
            f"nearest: {nearest(choice, names)} (one of {', '.join(names)})"
        )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _blame_file(experiments: Path, scale: str, error: Exception) -> str:
    """Name the YAML file and key behind an error that Hydra reports without a file."""
    known = set(dotted_keys())
    base = experiments / "base"
    files = [base / "run.yaml", experiments / "scales" / f"{scale}.yaml"]
    for group in GROUPS:
        files += sorted((base / group).glob("*.yaml"))
    for file in files:
        try:
            content = read_yaml(file) or {}
        except UserError as problem:
            return str(problem)
        package = PACKAGES.get(file.parent.name, "")
        for key, value in _flatten(content, known, package):
            if key not in known:
                return f"{file}: unknown key '{key}'; nearest valid key: {nearest(key, known)}"
            try:
                OmegaConf.update(OmegaConf.structured(RunConfig), key, value)
            except OmegaConfBaseException as problem:
                return f"{file}: {key}={value}: {_first_line(problem)}"
    return f"{experiments}: {_first_line(error)}"


def _flatten(values: Mapping[str, Any], known: set[str], prefix: str = "") -> list[tuple[str, Any]]:
    """Dotted keys with their values; a key that is itself a mapping stays whole."""
    flat: list[tuple[str, Any]] = []
    for key, value in values.items():
        if key == "defaults" and not prefix:
            continue
        if isinstance(value, Mapping) and f"{prefix}{key}" not in known:
            flat += _flatten(value, known, f"{prefix}{key}.")
        else:
            flat.append((f"{prefix}{key}", value))
    return flat
