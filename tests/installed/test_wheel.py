"""What a wheel holds, and what commands say of the paper in a folder where nothing is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

from repro.harness.runs.environment import code_version
from tests.installed.conftest import BUILD_SDIST, PAGE, ROOT, Installed, build_wheel

pytestmark = pytest.mark.slow
VERSION = (
    "from repro.harness.runs.environment import code_version; "
    "version = code_version(); print(version['git_sha'], version['dirty'])"
)


def names(wheel: Path) -> set[str]:
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_its_own_names_are_two_packages_and_nothing_of_one_s_own_is_in_it(
    installed: Installed,
) -> None:
    found = names(installed.wheel)
    assert {name.partition("/")[0] for name in found if ".dist-info" not in name} == {
        "repro", "analysis",
    }  # fmt: skip
    assert not any("/own/" in name for name in found if "shipped" in name)
    assert f"The wheel has {installed.wheel.stat().st_size / 1e6:.0f} MB." in PAGE.text


def test_it_has_every_file_of_the_paper_s_experiments_and_of_what_is_published(
    installed: Installed, source: Path
) -> None:
    found = names(installed.wheel)
    own = source / "experiments" / "own"
    for folder in ("experiments", "results/published"):
        files = [path for path in (source / folder).rglob("*") if path.is_file()]
        there = {p.relative_to(source).as_posix() for p in files if own not in p.parents}
        assert len(there) > 50
        shipped = f"repro/shipped/{folder}/"
        assert {f"repro/shipped/{name}" for name in there} == {
            name for name in found if name.startswith(shipped)
        }
    with ZipFile(installed.wheel) as archive:
        record = archive.read("repro/shipped/results/published/laptop/records.jsonl")
    assert record == (ROOT / "results/published/laptop/records.jsonl").read_bytes()


def test_a_wheel_of_the_archive_of_sources_is_the_same(
    installed: Installed, source: Path, git_of_source: dict[str, str], tmp_path: Path
) -> None:
    subprocess.run(
        [sys.executable, "-c", BUILD_SDIST, str(tmp_path)],
        check=True, cwd=source, env=os.environ | git_of_source, capture_output=True,
    )  # fmt: skip
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path / "unpacked", filter="data")
    (folder,) = (tmp_path / "unpacked").iterdir()
    wheel = build_wheel(folder, tmp_path / "wheel")
    assert names(wheel) == names(installed.wheel)
    for name in ("repro/shipped/code.json", "repro/shipped/experiments/T7.yaml"):
        with ZipFile(wheel) as again, ZipFile(installed.wheel) as first:
            assert again.read(name) == first.read(name)


def test_in_an_empty_folder_the_paper_is_shown_and_nothing_is_written(
    installed: Installed, tmp_path: Path
) -> None:
    code = installed.code
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "T7 " in installed.shell("repro list", empty)
    verified = installed.shell("repro verify --quick", empty)
    assert "files made again, byte for byte" in verified
    assert "wrong" not in verified
    elsewhere = str(tmp_path / "elsewhere")
    for variables in ({}, {"REPRO_RESULTS": elsewhere}):
        table = installed.shell("repro table F7 --format csv 2> /dev/null", empty, **variables)
        assert table == (ROOT / "results/published/laptop/F7.csv").read_text()
    planned = installed.shell("repro plan F7", empty, REPRO_RESULTS=elsewhere)
    assert "4 runs, 4 to do, 4 of them published, not here; about" in planned
    assert "finished" in planned
    assert "no finished run of F7" in installed.shell("repro publish F7", empty, code=2)
    refused = installed.shell("repro replicate F7 --publish", empty, code=2)
    assert "is part of the installed program; use a clone" in refused
    assert list(empty.iterdir()) == []
    assert not Path(elsewhere).exists()
    assert installed.code == code


def test_its_code_is_that_of_the_commit_until_somebody_edits_it(
    installed: Installed, tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs"  # a repository of the user's, of whose commit nothing is said
    subprocess.run(["git", "init", "--quiet", theirs], check=True)
    version = code_version()
    ask = f'python -c "{VERSION}"'
    assert installed.shell(ask, theirs).split() == [str(version["git_sha"]), str(version["dirty"])]
    edited = installed.packages / "repro" / "dino" / "losses.py"
    before = edited.read_bytes()
    edited.write_bytes(before + b"\n")
    try:
        assert installed.shell(ask, theirs).split() == ["None", "False"]
    finally:
        edited.write_bytes(before)
    assert installed.shell(ask, theirs).split()[0] == str(version["git_sha"])


def test_what_builds_needs_nothing_but_what_the_package_says_of_it(tmp_path: Path) -> None:
    """pip builds where nothing else is installed, which these tests, without a network, do not."""
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    for name in (Requirement(one).name for one in asked):
        found = find_spec(name)
        assert found is not None
        assert found.origin is not None
        (tmp_path / name).symlink_to(Path(found.origin).parent)
    code = f"import sys; sys.path += [{str(ROOT)!r}, {str(tmp_path)!r}]; {VERSION}"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], check=True, capture_output=True, text=True
    )
    assert done.stdout.split()[0] == str(code_version()["git_sha"])


def test_a_copy_of_the_code_in_somebody_s_repository_has_not_its_commit(tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message", "theirs"], check=True)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "repro", tmp_path / "lib" / "repro", ignore=ignored)
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "lib")}
    command = [sys.executable, "-c", VERSION]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert done.stdout.split() == ["None", "False"]
