"""`repro check` as a test runner: a line a claim, what failed, a summary, JUnit XML."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.evidence.evidence import Evidence
from analysis.verdicts.checklist import print_checklist, summary, write_junit
from analysis.verdicts.claims import ClaimVerdict, judge_ours
from analysis.verdicts.verdict import Outcome, Verdict

Record = dict[str, Any]


@pytest.fixture
def verdicts(
    make: Callable[..., Record], evidence_of: Callable[..., Evidence]
) -> list[ClaimVerdict]:
    """F7 with a claim that holds, one contradicted, some without evidence; then T7, not run."""
    records = [make("F7.both", seed) for seed in range(3)]
    records += [make("F7.centering", seed, kl=0.4) for seed in range(3)]
    evidence = evidence_of(records)
    return [v for name in ("F7", "T7") for v in judge_ours(evidence.experiment(name), evidence)]


def test_every_claim_has_a_line_and_contradictions_their_evidence(
    verdicts: list[ClaimVerdict], capsys: pytest.CaptureFixture[str]
) -> None:
    print_checklist(verdicts)
    text = capsys.readouterr().out
    lines = text.splitlines()
    for v in verdicts:
        assert sum(line.split()[1:2] == [v.id] for line in lines) == 1
    assert next(x for x in lines if " C.F7.2 " in x).lstrip().startswith("✗")
    assert next(x for x in lines if " C.F7.3 " in x).lstrip().startswith("✓")
    assert "C.F7.2: " in text.partition("not borne out")[2]
    assert "evidence: F7.centering [so in 0 of 3 seeds; KL 0.4, 0.4, 0.4, mean 0.4 (95 %" in text
    assert "rule: mean over seeds of KL below 0.05 nats" in text
    assert lines[-1] == summary(verdicts)
    assert lines[-1].startswith(f"{len(verdicts)} claims: ")


def test_verbose_shows_the_evidence_of_every_claim(
    verdicts: list[ClaimVerdict], capsys: pytest.CaptureFixture[str]
) -> None:
    print_checklist(verdicts, verbose=True)
    assert capsys.readouterr().out.count("rule: ") == len(verdicts)


def test_on_a_narrow_terminal_text_goes_on_below_itself(
    verdicts: list[ClaimVerdict],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    print_checklist([replace(v, detail="so many words " * 20) for v in verdicts], verbose=True)
    text = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    further = [line for line in text.splitlines() if line.startswith(" ") and ":" not in line]
    evidence = [line for line in further if "so many" in line]
    assert len(evidence) > len(verdicts)
    assert all(line.startswith(" " * len("      evidence: ")) for line in evidence)


def test_the_longest_verdict_does_not_touch_the_statement(
    verdicts: list[ClaimVerdict], capsys: pytest.CaptureFixture[str]
) -> None:
    in_part = Verdict(Outcome.CONFIRMED, in_part=True)
    print_checklist([replace(verdicts[0], verdict=in_part)])
    assert f"(in part) {verdicts[0].statement}" in capsys.readouterr().out


def test_junit_has_a_suite_an_experiment_and_a_case_a_claim(
    verdicts: list[ClaimVerdict], tmp_path: Path
) -> None:
    path = tmp_path / "reports" / "claims.xml"
    write_junit(verdicts, path)
    root = ET.parse(path).getroot()
    assert [suite.get("name") for suite in root] == ["F7", "T7"]
    assert len(list(root.iter("testcase"))) == len(verdicts)
    held = Counter(v.holds for v in verdicts)
    assert len(list(root.iter("failure"))) == held[False] == 1
    assert len(list(root.iter("skipped"))) == held[None]
    assert sum(int(suite.get("failures", "")) for suite in root) == 1
    failure = next(root.iter("failure"))
    assert failure.get("message") == "direction contradicted"
    assert "F7.centering" in (failure.text or "")
    before = path.read_bytes()
    write_junit(verdicts, path)
    assert path.read_bytes() == before
