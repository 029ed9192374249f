"""In a terminal of 80 or 120 columns no number is cut, and no line is longer than the terminal.

What the widest terminal shows is the measure: every number of it stands in the narrow one too, as
often, but for columns of a table that a line names as left out.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.evidence.evidence import load_evidence
from analysis.evidence.sources import Source
from analysis.tables.table import build
from analysis.tables.terminal import MORE, SPARED
from repro.cli.parser import main
from repro.harness.plan.plan import plan
from repro.harness.runs.store import RunFolder, create_run
from tests.analysis.comparison.made import make_own

NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?")
ESCAPES = re.compile(r"\x1b\[[\d;]*m")
WIDEST = 1000
FRESH = (  # with what is published and nothing else
    "list", "show T7", "show T2", "plan T7", "plan T7 --power", "status", "runs",
    "check T7", "compare 139aa3a859 3c0f8e9c5d", "explain T7:r2:knn",
    "explain T7:r2", "explain C.T7.1",
)  # fmt: skip
STORE = (  # with runs of one's own, too
    "list", "plan T7 --scale smoke --seeds 2", "status", "status T14", "status --runs", "runs",
    "check T7 --scale smoke", "compare first second third", "explain T7:r1:knn --scale smoke",
)  # fmt: skip
Shown = Callable[[str, int], str]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shown:
    """What a command prints in a terminal of so many columns."""

    def show(line: str, width: int) -> str:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", str(width))
        assert main(line.split()) in (0, 1)
        return ESCAPES.sub("", capsys.readouterr().out)

    return show


@pytest.fixture
def store(results: Path) -> Path:
    """Runs of every kind: of tables, long names, with numbers of many digits, done and waiting."""
    for run in plan(["T7", "T14"], "smoke", 2, results).runs:
        create_run(results / "runs", run.slug, run.config)
    for run in plan(["T7:r1"], "smoke", 1, results).runs:
        finish(RunFolder(results / "runs" / f"{run.slug}-{run.id}"))
    for n, name in enumerate(("first", "second", "third")):
        settings = {"teacher.momentum": 0.9123456 + n / 10**5, "crops": "two", "optim.lr": 1.25e-5}
        make_own(results, settings, (3.0, 2.0, 1.0 + n), 10 + n / 7, name)
    return results


def finish(folder: RunFolder) -> None:
    folder.append_metrics([{"kind": "step", "step": 1, "epoch": 1.0, "loss": 1234.56789}])
    sentinel = {"state": "healthy", "since_step": 0, "meaning": "well"}
    metrics = {"knn": 12.3456789, "loss": 1234.56789}
    folder.finish({"metrics": metrics, "sentinel": sentinel, "counts": {"steps": 1}})


def assert_whole(narrow: str, wide: str, width: int) -> None:
    assert "…" not in narrow
    too_long = [line for line in narrow.splitlines() if len(line) > width and " " in line.strip()]
    assert not too_long
    lost = Counter(NUMBER.findall(wide)) - Counter(NUMBER.findall(narrow))
    assert not lost


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("line", FRESH)
@pytest.mark.usefixtures("results")
def test_no_number_of_what_is_published_is_cut(line: str, width: int, shown: Shown) -> None:
    assert_whole(shown(line, width), shown(line, WIDEST), width)


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("line", STORE)
@pytest.mark.usefixtures("store")
def test_no_number_of_own_runs_is_cut(line: str, width: int, shown: Shown) -> None:
    assert_whole(shown(line, width), shown(line, WIDEST), width)


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(
    ("line", "scale", "source"),
    [
        ("table T7", "laptop", Source.published),
        ("table F7", "laptop", Source.published),
        ("table T7 --scale smoke", "smoke", Source.own),
    ],
)
@pytest.mark.usefixtures("store")
def test_the_table_comes_last_with_every_number_of_its_columns(
    line: str, scale: str, source: Source, width: int, shown: Shown
) -> None:
    name = line.split()[1]
    evidence = load_evidence(scale, source)
    printed = build(evidence.experiment(name), evidence)
    text = shown(f"{line} --evidence {source}", width)
    title = " ".join(printed.title.split()[:4])
    claims, table = text[: text.index(title)], text[text.index(title) :]
    assert " ".join(table.split()).endswith(MORE)
    kept = [i for i, h in enumerate(printed.headings) if h.over and h.title not in SPARED]
    cells = Counter(one.entries[i].text for one in printed.lines for i in kept)
    assert all(table.count(cell) >= count for cell, count in cells.items())
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    assert all(claim.id in claims and claim.id not in table for claim in printed.claims)


@pytest.mark.usefixtures("results")
def test_notes_and_evidence_stand_above_a_table(shown: Shown) -> None:
    text = shown("table T7 -v", 120)
    title = text.index("Table 7: Important components")
    assert text.index("Differs from the paper's protocol") < title
    assert text.index("C.T7.11") < title
    assert MORE not in text
