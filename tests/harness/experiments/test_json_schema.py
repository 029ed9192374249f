"""The schemas that editors read: as the types have them, named by and true of every file."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from repro.harness.experiments.folders import experiments_dir
from repro.harness.experiments.json_schema import schemas

FILES = [
    *((path, "experiment") for path in sorted(experiments_dir().glob("*.yaml"))),
    *((path, "cluster") for path in sorted((experiments_dir() / "clusters").rglob("*.yaml"))),
]
TYPES: dict[str, Any] = {
    "string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list,
    "object": dict, "null": type(None),
}  # fmt: skip


def complaints(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> Iterator[str]:
    """What a validator would say, of the words of JSON Schema that ours use."""
    if "$ref" in schema:
        yield from complaints(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "anyOf" in schema:
        options = [list(complaints(value, option, root)) for option in schema["anyOf"]]
        if all(options):
            yield f"{value!r} is none of them: {min(options, key=len)}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{value!r} is not one of {schema['enum']}"
    kind = schema.get("type")
    if kind and (not isinstance(value, TYPES[kind]) or (value is True and kind != "boolean")):
        yield f"{value!r} is no {kind}"
    elif isinstance(value, dict):
        known = schema.get("properties", {})
        yield from (f"{key} is missing" for key in schema.get("required", []) if key not in value)
        for key, child in value.items():
            rest = schema.get("additionalProperties", {})
            if key not in known and rest is False:
                yield f"{key} is unknown"
            else:
                yield from complaints(child, known.get(key, rest) or {}, root)
    elif isinstance(value, list):
        each = schema.get("prefixItems") or [schema.get("items") or {}] * len(value)
        for child, of in zip(value, each, strict=True):
            yield from complaints(child, of, root)
    elif isinstance(value, int | float):
        low, high = schema.get("minimum", value), schema.get("maximum", value)
        if not low <= value <= high or value <= schema.get("exclusiveMinimum", value - 1):
            yield f"{value} is out of bounds"


def committed(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(
        (experiments_dir() / "schema" / f"{name}.json").read_text(encoding="utf-8")
    )
    return content


def test_the_committed_schemas_are_those_of_the_types() -> None:
    remedy = "python -m repro.harness.experiments.json_schema"
    made = json.loads(json.dumps(schemas(experiments_dir())))
    assert made == {name: committed(name) for name in ("experiment", "cluster")}, remedy


@pytest.mark.parametrize(("path", "name"), FILES, ids=[path.stem for path, _ in FILES])
def test_every_file_names_its_schema_first_and_satisfies_it(path: Path, name: str) -> None:
    text = path.read_text(encoding="utf-8")
    comment, _, reference = text.splitlines()[0].partition("$schema=")
    assert comment == "# yaml-language-server: "
    assert (path.parent / reference).resolve() == experiments_dir() / "schema" / f"{name}.json"
    schema = committed(name)
    assert list(complaints(yaml.safe_load(text), schema, schema)) == []


def grid(**more: Any) -> dict[str, Any]:
    """A file without rows and columns of its own."""
    content = yaml.safe_load((experiments_dir() / "T7.yaml").read_text(encoding="utf-8"))
    del content["rows"], content["layout"]
    axes = {"m": {"key": "teacher.momentum", "values": [0.9, 0.99]}}
    axes["form"] = {"choices": {"two": {"crops": "two"}, "no": {"target.centering": False}}}
    figure = {"kind": "heatmap", "down": "m", "across": "form"}
    return content | {"grid": {"axes": axes, "exclude": [{"m": 0.9}]}, "figure": figure} | more


def test_a_grid_stands_for_rows_and_columns() -> None:
    schema = committed("experiment")
    assert list(complaints(grid(), schema, schema)) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"axes": {"m": {"key": "teacher.momentum"}}},
        {"axes": {"m": {"key": "teacher.momentum", "values": 0.9}}},
        {"axes": {"m": {"choices": {"a": {"teacher.momentm": 0.9}}}}},
        {"axes": {"m": {"values": [1], "key": "seed"}}, "zip": ["m"]},
        {"axes": {"m": {"values": [1], "key": "seed"}}, "exclud": []},
    ],
)
def test_a_mistake_in_a_grid_is_one_against_the_schema(wrong: dict[str, Any]) -> None:
    schema = committed("experiment")
    assert list(complaints(grid(grid=wrong), schema, schema))


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(titel="x"),
        lambda content: content.pop("question"),
        lambda content: content.update(kind="plot"),
        lambda content: content.update(figure={"kind": "ablation"}),
        lambda content: content["rows"][1]["overrides"].update({"teacher.knd": "momentum"}),
        lambda content: content["rows"][1]["overrides"].update({"teacher.kind": "mean"}),
        lambda content: content["rows"][1]["overrides"].update({"train.epochs": 0}),
        lambda content: content["rows"][1]["overrides"].update({"model": "vit_smal"}),
        lambda content: content["rows"][0]["reported"].update(knn="72,8"),
        lambda content: content["claims"][0].update(kind="works_not"),
        lambda content: content["claims"][1].pop("rows"),
        lambda content: content["claims"][0].update(margn=1),
    ],
)
def test_a_mistake_in_a_file_is_one_against_the_schema(
    change: Callable[[dict[str, Any]], Any],
) -> None:
    content = yaml.safe_load((experiments_dir() / "T7.yaml").read_text(encoding="utf-8"))
    wrong = copy.deepcopy(content)
    change(wrong)
    schema = committed("experiment")
    assert list(complaints(wrong, schema, schema))
