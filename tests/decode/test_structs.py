"""Plain values into types: every mistake has its place by names, the value and the remedy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

from repro.decode import Strict, decode, mistakes, read_yaml
from repro.errors import UserError


class Circle(Strict, kw_only=True, tag_field="kind", tag="circle"):
    radius: Annotated[float, Meta(gt=0)]


class Square(Strict, kw_only=True, tag_field="kind", tag="square"):
    side: float


class Row(Strict, kw_only=True):
    name: str
    shape: Circle | Square | None = None
    numbers: Mapping[str, float] = {}
    scales: tuple[str, ...] = ()
    curve: tuple[float | None, ...] = ()
    described: Mapping[str, Any] = msgspec.field(default_factory=dict, name="cells")


class File(Strict, kw_only=True):
    title: str
    kind: Literal["table", "figure"] = "table"
    decimals: Annotated[int, Meta(ge=0)] = 1
    pair: tuple[float, float] = (0.0, 1.0)
    rows: tuple[Row, ...] = ()
    path: str = ""


def refusal(**content: Any) -> str:
    with pytest.raises(UserError) as raised:
        decode({"title": "T"} | content, File, "X1.yaml")
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_file_becomes_its_struct_with_defaults_and_what_is_added() -> None:
    row = {"name": "a", "shape": {"kind": "circle", "radius": 2}, "cells": {"loss": "CE"}}
    file = decode({"title": "T", "rows": [row]}, File, "X1.yaml", path="X1.yaml")
    assert (file.title, file.kind, file.path) == ("T", "table", "X1.yaml")
    assert file.rows[0].shape == Circle(radius=2.0)
    assert file.rows[0].described == {"loss": "CE"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"titel": "x"}, "unknown key 'titel'; nearest valid key: title"),
        ({"title": 5}, "title: 5 must be text"),
        ({"decimals": "1"}, "decimals: '1' must be a whole number"),
        ({"decimals": True}, "decimals: True must be a whole number"),
        ({"decimals": -1}, "decimals: -1 must be at least 0"),
        ({"pair": [1]}, "pair: [1] must have 2 values"),
        ({"pair": [1, "x"]}, "pair[1]: 'x' must be a number"),
        ({"kind": "figur"}, "kind: 'figur' is not one of table, figure; nearest: figure"),
        ({"kind": ["table", None]}, "kind: ['table', None] must be text"),  # found by tests/fuzz
        ({"kind": {"table": 1}}, "kind: {'table': 1} must be text"),
        ({"rows": 5}, "rows: 5 must be a list"),
        ({"rows": ["a"]}, "rows[0]: 'a' must be a mapping"),
        ({"rows": [{}]}, "row 1: the key 'name' is missing"),
    ],
)
def test_a_mistake_is_one_line_with_file_place_value_and_remedy(
    content: dict[str, Any], message: str
) -> None:
    assert refusal(**content) == f"X1.yaml: {message}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"cels": {}}, "unknown key 'cels'; nearest valid key: cells"),
        ({"cells": {1: 2}}, "cells: the key 1 must be text; put it in quotes"),
        ({"numbers": {"knn": "72,8"}}, "numbers: knn: '72,8' must be a number"),
        ({"scales": [1]}, "scales[0]: 1 must be text"),
        ({"curve": ["x"]}, "curve[0]: 'x' must be a number or empty"),
        (
            {"shape": {"kind": "sqare"}},
            "shape: unknown kind 'sqare'; nearest: square (one of circle, square)",
        ),
        ({"curve": {"a": 1}}, "curve: {'a': 1} must be a list"),  # found by tests/fuzz
        ({"shape": {"side": 1}}, "shape: the key 'kind' is missing: one of circle, square"),
        ({"shape": {"kind": "circle"}}, "shape: the key 'radius' is missing"),
        ({"shape": {"kind": "circle", "radius": 0}}, "shape: radius: 0 must be greater than 0"),
    ],
)
def test_an_item_of_a_list_is_called_by_its_name(content: dict[str, Any], message: str) -> None:
    assert refusal(rows=[{"name": "r1"} | content]) == f"X1.yaml: row r1: {message}"


def test_what_is_added_cannot_stand_in_the_file() -> None:
    with pytest.raises(UserError, match=r"X1\.yaml: unknown key 'path'"):
        decode({"title": "T", "path": "/etc"}, File, "X1.yaml", path="X1.yaml")


def test_every_mistake_is_found_not_only_the_first() -> None:
    rows = [{"name": "a", "scales": "x"}, {"nam": "b"}]
    paths = [m.path for m in mistakes({"title": "T", "decimals": -1, "rows": rows}, File)]
    assert paths == [("decimals",), ("row a", "scales"), ("row 2",), ("row 2",)]
    assert list(mistakes({"title": "T"}, File)) == []


@pytest.mark.parametrize("content", [None, [], "words", 5])
def test_a_file_that_is_no_mapping_is_said_to_be_none(content: Any) -> None:
    with pytest.raises(UserError, match=r"X1\.yaml: .* must be a mapping"):
        decode(content, File, "X1.yaml")


def test_a_file_that_is_missing_or_no_yaml_is_named_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "X1.yaml"
    with pytest.raises(UserError, match=r"X1\.yaml: no such file"):
        read_yaml(path)
    path.write_text("rows: [\n  a: b:\n")
    with pytest.raises(UserError, match=r"X1\.yaml: not valid YAML") as raised:
        read_yaml(path)
    assert "\n" not in str(raised.value)
