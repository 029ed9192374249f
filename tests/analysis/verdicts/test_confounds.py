"""Settings that tell compared rows apart, beside those that a claim is about."""

from __future__ import annotations

from functools import cache

import pytest
from msgspec.structs import replace

from analysis.evidence.evidence import Evidence
from analysis.verdicts.confounds import Confound, confounds, sentences
from repro.harness.experiments.about import OF_METHODS, concerns, topics
from repro.harness.experiments.claims import Claim, Greater
from repro.harness.experiments.experiment import experiment_ids

SCALES = ("laptop", "paper")


@cache
def evidence(scale: str = "laptop") -> Evidence:
    return Evidence(scale, {})


@cache
def claims() -> dict[str, Claim]:
    experiments = map(evidence().experiment, experiment_ids())
    return {claim.id: claim for experiment in experiments for claim in experiment.claims}


def keys(name: str, scale: str = "laptop") -> list[str]:
    return [one.key for one in confounds(claims()[name], evidence(scale))]


def of_two(first: str, second: str, *about: str, scale: str = "laptop") -> tuple[Confound, ...]:
    body = Greater(better=first, worse=second)
    claim = Claim(id="C.1", statement="", portability="L", about=about, body=body)
    return confounds(claim, evidence(scale))


def test_a_temperature_and_local_crops_that_came_with_a_method_are_named() -> None:
    (start, end) = confounds(claims()["C.T7.4"], evidence())
    assert start == Confound(("T7.r3", "T7.r9"), "target.temp_start", (0.04, 0.05))
    assert end == Confound(("T7.r3", "T7.r9"), "target.temp", (0.04, 0.05))
    assert keys("C.T7.4", "paper") == [
        "views.local_number", "target.temp_start", "target.temp", "target.temp_warmup_epochs",
    ]  # fmt: skip


@pytest.mark.parametrize("scale", SCALES)
def test_the_scale_of_global_crops_is_named_beside_multi_crop(scale: str) -> None:
    assert keys("C.T7.5", scale) == ["views.global_scale"]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", ["C.T7.3", "C.T7.6", "C.T7.7", "C.F6.4", "C.AC_K.1", "C.T9.1"])
def test_nothing_is_named_where_rows_differ_in_what_the_claim_is_about(
    name: str, scale: str
) -> None:
    assert keys(name, scale) == []


def test_a_claim_that_is_about_nothing_has_every_difference_as_a_confound() -> None:
    (found,) = of_two("T7.r1.knn", "T7.r2.knn")
    assert found.key == "teacher.kind"
    assert sentences([found]) == [
        "T7.r1 and T7.r2 also differ in teacher.kind (momentum, student_copy)"
    ]
    for about in ("teacher.kind", "teacher", "method"):
        assert of_two("T7.r1.knn", "T7.r2.knn", about) == ()
    assert of_two("T7.r1.knn", "T7.r2.knn", "teacher.momentum") == (found,)


def test_a_part_that_one_row_lacks_is_one_difference() -> None:
    (found,) = of_two("T7.r1.knn", "T7.r6.knn")
    assert (found.key, found.values) == ("predictor.used", (False, True))


def test_a_row_without_a_run_and_a_row_beside_itself_have_no_confounds() -> None:
    assert of_two("T2.vits_dino.knn", "T2.rn50_swav.knn") == ()  # quoted
    assert of_two("AF_pool.cls.linear", "AF_pool.cls_avg.linear") == ()


def test_variants_of_a_row_are_told_apart() -> None:
    (found,) = of_two("AE_mc.dino.linear_mc6", "AE_mc.dino.linear_2crops", "views.local_number")
    assert found.runs == ("AE_mc.dino.mc6", "AE_mc.dino.2crops")


def test_how_a_network_would_have_been_trained_does_not_count_before_training() -> None:
    trained = of_two("AD_attn.dino.jaccard", "AD_attn.supervised.jaccard", "method")
    assert [one.key for one in trained] == ["views.local_number"]
    assert of_two("AD_attn.supervised.jaccard", "AD_attn.random.jaccard") == ()
    (patches,) = of_two("T1.vitb16.im_s", "T1.vitb8.im_s", scale="paper")  # 400 and 300 epochs
    assert patches.key == "model.patch_size"


@pytest.mark.parametrize(
    ("pairs", "begin"),
    [
        (["ab"], "a and b also differ in"),
        (["ab", "ac"], "a also differs from b and c in"),
        (["ac", "bc"], "a and b also differ from c in"),
        (["ac", "ad", "bc", "bd"], "a and b also differ from c and d in"),
        (["ab", "cd", "ef"], "a and b, and 2 further pairs, also differ in"),
        (["ab", "ac", "de"], "a and b, and 2 further pairs, also differ in"),
    ],
)
def test_runs_that_differ_alike_are_one_sentence(pairs: list[str], begin: str) -> None:
    values = {"views.global_scale": ([0.4, 1.0], [0.14, 1.0]), "optim.lr": (1e-3, 0.03)}
    found = [Confound((a, b), key, pair) for a, b in pairs for key, pair in values.items()]
    what = "views.global_scale (0.4 to 1, 0.14 to 1) and optim.lr (0.001, 0.03)"
    assert sentences(found) == [f"{begin} {what}"]


def test_what_a_claim_is_about_is_a_key_a_section_or_a_method() -> None:
    assert {"method", "teacher", "teacher.kind"} <= set(topics())
    assert concerns(["method"], "loss.kind")
    assert not concerns(["method"], "optim.lr")
    assert not concerns(["teacher.kind"], "teacher.momentum")
    assert set(OF_METHODS) < set(topics())


def test_every_claim_that_compares_rows_says_what_it_is_about_and_nothing_idle() -> None:
    for experiment in map(evidence().experiment, experiment_ids()):
        of_all: set[str] = set()
        for claim in experiment.claims:
            bare = replace(claim, about=())
            found = [one.key for scale in SCALES for one in confounds(bare, evidence(scale))]
            said = {topic for topic in claim.about if any(concerns([topic], k) for k in found)}
            assert not found or said, f"{claim.id} does not say what it is about"
            assert claim.about == experiment.about or said == set(claim.about), claim.id
            of_all |= said
        assert set(experiment.about) <= of_all, experiment.id
