"""A run that was really trained, for the protocols to evaluate."""

from __future__ import annotations

import pytest

from repro.harness.store import RunFolder, create_run
from tests.conftest import MakeConfig
from tests.harness.processes import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, smoke: MakeConfig) -> RunFolder:
    folder = create_run(tmp_path_factory.mktemp("results") / "runs", "one", smoke())
    code, output = train(folder)
    assert code == 0, output
    return folder
