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


@pytest.mark.parametrize(
    "content", ["[1]", '{"hardware": {}, "benchmarks": [1]}', '{"hardware": 1, "benchmarks": []}']
)
def test_what_is_no_suite_s_json_is_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "cpu.json").write_text(content)
    with pytest.raises(UserError, match=r"cpu\.json is not the benchmark suite's JSON"):
        benchmarks.load(tmp_path / "cpu.json")
    assert benchmarks.read_lines('{"hardware": {}}\n5\n{"seconds": 1}\n{"na')["benchmarks"] == []


def test_the_committed_tables_are_those_of_the_committed_json(repository: Path) -> None:
    folder = repository / "results" / "benchmarks"
    for path in folder.glob("*.json"):
        content = benchmarks.load(path)
        assert content["hardware"]["size"] == "full", path
        assert path.with_suffix(".md").read_text() == benchmarks.page(content)


def test_another_file_is_refused_in_one_line(tmp_path: Path) -> None:
    other = tmp_path / "x.json"
    other.write_text("{}")
    with pytest.raises(UserError, match=r"make bench writes it"):
        benchmarks.load(other)


LINES = [
    {"hardware": {"gpu": "A card", "cores": 16, "driver": "580", "torch": "2.11"}, "datetime": "x"},
    {"name": "step", "title": "a step", "seconds": {"ours": 3.0}, "model_share": 0.2},
    {"name": "part graphs", "error": "ended after 40 s"},
    {"name": "step", "title": "a step", "seconds": {"ours": 0.5, "baseline": 2.0},
     "baseline": "theirs", "speedup": 4.0, "model_share": 0.45, "baseline_model_share": 0.11},
]  # fmt: skip


def cut_off_lines(folder: Path) -> Path:
    """Of a suite that was ended while it wrote a line."""
    path = folder / "cuda.jsonl"
    whole = "".join(json.dumps(line) + "\n" for line in LINES)
    path.write_text(whole + '{"name": "k-NN", "seconds": {"ou')
    return path


def test_lines_that_were_cut_off_become_json_and_a_table(tmp_path: Path, repository: Path) -> None:
    path = cut_off_lines(tmp_path)
    command = [sys.executable, "-m", "analysis.benchmarks", str(path)]
    subprocess.run(command, check=True, cwd=repository, stdout=subprocess.DEVNULL)
    content = benchmarks.load(tmp_path / "cuda.json")
    assert content == LINES[0] | {"benchmarks": [LINES[3], LINES[2]]}
    page = (tmp_path / "cuda.md").read_text()
    assert page.startswith("A card, 16 cores, driver 580, torch 2.11.\n")
    (row,) = (line for line in page.splitlines() if line.startswith("| a step"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:5] == ["a step", "500 ms", "theirs", "4.00", "45%, baseline 11%"]
    assert page.endswith("Not measured:\n\n- part graphs: ended after 40 s\n")
    assert not list(tmp_path.glob("*.png"))  # no ceilings, nothing that grows


def test_lines_without_their_hardware_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "cuda.jsonl"
    path.write_text(json.dumps(LINES[1]) + "\n")
    with pytest.raises(UserError, match=r"make bench writes it"):
        benchmarks.load(path)
