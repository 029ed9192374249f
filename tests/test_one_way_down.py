"""One way down: what may import what stands in pyproject.toml (`[tool.importlinter]`)."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = ("repro", "analysis")
MOST_LINES = 400
MOST_FILES = 14  # of a folder, its face (`__init__.py`) aside


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def copy(repository: Path, tmp_path: Path) -> Path:
    """The packages and their contracts, to be broken."""
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(repository / package, tmp_path / package, ignore=ignored)
    shutil.copy(repository / "pyproject.toml", tmp_path)
    return tmp_path


def test_every_import_goes_one_way_and_no_circle_is_left(repository: Path) -> None:
    done = lint(repository)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "line", "broken"),
    [
        ("repro/dino/losses.py", "from repro.harness.runs import store", "repro.dino.losses"),
        ("repro/harness/runs/store.py", "import analysis", "repro.harness.runs.store"),
        ("repro/errors.py", "from repro import train", "repro.errors"),
        ("repro/config/schema.py", "from repro.data import dataset", "repro.config.schema"),
        (
            "repro/harness/experiments/experiment.py",
            "def lazily() -> None:\n    from repro.harness.plan import plan",
            "repro.harness.experiments.experiment",
        ),
        ("analysis/evidence/stats.py", "from analysis.report import page", "evidence.stats"),
        ("repro/dino/targets.py", "from repro.dino import method", ".targets -> .method"),
    ],
)
def test_an_import_that_runs_upward_or_in_a_circle_is_refused(
    copy: Path, file: str, line: str, broken: str
) -> None:
    path = copy / file
    path.write_text(f"{path.read_text()}\n\n{line}\n")
    done = lint(copy)
    assert done.returncode == 1, done.stdout
    assert broken in done.stdout.partition("Broken contracts")[2]


def test_a_new_room_has_its_place_on_the_way_down_or_is_refused(copy: Path) -> None:
    room = copy / "repro" / "harness" / "cellar"
    room.mkdir()
    (room / "__init__.py").write_text('"""Nobody has said what may import this."""\n')
    done = lint(copy)
    assert done.returncode == 1, done.stdout
    assert "cellar" in done.stdout


@pytest.mark.parametrize("package", [*PACKAGES, "tests"])
def test_files_are_short_and_folders_small(repository: Path, package: str) -> None:
    files = list((repository / package).rglob("*.py"))
    lengths = {f.relative_to(repository): len(f.read_text().splitlines()) for f in files}
    assert {f: n for f, n in lengths.items() if n > MOST_LINES} == {}
    folders = {f.parent for f in lengths}
    sizes = {f: sum(g.parent == f and g.name != "__init__.py" for g in lengths) for f in folders}
    assert {str(f): n for f, n in sizes.items() if n > MOST_FILES} == {}


def test_the_architecture_names_every_room_and_nothing_that_is_not_there(repository: Path) -> None:
    text = (repository / "ARCHITECTURE.md").read_text()
    drawn = text.partition("## One way down")[2].partition("\n## ")[0]
    faces = (f for package in PACKAGES for f in (repository / package).rglob("__init__.py"))
    rooms = {f.parent.name for f in faces} - set(PACKAGES)
    assert {room for room in rooms if not re.search(rf"\b{room}\b", drawn)} == set()
    for line in text.splitlines():
        named = re.findall(r"`([\w./]+/|[\w/]+\.(?:py|toml|md))`", line)
        home = repository / named[0] if line.startswith("|") and named else repository
        for path in named:
            assert (repository / path).exists() or (home / path).exists(), path
