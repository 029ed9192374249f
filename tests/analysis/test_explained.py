"""Explanations for a terminal are words: no field of the JSON, no list of it, no empty line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.evidence.evidence import load_evidence
from analysis.explain import explain
from analysis.explained import lines_of

Record = dict[str, Any]
ADDRESSES = ("C.T7.4", "C.F7.3", "C.T2.1", "T7:r3:knn", "T7:r9:linear", "T7:r3", "T2:rn50_swav")


@pytest.fixture
def lines(make: Callable[..., Record], published: Callable[..., Path]) -> Callable[..., list[str]]:
    records = [make(row, seed) for row in ("T7.r3", "T7.r9") for seed in range(3)]
    for record in records:
        record["env"] |= {"git_sha": "0123456789abcdef" * 2, "dirty": False}
    published(records)
    evidence = load_evidence("laptop")
    return lambda address, width=None: list(lines_of(explain(address, evidence), width))


@pytest.mark.parametrize("address", ADDRESSES)
def test_nothing_is_printed_as_a_program_would(
    address: str, lines: Callable[..., list[str]]
) -> None:
    text = "\n".join(lines(address))
    for raw in ("[]", "null", "None", '["', "{", "_sha", "git_", "wall_seconds", "0123456789a"):
        assert raw not in text
    assert not any(line.rstrip().endswith((",", ";")) for line in lines(address))
    assert all(line.strip().rstrip(":") for line in lines(address))


def test_a_claim_is_told_with_its_confounds_its_runs_and_the_papers_numbers(
    lines: Callable[..., list[str]],
) -> None:
    told = lines("C.T7.4")
    assert "portability: L, a large gap" in told
    differ = "target.temp_start (0.04, 0.05) and target.temp (0.04, 0.05)"
    assert told[told.index("confounds:") + 1] == f"  T7.r3 and T7.r9 also differ in {differ}"
    assert any(
        line.startswith("on the paper's own numbers: holds (T7.r3.knn 72.2") for line in told
    )
    assert "  T7:r3:knn: 72.2 in the paper, 75.1 in 3 seeds of ours" in told
    assert any(line.startswith("  T7:r9:linear: 71.8 in the paper, not ") for line in told)
    runs = [line for line in told if line.startswith("  T7.r3, seed ")]
    assert len(runs) == 3
    assert all("code 0123456789;" in line for line in runs)


def test_a_cell_is_told_with_its_interval_its_sources_and_what_is_set_otherwise(
    lines: Callable[..., list[str]],
) -> None:
    told = lines("T7:r3:knn")
    assert "paper: 72.2" in told
    (ours,) = (line for line in told if line.startswith("ours: "))
    assert ours.startswith("ours: 75.1, 95 % interval 74.85 to 75.35, 3 seeds")
    assert "  page images of Tables 1 to 9 and Figures 4 to 7" in told
    assert "  views.global_scale: 0.4 to 1 (the paper's: 0.25 to 1)" in told


def test_lines_go_on_further_in_than_they_begin_and_no_wider(
    lines: Callable[..., list[str]],
) -> None:
    whole, hung = lines("C.T7.4"), lines("C.T7.4", 60)
    assert max(map(len, hung)) <= 60 < max(map(len, whole))
    assert " ".join(" ".join(hung).split()) == " ".join(" ".join(whole).split())
    begins = {line[:20].rstrip() for line in whole}
    for line in hung:
        if line[:20].rstrip() not in begins:
            assert line.startswith("    ")
    under = [line for line in hung if line.startswith("      ")]
    assert under, "nothing of the long lines of a list goes on below them"
