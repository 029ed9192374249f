"""Tables in a terminal: whatever its width, every number is whole."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest

from analysis.evidence.evidence import Evidence, published_evidence
from analysis.tables.formats import write
from analysis.tables.table import Printed, build
from analysis.tables.terminal import SPARED, terminal
from repro.harness.experiments.experiment import experiment_ids

NUMBER = re.compile(r"[-+]?\d+\.\d+")


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    return published_evidence("laptop")


def numbers(printed: Printed) -> list[str]:
    """Those that no width may leave out or cut, as they stand in their cells."""
    kept = [i for i, h in enumerate(printed.headings) if h.over and h.title not in SPARED]
    return [line.entries[i].text for line in printed.lines for i in kept]


@pytest.mark.parametrize("name", experiment_ids())
def test_no_number_of_a_published_table_is_cut(name: str, evidence: Evidence) -> None:
    printed = build(evidence.experiment(name), evidence)
    cells = Counter(numbers(printed))
    for width in (60, 80, 132):
        text = terminal(printed, width=width)
        assert "…" not in text
        assert max(map(len, text.splitlines())) <= width
        shown = Counter(NUMBER.findall(text))
        assert not Counter(NUMBER.findall(" ".join(cells.elements()))) - shown
        if width >= 80:  # with its interval and number of seeds on one line
            assert all(text.count(cell) >= count for cell, count in cells.items())


def test_what_is_left_out_is_named_with_where_it_is_shown(evidence: Evidence) -> None:
    printed = build(evidence.experiment("T7"), evidence)
    narrow, wide = terminal(printed, width=80), terminal(printed, width=220)
    assert "Left out: verdict, others, Δ, sentinel (shown at" in narrow
    assert "Left out" not in wide
    assert "-2.0" in wide
    needed = int(re.findall(r"at (\d+) columns, or by --format md", " ".join(narrow.split()))[0])
    assert "Left out" not in terminal(printed, width=needed)
    assert "Left out" in terminal(printed, width=needed - 1)


def test_where_no_table_fits_a_row_is_a_paragraph_with_a_line_a_metric(evidence: Evidence) -> None:
    printed = build(evidence.experiment("T7"), evidence)
    lines = terminal(printed, width=60).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("r2, Mom. ✗"))
    assert lines[at + 1].split() == ["k-NN", "0.1", "47.2", "±", "21.8", "(3)", "+47.1", "-"]
    assert lines[at + 2].startswith("  Lin. (official)  0.1")
    assert "sentinel constant" in lines[at + 3]


def test_notes_and_evidence_are_for_the_asking(evidence: Evidence) -> None:
    printed = build(evidence.experiment("T7"), evidence)
    short, whole = terminal(printed, width=80), terminal(printed, verbose=True, width=80)
    for v in printed.claims:
        assert sum(line.split()[1:2] == [v.id] for line in short.splitlines()) == 1
    assert len(short.splitlines()) < 50
    assert "Differs from the paper's protocol" not in short
    assert "Differs from the paper's protocol" in whole
    found = set(NUMBER.findall(" ".join(whole.split())))
    assert found >= {n for v in printed.claims for n in NUMBER.findall(v.verdict.noted_as)}


def test_where_the_authors_way_stands_is_for_the_asking_and_on_no_published_page(
    evidence: Evidence,
) -> None:
    printed = build(evidence.experiment("T7"), evidence)
    whole = " ".join(terminal(printed, verbose=True, width=80).split())
    assert "D3 loss: Eq. 3, main_dino.py:402; effect: against the code none" in whole
    assert "main_dino.py:" not in terminal(printed, width=80)
    assert all("main_dino.py:" not in write(printed, fmt) for fmt in ("md", "tex", "csv", "html"))


def test_claims_may_be_left_to_who_prints_them(evidence: Evidence) -> None:
    printed = replace(build(evidence.experiment("F7"), evidence), lines=())
    assert "C.F7.1" in terminal(printed, width=80)
    assert "C.F7.1" not in terminal(printed, claims=False, width=80)
