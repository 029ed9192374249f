"""The benchmark suite runs at small size and its JSON becomes table and pictures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from analysis import benchmarks
from repro.errors import UserError

SUITE = ["test_bench_kernels.py", "test_bench_growth.py"]


def test_the_suites_json_becomes_a_table_and_pictures(tmp_path: Path, repository: Path) -> None:
    path = tmp_path / "cpu.json"
    files = [str(repository / "tests" / "benchmarks" / name) for name in SUITE]
    chosen = [
        "--benchmark-only",
        f"--benchmark-json={path}",
        "-k",
        "machine or update or linear or status",
    ]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files, *chosen]
    outer = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    environment = outer | {"BENCH_SIZE": "small", "BENCH_DEVICE": "cpu"}
    subprocess.run(command, check=True, cwd=repository, env=environment)
    drawing = [sys.executable, "-m", "analysis.benchmarks", str(path)]
    done = subprocess.run(drawing, check=True, cwd=repository, stdout=subprocess.PIPE, text=True)
    assert "teacher update, ViT-S" in done.stdout
    assert (tmp_path / "cpu.md").read_text().strip() == done.stdout.strip()
    for picture in ("cpu_roofline.png", "cpu_growth.png"):
        assert (tmp_path / picture).stat().st_size > 5000
    content = json.loads(path.read_text())
    (entry,) = (b for b in content["benchmarks"] if b.get("title") == "teacher update, ViT-S")
    seconds = entry["seconds"]
    assert entry["speedup"] == pytest.approx(seconds["baseline"] / seconds["ours"])
    assert "node" not in json.dumps(content)  # no machine is named


def test_the_committed_tables_are_those_of_the_committed_json(repository: Path) -> None:
    folder = repository / "results" / "benchmarks"
    for path in folder.glob("*.json"):
        content = benchmarks.load(path)
        assert content["hardware"]["size"] == "full", path
        told = f"{benchmarks.heading(content)}\n\n{benchmarks.table(content)}\n"
        assert path.with_suffix(".md").read_text() == told


def test_another_file_is_refused_in_one_line(tmp_path: Path) -> None:
    other = tmp_path / "x.json"
    other.write_text("{}")
    with pytest.raises(UserError, match=r"make bench writes it"):
        benchmarks.load(other)
