"""A study of one's own outside any clone, by the commands of docs/your-own-study.md, as printed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from repro.harness.runs.environment import code_version
from repro.harness.runs.store import RunFolder, find_runs
from tests.installed.conftest import LINES, Installed

pytestmark = pytest.mark.slow


def pictures(root: Path) -> None:
    """Two kinds of birds, told apart by their colour: 16 of each to train on, 8 to test."""
    for split, number in (("train", 16), ("val", 8)):
        for channel, kind in enumerate(("crow", "gull")):
            folder = root / split / kind
            folder.mkdir(parents=True)
            for index in range(number):
                draw = np.random.default_rng((number, channel, index))
                pixels = draw.integers(0, 128, (48, 48, 3), np.uint8)
                pixels[..., channel] += 100
                Image.fromarray(pixels).save(folder / f"{index}.png")


def begun(folder: Path) -> dict[str, tuple[int, float]]:
    """Of every finished run, how often it was started and when it ended."""
    runs: list[RunFolder] = find_runs(folder / "results" / "runs")
    assert all(run.is_done() and run.evaluations() for run in runs)
    ends = {run.id: (run.path / "result.json").stat().st_mtime for run in runs}
    return {run.id: (run.read_run().attempts, ends[run.id]) for run in runs}


def test_the_walk_of_the_page(installed: Installed, tmp_path: Path) -> None:
    lines = iter(LINES[1:])
    code = installed.code

    def line(begins: str) -> str:
        """The next line of the page, of which the test expects that it begins so."""
        found = next(lines)
        assert found.startswith(begins), found
        return found

    said = installed.shell(line("repro init birds"), tmp_path)
    assert said.splitlines()[-2:][0].strip() == line("cd birds")
    study = tmp_path / "birds"
    pictures(study / "pictures")

    said = installed.shell(line("repro sweep"), study)
    assert "8 runs, 8 to do" in said
    assert "At smoke scale nothing is evidence: 8 runs made" in said
    first = begun(study)
    assert [attempts for attempts, _ in first.values()] == [1] * 8
    for environment in study.glob("results/runs/*/env.json"):
        made = json.loads(environment.read_text())
        assert (made["git_sha"], made["dirty"]) == known_code()

    table = installed.shell(line("repro table first"), study)
    shown = [row.split()[:2] for row in table.splitlines()]
    assert [row for row in shown if row in [[m, k] for m in ("0.9", "0.99") for k in ("16", "64")]]
    assert "k-NN by momentum (down) and prototypes (across)" in table
    installed.shell(line("repro figure first"), study)
    picture = Image.open(study / "results" / "figures" / "smoke" / "first.png")
    assert len(np.unique(np.asarray(picture))) > 20
    installed.shell(line("repro report"), study)
    assert 'id="own-first"' in (study / "results" / "report" / "smoke.html").read_text()

    listed = installed.shell(line("repro runs"), study)
    assert {row.split()[0] for row in listed.splitlines()[1:9]} == set(first)
    compared = installed.shell(line("repro compare"), study)
    for setting, a, b in (("head.prototypes", "16", "64"), ("teacher.momentum", "0.9", "0.99")):
        assert [setting, a, b] in [row.split() for row in compared.splitlines()]
    assert [path.suffix for path in study.glob("results/figures/compare-*")] == [".png"]
    installed.shell(line("repro rm"), study)
    kept = begun(study)
    (removed,) = first.keys() - kept.keys()

    page = (study / "experiments" / "own" / "first.yaml").read_text()
    assert "12 runs, 5 to do" in installed.shell(line("repro sweep teacher.momentum=0.95"), study)
    assert (study / "experiments" / "own" / "first.yaml").read_text() == page
    installed.shell(line("repro sweep teacher.momentum=0.95"), study)
    assert next(lines, "") == ""
    grown = begun(study)
    assert len(grown) == 12
    assert removed in grown
    assert kept.items() <= grown.items()  # neither started nor written again

    assert installed.code == code
    assert sorted(path.name for path in tmp_path.iterdir()) == ["birds"]
    there = {".gitignore", "README.md", "experiments", "pictures", "results"}
    assert {path.name for path in study.iterdir()} == there


def known_code() -> tuple[str | None, bool]:
    version = code_version()
    return version["git_sha"], version["dirty"]
