"""The crate of the committed results, and its entities."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from analysis.crate.export import METADATA, export_crate

Entities = Mapping[str, dict[str, Any]]


def entities_of(folder: Path) -> Entities:
    content = json.loads((folder / METADATA).read_text())
    entities = {entity["@id"]: entity for entity in content["@graph"]}
    assert len(entities) == len(content["@graph"])
    return entities


@pytest.fixture(scope="package")
def crate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crates") / "crate"
    export_crate(folder, "laptop")
    return folder


@pytest.fixture(scope="package")
def entities(crate: Path) -> Entities:
    return entities_of(crate)
