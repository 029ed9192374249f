"""Loss, centre, diagnostics and sentinel against closed forms (F5, F6; Figure 7)."""

from __future__ import annotations

import math
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from repro.config.schema import TargetConfig
from repro.dino.diagnostics import feature_statistics, output_statistics, spread, to_floats
from repro.dino.fast import loss as fused_loss
from repro.dino.fast.loss import fused_cross_entropy
from repro.dino.losses import log_student, pair_count, pairwise_cross_entropy
from repro.dino.sentinel import Sentinel, judge, judge_vectors
from repro.dino.targets import Centre, log_probabilities


@given(
    g=st.integers(1, 3), extra=st.integers(1, 4), b=st.integers(1, 4), k=st.integers(2, 9),
    seed=st.integers(0, 99),
)  # fmt: skip
@settings(deadline=None, max_examples=30)
def test_the_loss_is_the_mean_over_pairs_of_different_views(
    g: int, extra: int, b: int, k: int, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    targets = torch.randn(g, b, k, generator=random, dtype=torch.float64).softmax(-1)
    student = torch.randn(g + extra, b, k, generator=random, dtype=torch.float64).log_softmax(-1)
    total, pairs = 0.0, 0
    for i in range(g):
        for j in range(g + extra):
            if i != j:
                total += -(targets[i] * student[j]).sum(1).mean().item()
                pairs += 1
    assert pair_count(g, g + extra) == pairs
    assert pairwise_cross_entropy(targets, student).item() == pytest.approx(total / pairs)


@given(
    g=st.integers(1, 3), extra=st.integers(1, 4), b=st.integers(1, 7), k=st.integers(2, 9),
    block=st.integers(1, 200), seed=st.integers(0, 99),
)  # fmt: skip
@settings(deadline=None, max_examples=50)
def test_the_fused_loss_has_the_plain_ones_value_gradient_and_statistics(
    g: int, extra: int, b: int, k: int, block: int, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    log_targets = torch.randn(g, b, k, generator=random, dtype=torch.float64).log_softmax(-1)
    targets = log_targets.exp()
    student = torch.randn(g + extra, b, k, generator=random, dtype=torch.float64)
    ours, plain = student.clone().requires_grad_(), student.clone().requires_grad_()
    with mock.patch.dict(fused_loss.BLOCK, {"cpu": block}):
        loss, statistics = fused_cross_entropy(ours, targets, log_targets, 0.3)
    (5 * loss).backward()
    log_student_VBK = log_student(plain, 0.3)
    expected = pairwise_cross_entropy(targets, log_student_VBK)
    (5 * expected).backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(ours.grad, plain.grad)
    wanted = output_statistics(targets, log_targets, log_student_VBK.detach())
    torch.testing.assert_close(statistics, wanted, atol=1e-12, rtol=1e-9)


def test_the_fused_loss_gives_bfloat16_logits_a_gradient_rounded_once() -> None:
    log_targets = torch.randn(2, 5, 33).log_softmax(-1)
    logits = torch.randn(6, 5, 33).bfloat16()
    ours, plain = logits.clone().requires_grad_(), logits.float().requires_grad_()
    fused_cross_entropy(ours, log_targets.exp(), log_targets, 0.1)[0].backward()
    pairwise_cross_entropy(log_targets.exp(), log_student(plain, 0.1)).backward()
    assert ours.grad is not None
    assert plain.grad is not None
    torch.testing.assert_close(ours.grad, plain.grad.bfloat16(), rtol=0.01, atol=1e-7)


def test_there_are_18_pairs_with_8_local_crops_and_22_with_10() -> None:
    assert pair_count(2, 10) == 18
    assert pair_count(2, 12) == 22


@pytest.mark.parametrize(("k", "log_k"), [(256, 5.5452), (4096, 8.3178), (65536, 11.0904)])
def test_a_uniform_target_and_a_uniform_student_cost_ln_k(k: int, log_k: float) -> None:
    uniform = torch.full((2, 3, k), 1 / k, dtype=torch.float64)
    student = log_student(torch.zeros(4, 3, k, dtype=torch.float64), 0.1)
    assert float(pairwise_cross_entropy(uniform, student)) == pytest.approx(log_k, abs=1e-4)


def test_an_equal_one_hot_target_costs_nothing_and_another_costs_its_log_probability() -> None:
    logits = torch.tensor([[[10.0, 0.0, 0.0]]])
    target = torch.tensor([[[1.0, 0.0, 0.0]]])
    other = torch.tensor([[[0.0, 1.0, 0.0]]])
    student = log_student(logits.repeat(2, 1, 1), 0.1)
    assert float(pairwise_cross_entropy(target, student)) == pytest.approx(0, abs=1e-6)
    assert float(pairwise_cross_entropy(other, student)) == pytest.approx(100, abs=1e-4)


def probabilities(centre: Centre, teacher: torch.Tensor) -> torch.Tensor:
    return log_probabilities(TargetConfig(), centre.subtract(teacher), 0.04).exp()


def test_the_centre_is_used_before_its_update_and_starts_at_zero() -> None:
    centre = Centre(4, TargetConfig(centre_momentum=0.9))
    teacher = torch.randn(2, 3, 4)
    torch.testing.assert_close(probabilities(centre, teacher), (teacher / 0.04).softmax(-1))
    centre.update(teacher)
    mean = torch.cat(list(teacher)).mean(0)
    torch.testing.assert_close(centre.centre_K, 0.1 * mean)
    shifted = ((teacher - 0.1 * mean) / 0.04).softmax(-1)
    torch.testing.assert_close(probabilities(centre, teacher), shifted)


def test_the_centre_after_n_equal_steps_is_a_geometric_sum() -> None:
    centre = Centre(3, TargetConfig(centre_momentum=0.9))
    logits = torch.tensor([1.0, -2.0, 0.5]).expand(2, 5, 3)
    for _ in range(7):
        centre.update(logits)
    torch.testing.assert_close(centre.centre_K, (1 - 0.9**7) * logits[0, 0])
    assert set(centre.state_dict()) == {"centre_K"}


def test_without_centering_the_centre_stays_zero() -> None:
    centre = Centre(3, TargetConfig(centering=False))
    centre.update(torch.ones(2, 4, 3))
    assert torch.equal(centre.centre_K, torch.zeros(3))


def test_entropy_and_kl_decompose_the_cross_entropy() -> None:
    targets = torch.randn(2, 6, 11).softmax(-1)
    student = torch.randn(5, 6, 11).log_softmax(-1)
    values = to_floats(output_statistics(targets, targets.log(), student))
    by_hand = -(targets * targets.log()).sum(-1).mean()
    assert values["entropy"] == pytest.approx(float(by_hand), rel=1e-5)
    assert values["cross_entropy"] == pytest.approx(values["entropy"] + values["kl"], rel=1e-6)
    assert values["decomposition_error"] < 1e-6
    shifted = output_statistics(targets, targets.log() + 0.1 * targets, student)
    assert float(shifted["decomposition_error"]) < 1e-6  # entropy and KL move together
    unequal = output_statistics(targets, targets.log(), student + 0.1)
    assert float(unequal["kl"]) != pytest.approx(values["kl"])


def test_the_mean_target_tells_one_dimension_from_sharp_targets_that_differ() -> None:
    one_hot = torch.nn.functional.one_hot(torch.tensor([0, 1, 2, 3]), 4).float()[None]
    tiny = one_hot.clamp(min=1e-12)
    student = tiny.log().repeat(2, 1, 1)
    differing = output_statistics(tiny, tiny.log(), student)
    assert float(differing["entropy"]) == pytest.approx(0, abs=1e-6)
    assert float(differing["mean_entropy"]) == pytest.approx(math.log(4), abs=1e-5)
    same = tiny[:, :1].repeat(1, 4, 1)
    assert float(output_statistics(same, same.log(), student)["mean_entropy"]) < 1e-6


def test_feature_statistics_know_even_spread_collapse_and_rank() -> None:
    random = torch.Generator().manual_seed(0)
    even = torch.randn(256, 16, generator=random)
    values = to_floats(feature_statistics(even))
    assert values["feature_spread"] == pytest.approx(1, abs=0.02)
    assert values["effective_rank"] == pytest.approx(16, rel=0.05)
    same = torch.ones(256, 16) + 1e-6 * even
    assert float(feature_statistics(same)["feature_spread"]) < 1e-4
    line = torch.outer(torch.randn(64, generator=random), torch.ones(16))
    assert float(feature_statistics(line)["effective_rank"]) == pytest.approx(1, abs=0.01)
    few = torch.randn(8, 32, generator=random)
    singular = torch.linalg.svdvals(few - few.mean(0))
    shares = singular / singular.sum()
    expected = math.exp(-float(torch.xlogy(shares, shares).sum()))
    assert float(feature_statistics(few)["effective_rank"]) == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize(
    ("loss", "entropy", "kl", "mean_entropy", "expected"),
    [
        (6.238, 6.238, 0.0, 6.238, "uniform"),
        (0.01, 0.005, 0.005, 0.006, "one_dimension"),
        (0.2, 0.1, 0.1, 3.0, "healthy"),  # sharp, but images differ
        (1.9, 0.92, 0.98, 4.0, "healthy"),
        (4.0, 2.0, 2.0, 2.0, "constant"),
        (float("nan"), 1.0, 1.0, 1.0, "nan"),
    ],
)
def test_the_sentinel_names_each_form_of_collapse(
    loss: float, entropy: float, kl: float, mean_entropy: float, expected: str
) -> None:
    assert judge(loss, entropy, kl, mean_entropy, math.log(512)) == expected


def test_the_sentinel_waits_and_then_names_the_step_at_which_it_began() -> None:
    sentinel = Sentinel(log_K=math.log(512), grace=10, patience=5)
    assert [sentinel.see(s, "uniform") for s in range(1, 8)] == ["healthy"] * 7  # not judged yet
    assert sentinel.see(8, "healthy") == "healthy"
    states = [sentinel.see(s, "uniform") for s in range(20, 26)]
    assert states == ["healthy"] * 4 + ["uniform"] * 2
    report = sentinel.report()
    assert report["since_step"] == 20
    assert "loss = ln K = 6.238: the target is uniform" in str(report["meaning"])
    assert sentinel.see(26, "healthy") == "uniform"  # one good step does not end a collapse


def test_a_nan_is_named_at_once() -> None:
    sentinel = Sentinel(log_K=1.0, grace=100, patience=100)
    assert sentinel.see(1, "nan") == "nan"
    assert judge_vectors(math.nan, 1.0) == "nan"


def test_vectors_that_all_point_one_way_are_a_constant_output() -> None:
    random = torch.Generator().manual_seed(0)
    even = torch.randn(512, 32, generator=random)
    assert float(spread(even)) == pytest.approx(1, abs=0.02)
    assert judge_vectors(1.0, float(spread(even))) == "healthy"
    assert judge_vectors(0.0, float(spread(100 + even))) == "constant"
