"""Three sentences on what some runs reproduce: they follow from the verdicts on the claims."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from analysis.evidence.evidence import Evidence
from analysis.verdicts.claims import judge_ours, leaning
from analysis.verdicts.in_words import in_words

Record = dict[str, Any]
Make = Callable[..., Record]
MakeEvidence = Callable[..., Evidence]
UNIFORM = {"entropy": 4.15, "kl": 0.001, "mean_entropy": 4.15}


def sentences(evidence: Evidence, *names: str) -> list[str]:
    return in_words([evidence.experiment(name) for name in names], evidence)


def test_one_seed_says_what_is_seen_and_that_it_is_no_verdict(
    make: Make, evidence_of: MakeEvidence
) -> None:
    evidence = evidence_of([make("F7.both", 0), make("F7.centering", 0, **UNIFORM)])
    as_said, otherwise, verdicts = sentences(evidence, "F7")
    # 1, 4 and 6 need further rows.
    assert as_said == (
        "Reproduced: 3 of the 3 claims of Figure 7 that 2 runs here can speak to come out as the "
        "paper says: C.F7.2, C.F7.3, C.F7.5."
    )
    assert otherwise == "Not reproduced: none of them."
    assert verdicts == (
        "None of these is a verdict yet: that takes 3 seeds (repro run F7 --scale laptop "
        "--seeds 3); 3 further claims need other rows or another scale."
    )


def test_a_run_that_speaks_against_a_claim_is_told_with_its_statement(
    make: Make, evidence_of: MakeEvidence
) -> None:
    evidence = evidence_of([make("F7.both", 0), make("F7.centering", 0, kl=0.4)])
    as_said, otherwise, _ = sentences(evidence, "F7")
    assert "2 of the 3 claims" in as_said
    assert "C.F7.2" not in as_said
    assert otherwise.startswith("Not reproduced, or not in every seed: 1, C.F7.2 (without sharp")


def test_seeds_that_disagree_are_not_counted_as_reproduced(
    make: Make, evidence_of: MakeEvidence
) -> None:
    evidence = evidence_of([make("F7.centering", 0, **UNIFORM), make("F7.centering", 1, kl=0.4)])
    as_said, otherwise, _ = sentences(evidence, "F7")
    assert as_said.startswith("Reproduced: 0 of the 1 claim of Figure 7 that 2 runs here")
    assert "C.F7.2" in otherwise


def test_three_seeds_are_verdicts(make: Make, evidence_of: MakeEvidence) -> None:
    records = [make("F7.both", seed) for seed in range(3)]
    records += [make("F7.centering", seed, kl=0.4) for seed in range(3)]
    evidence = evidence_of(records)
    decided = [v for v in judge_ours(evidence.experiment("F7"), evidence) if v.holds is not None]
    last = sentences(evidence, "F7")[-1]
    assert last.startswith(f"{len(decided)} of these are verdicts, as 3 or more seeds decide")
    assert "need more seeds" not in last


def test_a_comparison_leans_by_its_mean(make: Make, evidence_of: MakeEvidence) -> None:
    better = [make("T7.r1", 0, knn=71.0, linear=70.0), make("T7.r4", 0, knn=69.0, linear=66.0)]
    worse = [better[0], make("T7.r4", 0, knn=69.0, linear=72.0)]

    def leans(records: list[Record]) -> bool | None:
        evidence = evidence_of(records)
        verdicts = judge_ours(evidence.experiment("T7"), evidence)
        return leaning(next(v for v in verdicts if v.id == "C.T7.5"))

    assert leans(better) is True
    assert leans(worse) is False
    assert leans(better[:1]) is None


def test_several_experiments_are_named_or_counted(make: Make, evidence_of: MakeEvidence) -> None:
    evidence = evidence_of([make("F7.both", 0)])
    assert "Figure 7 and Table 7" in sentences(evidence, "F7", "T7")[0]
    assert "4 experiments" in sentences(evidence, "F7", "T7", "T2", "T6")[0]


def test_smoke_and_nothing_are_told_in_a_sentence(make: Make, evidence_of: MakeEvidence) -> None:
    smoke = evidence_of([make("F7.both", 0, scale="smoke")], "smoke")
    assert sentences(smoke, "F7") == [
        "At smoke scale nothing is evidence: 1 run made, no claim is judged."
    ]
    assert sentences(evidence_of([]), "F7") == [
        "0 runs of Figure 7: no claim can be judged by them."
    ]


def test_no_sentence_rests_on_uncommitted_code(make: Make, evidence_of: MakeEvidence) -> None:
    both, centering = make("F7.both", 0), make("F7.centering", 0, **UNIFORM)
    centering["env"]["dirty"] = True
    told = sentences(evidence_of([both, centering]), "F7")
    assert told[:3] == sentences(evidence_of([both]), "F7")
    assert told[3] == "No claim rests on 1 run made by code that was not committed."
