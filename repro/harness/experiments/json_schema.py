"""JSON Schemas of the files in `experiments/`, for editors: they complete and check what is typed.

    python -m repro.harness.experiments.json_schema

writes `experiments/schema/`, which the first line of every file names. They are made of the types
that read the files; overrides have the keys, types and bounds of the config, groups their files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from inspect import cleandoc
from pathlib import Path
from typing import Any, get_args

import msgspec

from repro.config.keys import GROUPS
from repro.config.schema import RunConfig
from repro.harness.experiments.about import settings, topics
from repro.harness.experiments.claims import Claim, ClaimBody
from repro.harness.experiments.clusters import BASE, Cluster
from repro.harness.experiments.experiment import Experiment
from repro.harness.experiments.folders import experiments_dir

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def write() -> list[Path]:
    """`schema/experiment.json` and `schema/cluster.json`; returns their paths."""
    folder = experiments_dir() / "schema"
    folder.mkdir(exist_ok=True)
    paths = []
    for name, schema in schemas(experiments_dir()).items():
        paths.append(folder / f"{name}.json")
        paths[-1].write_text(json.dumps(schema, indent=2) + "\n", encoding="utf-8")
    return paths


def schemas(experiments: Path) -> dict[str, Schema]:
    """By name, with what only the reader adds left out."""
    config = msgspec.json.schema(RunConfig)["$defs"]
    experiment = _schema_of(Experiment)
    _without(experiment["$defs"]["Experiment"], "path")
    _grid_makes_rows(experiment["$defs"])
    _flatten_claims(experiment["$defs"])
    groups = {group: _files(experiments / "base" / group) for group in GROUPS}
    experiment["$defs"] |= {"Overrides": _object(groups | _dotted(config["RunConfig"], config))}
    words = {"Topic": {"enum": list(topics())}, "Setting": {"enum": settings()}}
    experiment["$defs"] |= _enums(config) | words
    cluster = _schema_of(Cluster)
    for name in get_args(Cluster):
        _without(cluster["$defs"][name.__name__], "name")
        _may_begin_from_another(cluster["$defs"][name.__name__])
    needs = config["Resources"]["properties"]
    for_a_scale = {scale: _object(needs) for scale in _files(experiments / "scales")["enum"]}
    cluster["$defs"] |= {"Resources": _object(needs | for_a_scale)} | _enums(config)
    return {"experiment": experiment, "cluster": cluster}


def _schema_of(kind: Any) -> Schema:
    schema = msgspec.json.schema(kind, schema_hook=lambda _: {"type": "string"})
    for definition in schema["$defs"].values():
        definition["description"] = cleandoc(definition.get("description", ""))
    return {"$schema": DIALECT} | schema


def _object(properties: Mapping[str, Any]) -> Schema:
    return {"type": "object", "properties": dict(properties), "additionalProperties": False}


def _without(struct: Schema, key: str) -> None:
    del struct["properties"][key]
    struct["required"] = [name for name in struct["required"] if name != key]


def _grid_makes_rows(definitions: Schema) -> None:
    """Where there is a grid a file needs neither rows nor columns of its own."""
    experiment, axis = definitions["Experiment"], definitions["Axis"]
    made = ["layout", "rows"]
    experiment["required"] = [name for name in experiment["required"] if name not in made]
    experiment["anyOf"] = [{"required": made}, {"required": ["grid"]}]
    axis["anyOf"] = [{"required": ["key", "values"]}, {"required": ["choices"]}]
    axis["properties"]["values"] = axis["properties"]["values"]["anyOf"][0]


def _may_begin_from_another(profile: Schema) -> None:
    """With the key that names the other one, no further key is required but the kind."""
    profile["properties"][BASE] = {"type": "string"}
    profile["anyOf"] = [{"required": profile["required"]}, {"required": [BASE]}]
    profile["required"] = ["kind"]


def _flatten_claims(definitions: Schema) -> None:
    """In a file the keys of a claim's body stand beside the claim's own."""
    claim = definitions["Claim"]
    _without(claim, "body")
    kinds = {}
    for shape in get_args(ClaimBody):
        body = definitions[shape.__name__]
        kinds[f"{Claim.__name__}{shape.__name__}"] = body | {
            "properties": claim["properties"] | body["properties"],
            "required": [*claim["required"], *body["required"]],
        }
    references = [{"$ref": f"#/$defs/{name}"} for name in kinds]
    definitions["Claim"] = {"anyOf": references, "description": claim["description"]}
    definitions |= kinds


def _files(folder: Path) -> Schema:
    return {"enum": sorted(path.stem for path in folder.glob("*.yaml"))}


def _dotted(section: Schema, definitions: Schema, prefix: str = "") -> Schema:
    """Every key of the config as overrides name it, with what it may be."""
    keys: Schema = {}
    for name, value in section["properties"].items():
        kind = definitions.get(str(value.get("$ref", "")).rpartition("/")[2], {})
        if "properties" in kind:
            keys |= _dotted(kind, definitions, f"{prefix}{name}.")
        else:
            keys[f"{prefix}{name}"] = {k: v for k, v in value.items() if k != "default"}
    return keys


def _enums(definitions: Schema) -> Schema:
    return {name: kind for name, kind in definitions.items() if "enum" in kind}


if __name__ == "__main__":
    for path in write():
        print(path)
