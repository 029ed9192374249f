"""The README's numbers are those of the published tables, and its commands exist."""

from __future__ import annotations

import re
from pathlib import Path

from repro.cli.parser import build_parser

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_every_result_in_the_readme_is_a_line_of_a_published_table() -> None:
    section = README.partition("## Results")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    published = [path.read_text() for path in (ROOT / "results/published/laptop").glob("*.md")]
    assert len(lines) > 6
    for line in lines:
        assert any(line in text for text in published), line


def test_every_figure_in_the_readmes_speed_table_is_a_line_of_the_benchmarks() -> None:
    section = README.partition("## Speed")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    measured = (ROOT / "results/benchmarks/cpu.md").read_text()
    assert len(lines) > 6
    for line in lines:
        assert line in measured, line


def test_every_file_that_the_readme_names_exists() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_command_in_the_readme_exists() -> None:
    _, subparsers = build_parser()
    named = set(re.findall(r"^    repro (\w+)", README, flags=re.MULTILINE))
    assert {"list", "run", "table", "check"} <= named
    assert named <= set(subparsers)
