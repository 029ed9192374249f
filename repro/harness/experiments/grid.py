"""A grid in an experiment file: rows made of axes, each some values of a key or named choices.

    grid:
      axes:
        momentum: {key: teacher.momentum, values: [0.99, 0.996]}
        K: {key: head.prototypes, values: [64, 256]}
      exclude: [{momentum: 0.99, K: 64}]

Every combination of the axes is a row; those that `zip` names together move together, `exclude`
takes combinations out, `include` puts single ones in. A row is called by its values alone
(`momentum0.99-K64`), so that it keeps its name whatever is added to the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import product
from math import prod
from typing import Annotated, Any

from msgspec import Meta, field

from repro.decode import Strict, check_among, decode
from repro.errors import UserError

# Dotted keys of the config, or a group, to values.
Overrides = Annotated[Mapping[str, Any], Meta(extra_json_schema={"$ref": "#/$defs/Overrides"})]
Point = Mapping[str, Any]  # of every axis its value, or the name of its choice
MOST = 5000  # rows
Values = Annotated[tuple[Any, ...], Meta(min_length=1)]


class Axis(Strict, frozen=True, kw_only=True):
    """What varies along one axis: `values` of the key (or group) `key`, or `choices`, each a name
    and the settings that it stands for. `title` heads its column."""

    key: str = ""
    values: Values | None = None
    choices: Mapping[str, Overrides] = field(default_factory=dict)
    title: str = ""

    def __post_init__(self) -> None:
        if bool(self.choices) == bool(self.key and self.values):
            raise ValueError("an axis has either a key with its values, or choices")

    @property
    def points(self) -> tuple[Any, ...]:
        """Its values, or the names of its choices."""
        return self.values or tuple(self.choices)

    def overrides(self, value: Any) -> Mapping[str, Any]:
        """What one of its points sets."""
        return self.choices[value] if self.choices else {self.key: value}


class Grid(Strict, frozen=True, kw_only=True):
    """Axes by name, and which of their combinations are rows."""

    axes: Annotated[Mapping[str, Axis], Meta(min_length=1)]
    together: tuple[tuple[str, ...], ...] = field(default=(), name="zip")
    exclude: tuple[Mapping[str, Any], ...] = ()
    include: tuple[Mapping[str, Any], ...] = ()

    def title(self, axis: str) -> str:
        return self.axes[axis].title or axis

    def points(self) -> list[Point]:
        """All combinations, the last axis fastest; then those that are included."""
        combined = [
            {name: value for part in parts for name, value in part.items()}
            for parts in product(*self._steps())
        ]
        ordered = [{name: point[name] for name in self.axes} for point in combined]
        left = [point for point in ordered if not any(_within(point, one) for one in self.exclude)]
        return [*left, *({name: one[name] for name in self.axes} for one in self.include)]

    def _steps(self) -> Iterator[list[Point]]:
        """What every axis, or several together, go through."""
        done: set[str] = set()
        for name in self.axes:
            names = next((group for group in self.together if name in group), (name,))
            if name not in done:
                columns = [self.axes[one].points for one in names]
                yield [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
            done |= set(names)

    def texts(self, axis: str) -> list[str]:
        """The values of an axis as text, in their order; then those that are only included."""
        values = [*self.axes[axis].points, *(one[axis] for one in self.include)]
        return list(dict.fromkeys(map(text_of, values)))

    def overrides(self, point: Point) -> dict[str, Any]:
        """The settings of a point; later axes win."""
        settings: dict[str, Any] = {}
        for name, value in point.items():
            settings |= self.axes[name].overrides(value)
        return settings


def with_rows(content: Any, where: str) -> Any:
    """A file's content with the rows and columns that its `grid` stands for, behind its own.

    Raises:
        UserError: a mistake in the grid; names the place.
    """
    if not isinstance(content, dict) or "grid" not in content:
        return content
    where = f"{where}: grid"
    grid = decode(content["grid"], Grid, where)
    _check(grid, where)
    rows, layout = content.get("rows", []), content.get("layout", [])
    if not isinstance(rows, list) or not isinstance(layout, list):
        return content
    made = [_row(grid, point) for point in grid.points()]
    if not made:
        raise UserError(f"{where}: exclude leaves no row")
    described = [column.get("key") for column in layout if isinstance(column, dict)]
    columns = [
        {"key": name, "title": grid.title(name)} for name in grid.axes if name not in described
    ]
    return content | {"rows": [*rows, *made], "layout": [*layout, *columns]}


def row_name(point: Point) -> str:
    """What a row is called: numbers and switches with the name of their axis, words alone."""
    return "-".join(_word(name, value) for name, value in point.items())


def text_of(value: Any) -> str:
    """A value as people write it, one way for equal ones: 1 and 1.0 are 1."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, list | tuple):
        return " ".join(map(text_of, value))
    return str(value)


def _row(grid: Grid, point: Point) -> dict[str, Any]:
    label = ", ".join(
        f"{text_of(value)}" if isinstance(value, str) else f"{grid.title(name)} {text_of(value)}"
        for name, value in point.items()
    )
    cells = {n: text_of(v) if isinstance(v, list | dict) else v for n, v in point.items()}
    return {
        "name": row_name(point),
        "label": label,
        "cells": cells,
        "overrides": grid.overrides(point),
        "reported": {},
    }


def _word(axis: str, value: Any) -> str:
    if isinstance(value, bool):
        return axis if value else f"no_{axis}"
    safe = re.sub(r"[^A-Za-z0-9_.+-]+", "_", text_of(value))
    return safe if isinstance(value, str) else f"{axis}{safe}"


def _within(point: Point, pattern: Mapping[str, Any]) -> bool:
    return all(text_of(point[name]) == text_of(value) for name, value in pattern.items())


def _check(grid: Grid, where: str) -> None:
    """That what a grid names is there."""
    names = list(grid.axes)
    for name, axis in grid.axes.items():
        if not re.fullmatch(r"[A-Za-z]\w*", name):
            raise UserError(f"{where}: axes: '{name}' must be a word of letters, digits and _")
        texts = [text_of(point) for point in axis.points]
        if twice := next((text for text in texts if texts.count(text) > 1), ""):
            raise UserError(f"{where}: axis {name}: {twice} appears twice")
    zipped = [name for group in grid.together for name in group]
    check_among(zipped, names, f"{where}: zip")
    if twice := next((name for name in zipped if zipped.count(name) > 1), ""):
        raise UserError(f"{where}: zip: {twice} appears twice")
    for group in grid.together:
        lengths = {name: len(grid.axes[name].points) for name in group}
        if len(set(lengths.values())) > 1:
            said = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            raise UserError(f"{where}: zip: as many values each: {said}")
    if (count := prod(len(step) for step in grid._steps())) > MOST:
        raise UserError(f"{where}: {count:,} rows, more than {MOST:,}; split it")
    for pattern in grid.exclude:
        check_among(pattern, names, f"{where}: exclude")
        for name, value in pattern.items():
            known = [text_of(point) for point in grid.axes[name].points]
            check_among([text_of(value)], known, f"{where}: exclude: {name}")
    for one in grid.include:
        check_among(one, names, f"{where}: include")
        if missing := [name for name in names if name not in one]:
            raise UserError(f"{where}: include: every axis needs a value: {missing[0]}")
        for name, value in one.items():
            if choices := grid.axes[name].choices:
                check_among([value], list(choices), f"{where}: include: {name}")
