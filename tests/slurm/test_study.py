"""A study of one's own on a real SLURM, by an installed package, where no clone is."""

from __future__ import annotations

import json

import pytest
import yaml

from repro.harness.runs.environment import code_version
from tests.installed.conftest import Installed, git_of_source, installed, source
from tests.slurm.conftest import PROFILE, Lab
from tests.slurm.test_sites import birds

__all__ = ["git_of_source", "installed", "source"]


def test_a_sweep_on_own_pictures_trains_on_the_cluster_and_then_only_what_is_new(
    lab: Lab, installed: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    lab.python, lab.where = str(installed.environment / "bin" / "python"), lab.folder
    lab.repro("init", ".")
    cluster = lab.folder / "experiments" / "clusters" / "mine.yaml"
    cluster.write_text(yaml.safe_dump(PROFILE))
    birds(lab.folder / "pictures")
    data = ("data=folder", "data.name=birds", "paths.data=pictures", "data.resolution=32")
    options = ("--name", "first", "--scale", "smoke", "--cluster", "mine", "--yes")
    said = lab.repro("sweep", "head.prototypes=16,64", *data, *options)
    assert "training of 2 runs: job" in said
    lab.repro("status", "first", "--watch", "--every", "2")
    assert [(run["state"], run["evaluation"]) for run in lab.status()] == [("done", "done")] * 2
    for folder in lab.runs:
        told = json.loads((folder.path / "env.json").read_text())
        assert told["git_sha"] == code_version()["git_sha"]

    removed, kept = lab.runs
    ended = (kept.path / "result.json").stat().st_mtime
    lab.repro("rm", removed.id, "--yes")
    said = lab.repro("sweep", "head.prototypes=32", *options)
    assert "3 runs, 2 to do" in said
    lab.repro("status", "first", "--watch", "--every", "2")
    assert [(run["state"], run["evaluation"]) for run in lab.status()] == [("done", "done")] * 3
    assert [folder.read_run().attempts for folder in lab.runs] == [1] * 3
    assert (kept.path / "result.json").stat().st_mtime == ended
    assert {"16", "32", "64"} <= set(lab.repro("table", "first", "--scale", "smoke").split())
