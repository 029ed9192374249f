"""What a file says that its rows differ in: no row changes more than it declares.

A claim is about keys of the config (`about:`, of all claims of a file or of one). Whatever else
tells two compared rows apart is a confound, which `analysis/verdicts/confounds.py` names beside the
verdict.

A column stands for settings (`about:`; by itself for the key or group that it is called by, an axis
for what it sets, a figure's `over` for its `key`). Compared with the row that changes least, a row
may differ only in settings of columns in which its cell differs, and in those that it or the file
names as going along, each with the reason (`also: {preset: why}`). What a group brings
(`method: byol`) is declared with the group.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Protocol

from msgspec import Meta

from repro.errors import UserError, nearest
from repro.harness.experiments.figure import AblationFigure, Figure
from repro.harness.experiments.folders import composed_from
from repro.harness.experiments.grid import Grid, Overrides

# A key of the config, a section of it, or METHOD.
Topic = Annotated[str, Meta(extra_json_schema={"$ref": "#/$defs/Topic"})]
# A key of the config, a section of it, or a group of files (`preset`), as rows set them.
Setting = Annotated[str, Meta(extra_json_schema={"$ref": "#/$defs/Setting"})]
Reasons = Annotated[
    Mapping[str, str], Meta(extra_json_schema={"propertyNames": {"$ref": "#/$defs/Setting"}})
]
# What a method computes (Table 14): not what it sees, nor how it is optimised.
METHOD, OF_METHODS = "method", ("head", "target", "teacher", "loss", "predictor", "queue")
ANYTHING = "anything"  # what a column of people's own stands for that does not say it


class Layer(Protocol):
    """What sets something: a variant, a row (`experiment.py`, as the others here)."""

    @property
    def overrides(self) -> Overrides: ...
    @property
    def at_scale(self) -> Mapping[str, Overrides]: ...


class Row(Layer, Protocol):
    @property
    def name(self) -> str: ...
    @property
    def described(self) -> Mapping[str, Any]: ...
    @property
    def also(self) -> Mapping[str, str]: ...
    @property
    def variants(self) -> Mapping[str, Layer]: ...
    @property
    def trainable(self) -> bool: ...


class Column(Protocol):
    @property
    def key(self) -> str: ...
    @property
    def about(self) -> Sequence[str]: ...


class Experiment(Protocol):
    @property
    def path(self) -> Path: ...
    @property
    def baseline(self) -> Overrides: ...
    @property
    def at_scale(self) -> Mapping[str, Overrides]: ...
    @property
    def variants(self) -> Mapping[str, Layer]: ...
    @property
    def runs_a_row(self) -> Sequence[str]: ...
    @property
    def layout(self) -> Sequence[Column]: ...
    @property
    def figure(self) -> Figure: ...
    @property
    def grid(self) -> Grid | None: ...
    @property
    def rows(self) -> Sequence[Row]: ...
    @property
    def also(self) -> Mapping[str, str]: ...


@cache
def topics() -> Sequence[str]:
    """All that a claim can be about, in the order of the config."""
    from repro.config.keys import dotted_keys

    keys = dotted_keys()
    sections = dict.fromkeys(key.partition(".")[0] for key in keys if "." in key)
    return METHOD, *sections, *keys


def check_topics(about: Sequence[str], where: str) -> None:
    """Raises: UserError for the first word that no claim can be about, with the nearest."""
    for word in about:
        if word not in topics():
            known = nearest(word, topics())
            raise UserError(f"{where}: about: no key or section '{word}'; nearest: {known}")


def concerns(about: Sequence[str], key: str) -> bool:
    """Whether a key of the config is among what a claim is about."""
    section = key.partition(".")[0]
    return key in about or section in about or (METHOD in about and section in OF_METHODS)


@cache
def settings() -> list[str]:
    """All that a column can stand for."""
    from repro.config.keys import GROUPS

    return list(dict.fromkeys([*GROUPS, *topics()]))


def overrides_of(experiment: Experiment, row: Row, scale: str, variant: str) -> dict[str, Any]:
    """What a run sets, later layers win: baseline, variant, row, the row's variant; each with its
    part for the scale."""
    parts: list[Layer] = [row]
    if variant:
        own = [row.variants[variant]] if variant in row.variants else []
        parts = [experiment.variants[variant], row, *own]
    overrides = {**experiment.baseline, **experiment.at_scale.get(scale, {})}
    for part in parts:
        overrides |= {**part.overrides, **part.at_scale.get(scale, {})}
    return overrides


def check_declared(experiment: Experiment) -> None:
    """Raises: UserError for the first setting that a row changes and its file does not declare."""
    _check_words(experiment)
    trained = [row for row in experiment.rows if row.trainable]
    if experiment.path.parent != composed_from(experiment.path):  # a first file need say nothing
        trained = [row for row in trained if row.described]
    stand_for = {column.key: _stands_for(experiment, column) for column in experiment.layout}
    for scale in _scales(experiment):
        for variant in experiment.runs_a_row:
            changed = [(row, overrides_of(experiment, row, scale, variant)) for row in trained]
            least, theirs = min(changed, key=lambda one: len(one[1]), default=(None, {}))
            for row, ours in changed:
                if least is not None and row is not least:
                    declared = _declared(experiment, stand_for, row, least)
                    _check_row(experiment, declared, row, least, _different(ours, theirs))


def _check_row(
    experiment: Experiment, declared: Collection[str], row: Row, least: Row, keys: Sequence[str]
) -> None:
    for key in keys:
        if not {key, key.partition(".")[0], ANYTHING} & set(declared) and key in settings():
            raise UserError(
                f"{experiment.path}: row {row.name}: {key}: differs from row {least.name}'s, which "
                f"no cell in which they differ stands for; give the column about: [{key}], or "
                f"the row also: {{{key}: why}}"
            )


def _declared(
    experiment: Experiment, stand_for: Mapping[str, Sequence[str]], row: Row, least: Row
) -> list[str]:
    """What may differ between two rows; an empty cell says nothing."""
    said = [
        word
        for key, words in stand_for.items()
        if row.described.get(key, "") not in ("", least.described.get(key, ""))
        for word in words
    ]
    return [*said, *experiment.also, *row.also, *least.also]


def _stands_for(experiment: Experiment, column: Column) -> Sequence[str]:
    figure, grid = experiment.figure, experiment.grid
    if column.about:
        return column.about
    if grid is not None and column.key in grid.axes:
        axis = grid.axes[column.key]
        return list({key: "" for point in axis.points for key in axis.overrides(point)})
    if isinstance(figure, AblationFigure) and figure.over == column.key and figure.key:
        return [figure.key]
    if column.key in settings():
        return [column.key]
    own = experiment.path.parent != composed_from(experiment.path)
    return [ANYTHING] if own else []


def _different(ours: Overrides, theirs: Overrides) -> list[str]:
    keys = dict.fromkeys([*ours, *theirs])
    return [key for key in keys if key not in ours or key not in theirs or ours[key] != theirs[key]]


def _scales(experiment: Experiment) -> list[str]:
    """Those for which any part of a file has settings of its own, and any other."""
    layers: list[Layer] = [*experiment.rows, *experiment.variants.values()]
    layers += [variant for row in experiment.rows for variant in row.variants.values()]
    scales = [*experiment.at_scale, *(scale for layer in layers for scale in layer.at_scale)]
    return list(dict.fromkeys(["", *scales]))


def _check_words(experiment: Experiment) -> None:
    for where, words in _words(experiment):
        for word in words:
            if word not in settings():
                known = nearest(word, settings())
                raise UserError(
                    f"{experiment.path}: {where}: no key, section or group '{word}'; "
                    f"nearest: {known}"
                )


def _words(experiment: Experiment) -> Iterator[tuple[str, Collection[str]]]:
    yield "also", experiment.also
    for column in experiment.layout:
        yield f"column {column.key}: about", column.about
    for row in experiment.rows:
        yield f"row {row.name}: also", row.also
