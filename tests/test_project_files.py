"""Licence, citation and changelog say what the package says."""

from __future__ import annotations

import re
import subprocess
import tomllib
from datetime import date
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import repro
from tests.gpu.wheels import locked

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
AUTHORS = ("Caron", "Touvron", "Misra", "Jégou", "Mairal", "Bojanowski", "Joulin")
LOCK = (ROOT / "requirements.txt").read_text()
# Required by the schema of the Citation File Format 1.2.0.
REQUIRED = {"authors", "cff-version", "message", "title"}
REQUIRED_OF_A_REFERENCE = {"authors", "title", "type"}


def test_the_licence_is_the_whole_text_of_apache_2() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert text.split()[:4] == ["Apache", "License", "Version", "2.0,"]
    assert [f" {n}. " in text for n in range(1, 10)] == [True] * 9
    assert "END OF TERMS AND CONDITIONS" in text
    assert len(text.split()) > 1500
    assert PROJECT["license"] == CITATION["license"] == "Apache-2.0"
    assert PROJECT["license-files"] == ["LICENSE"]


def test_the_citation_has_what_its_format_requires() -> None:
    assert CITATION.keys() >= REQUIRED
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION["type"] == "software"
    assert all(author.keys() & {"name", "family-names"} for author in CITATION["authors"])
    assert all(reference.keys() >= REQUIRED_OF_A_REFERENCE for reference in CITATION["references"])


def test_the_paper_is_cited() -> None:
    (paper,) = CITATION["references"]
    assert paper["title"] == "Emerging Properties in Self-Supervised Vision Transformers"
    assert tuple(author["family-names"] for author in paper["authors"]) == AUTHORS
    assert paper["year"] == 2021
    assert [identifier["value"] for identifier in paper["identifiers"]] == ["arXiv:2104.14294"]


def test_the_newest_version_of_the_changelog_is_the_packages() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)$", text, re.MULTILINE)
    assert versions[0][0] == repro.__version__ == CITATION["version"]
    days = [date.fromisoformat(day) for _, day in versions]
    assert days == sorted(days, reverse=True)


def test_the_changelog_has_the_headings_of_its_form() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= kinds
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings[0] == "[Unreleased]"


def test_the_demo_trains_its_rows_compares_them_with_the_published_ones_and_reports() -> None:
    recipe = re.search(r"^demo:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    lines = re.findall(r"\$\(BIN\)/repro (\w+) ([^\n]*)", recipe[1])
    assert [command for command, _ in lines] == ["run", "replicate", "report"]
    trained, repeated = (rest.partition(" --")[0] for _, rest in lines[:2])
    assert trained == repeated == "F7:both,centering,sharpening T7:r1,r2"
    assert lines[1][1].endswith("|| test $$? -eq 1")  # a different run is a finding


@pytest.mark.parametrize(("code", "ends"), [(0, 0), (1, 0), (2, 1)])
def test_a_run_that_does_not_replicate_does_not_stop_the_demo(code: int, ends: int) -> None:
    (guard,) = re.findall(r"\|\| (test \$\$\? -eq 1)", (ROOT / "Makefile").read_text())
    shell = f"(exit {code}) || {guard.replace('$$', '$')}"
    assert subprocess.run(["sh", "-c", shell], check=False).returncode == ends


def test_every_test_that_a_page_names_exists() -> None:
    named = {
        n for page in ROOT.glob("docs/*.md") for n in re.findall(r"`(test_\w+)`", page.read_text())
    }
    tests = "".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 10
    assert named - set(re.findall(r"(?m)^def (test_\w+)", tests)) == set()


ASKED = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
BUILDERS = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]


@pytest.mark.parametrize("asked", [*ASKED, *BUILDERS])
def test_the_lock_has_what_the_package_asks_for_in_a_version_that_it_admits(asked: str) -> None:
    requirement = Requirement(asked)
    assert locked()[canonicalize_name(requirement.name)] in requirement.specifier


def test_every_line_of_the_lock_is_a_version_a_digest_or_who_needs_it() -> None:
    """No index, no address and no option stands there, and nothing without a digest."""
    digest = r" \\\n    --hash=sha256:[0-9a-f]{64}"
    package = rf"(?m)^[a-z0-9-]+==[\w.]+( ; [^\\\n]+)?({digest})+\n(    #.*\n)+"
    assert re.match("# This file .* by uv .*:\n#    make lock\n", LOCK)
    assert len(re.findall(package, LOCK)) == len(locked()) > 100
    rest = re.sub(package, "", LOCK).splitlines()
    assert all(line.startswith("#") for line in rest), rest


def test_what_a_locked_package_needs_here_is_locked_in_a_version_that_serves_it() -> None:
    here = {name for name, fixed in locked().items() if installed(name) == fixed}
    for name in here:
        for needed in map(Requirement, requires(name) or ()):
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                fixed = locked().get(canonicalize_name(needed.name))
                assert fixed, f"{name} needs {needed}"
                assert needed.specifier.contains(fixed, prereleases=True), f"{name} needs {needed}"


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def test_nothing_is_installed_whose_digest_is_not_locked() -> None:
    makefile = (ROOT / "Makefile").read_text()
    recipe = re.search(r"^\$\(READY\):.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert recipe
    *from_index, of_here = re.findall(r"\$\(INSTALL\) (.+)", recipe[1])
    assert len(from_index) == 2
    assert all("--require-hashes" in options for options in from_index)
    assert of_here == "--no-deps --no-build-isolation --editable ."


def test_what_builds_is_installed_first_from_its_lines_of_the_lock(tmp_path: Path) -> None:
    (script,) = re.findall(r"sed -n '(/\^setuptools.+)' requ", (ROOT / "Makefile").read_text())
    command = ["sed", "-n", script.replace("$$", "$"), str(ROOT / "requirements.txt")]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert lines[0].startswith(f"setuptools=={locked()['setuptools']} ")
    assert lines[0] in LOCK.splitlines()
    assert len(lines) > 1
    assert all(line.strip().startswith("--hash=sha256:") for line in lines[1:])
