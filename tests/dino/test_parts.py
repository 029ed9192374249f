"""Each part of a method against a plain oracle: Tables 7, 14 and 15, Appendix B."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss, normalize

from repro.config.schema import (
    Activation,
    HeadConfig,
    Operation,
    OptimiserName,
    PredictorConfig,
    RunConfig,
    TargetConfig,
    TeacherKind,
)
from repro.data.dataset import Dataset
from repro.dino.heads import DinoHead
from repro.dino.losses import info_nce, nt_xent, pairwise_squared_distance
from repro.dino.networks import build_student, build_teacher
from repro.dino.optimiser import build_optimiser, set_rates
from repro.dino.queues import Queue
from repro.dino.targets import log_probabilities, one_hot_logs, sinkhorn_knopp
from repro.dino.teachers import after_update, relative_distance
from repro.train import Trainer

CPU = torch.device("cpu")


def loop_of_appendix_b(x: Tensor, temperature: float, iterations: int) -> Tensor:
    """As printed: x is n-by-K."""
    x = torch.exp(x / temperature)
    for _ in range(iterations):
        x = x / x.sum(dim=0, keepdim=True)
        x = x / x.sum(dim=1, keepdim=True)
    return x


@given(
    n=st.integers(2, 9), k=st.integers(2, 9), iterations=st.integers(1, 5),
    temperature=st.floats(0.05, 1), seed=st.integers(0, 99),
)  # fmt: skip
@settings(deadline=None, max_examples=40)
def test_sinkhorn_knopp_equals_the_plain_loop_of_appendix_b(
    n: int, k: int, iterations: int, temperature: float, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    logits = torch.rand(n, k, generator=random, dtype=torch.float64) * 2 - 1
    ours = sinkhorn_knopp(logits, temperature, iterations).exp()
    torch.testing.assert_close(ours, loop_of_appendix_b(logits, temperature, iterations))


def test_sinkhorn_knopp_gives_every_image_one_and_every_prototype_its_share() -> None:
    logits = torch.randn(48, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    balanced = sinkhorn_knopp(logits, 0.5, 200).exp()
    torch.testing.assert_close(balanced.sum(dim=1), torch.ones(48, dtype=torch.float64))
    torch.testing.assert_close(balanced.sum(dim=0), torch.full((6,), 8.0, dtype=torch.float64))
    softmax_alone = (logits / 0.5).softmax(dim=1).sum(dim=0)
    assert float((softmax_alone - 8).abs().max()) > 0.5


def test_sinkhorn_knopp_survives_outputs_whose_exponential_overflows() -> None:
    logits = torch.tensor([[100.0, -100.0], [90.0, 80.0]])
    assert not math.isfinite(float(loop_of_appendix_b(logits, 0.04, 3).sum()))
    result = sinkhorn_knopp(logits, 0.04, 3).exp()
    torch.testing.assert_close(result.sum(dim=1), torch.ones(2))


def test_sinkhorn_knopp_balances_each_view_on_its_own() -> None:
    config = TargetConfig(operation=Operation.sinkhorn_knopp, centering=False)
    views = torch.randn(2, 8, 5)
    both = log_probabilities(config, views, 0.1)
    for view, logs in zip(views, both, strict=True):
        torch.testing.assert_close(logs, sinkhorn_knopp(view, 0.1, 3))


def test_a_queue_joins_the_balance_but_not_the_targets() -> None:
    logits, earlier = torch.randn(4, 5), torch.randn(12, 5)
    with_queue = sinkhorn_knopp(logits, 0.2, 3, earlier)
    whole = sinkhorn_knopp(torch.cat([logits, earlier]), 0.2, 3)
    torch.testing.assert_close(with_queue, whole[:4])
    assert not torch.allclose(with_queue, sinkhorn_knopp(logits, 0.2, 3))


def test_softmax_over_the_batch_is_the_formula_of_appendix_b() -> None:
    logits = torch.randn(2, 7, 4)
    config = TargetConfig(operation=Operation.softmax_batch, centering=False)
    for view, logs in zip(logits, log_probabilities(config, logits, 0.3), strict=True):
        x = (view / 0.3).softmax(dim=0)
        torch.testing.assert_close(logs.exp(), x / x.sum(dim=1, keepdim=True))


def test_a_temperature_of_zero_is_the_limit_of_ever_colder_ones() -> None:
    logits = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(3))
    hard = log_probabilities(TargetConfig(), logits, 0.0).exp()
    torch.testing.assert_close(hard, log_probabilities(TargetConfig(), logits, 1e-4).exp())
    assert hard.sum(-1).eq(1).all()
    logs = one_hot_logs(torch.tensor([1]), 3)
    assert float((logs.exp() * logs).sum()) == pytest.approx(0, abs=1e-30)  # not nan


def pairs(globals_: int, views: int) -> list[tuple[int, int]]:
    return [(g, v) for g in range(globals_) for v in range(views) if g != v]


def unit(*shape: int, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(*shape, generator=random, dtype=torch.float64), dim=-1)


def test_byols_loss_is_two_minus_twice_the_cosine_and_k_times_the_mean_squared_error() -> None:
    targets, student = unit(2, 6, 9), unit(4, 6, 9, seed=1)
    terms = [(targets[g], student[v]) for g, v in pairs(2, 4)]
    cosines = [2 - 2 * (t * s).sum(-1).mean() for t, s in terms]
    squares = [9 * mse_loss(s, t) for t, s in terms]
    ours = pairwise_squared_distance(targets, student)
    torch.testing.assert_close(ours, torch.stack(cosines).mean())
    torch.testing.assert_close(ours, torch.stack(squares).mean())
    assert float(pairwise_squared_distance(targets, targets.flip(0))) == pytest.approx(0, abs=1e-12)


def test_info_nce_is_cross_entropy_with_the_positive_among_the_queue() -> None:
    targets, student, queue = unit(2, 5, 8), unit(4, 5, 8, seed=1), unit(20, 8, seed=2)
    terms = []
    for g, v in pairs(2, 4):
        positive = (targets[g] * student[v]).sum(-1, keepdim=True)
        logits = torch.cat([positive, student[v] @ queue.T], dim=1) / 0.1
        terms.append(cross_entropy(logits, torch.zeros(5, dtype=torch.int64)))
    torch.testing.assert_close(info_nce(targets, student, 0.1, queue), torch.stack(terms).mean())


def test_info_nce_without_a_queue_picks_the_image_among_its_batch() -> None:
    targets, student = unit(2, 5, 8), unit(3, 5, 8, seed=1)
    terms = [
        cross_entropy(student[v] @ targets[g].T / 0.2, torch.arange(5)) for g, v in pairs(2, 3)
    ]
    torch.testing.assert_close(info_nce(targets, student, 0.2, None), torch.stack(terms).mean())


def test_nt_xent_with_two_views_is_simclrs_loss() -> None:
    student = unit(2, 4, 6)
    rows = student.flatten(0, 1)
    similarity = rows @ rows.T / 0.5
    similarity.fill_diagonal_(-torch.inf)  # not with itself
    partner = torch.arange(8).roll(4)
    expected = cross_entropy(similarity, partner)
    torch.testing.assert_close(nt_xent(student, 2, 0.5), expected)


def test_further_views_of_an_image_are_no_negatives_of_nt_xent() -> None:
    student = unit(3, 1, 6)  # a single image: nothing but positives
    assert float(nt_xent(student, 2, 0.1)) == pytest.approx(0, abs=1e-9)


def test_a_queue_forgets_the_oldest_and_knows_when_it_is_full() -> None:
    queue = Queue(6, 3)
    torch.testing.assert_close(queue.entries_QP.norm(dim=1), torch.ones(6))
    first, second = torch.arange(12.0).view(2, 2, 3), 100 + torch.arange(12.0).view(2, 2, 3)
    queue.push(first)
    assert not queue.full
    queue.push(second)
    assert queue.full
    kept = [second[1, 0], second[1, 1], first[1, 0], first[1, 1], second[0, 0], second[0, 1]]
    torch.testing.assert_close(queue.entries_QP, torch.stack(kept))
    queue.push(torch.arange(30.0).view(2, 5, 3))
    assert {float(x) for x in queue.entries_QP[:, 0]} == {12.0, 15.0, 18.0, 21.0, 24.0, 27.0}


@pytest.mark.parametrize(("bottleneck", "layers"), [(True, 1), (True, 3), (False, 1), (False, 4)])
def test_linear_layers_are_counted_as_in_appendix_c(bottleneck: bool, layers: int) -> None:
    config = HeadConfig(
        layers=layers, l2_bottleneck=bottleneck, hidden_dim=10, bottleneck_dim=6, prototypes=7
    )
    head = DinoHead(8, config)
    linear = sum(isinstance(m, nn.Linear) for m in head.modules())
    assert linear == layers
    assert (head.last_layer is not None) == bottleneck  # the weight-normalised layer is one more
    assert head(torch.randn(3, 8)).shape == (3, 7)


def test_relu_takes_the_place_of_gelu() -> None:
    head = DinoHead(8, HeadConfig(hidden_dim=6, bottleneck_dim=4, activation=Activation.relu))
    kinds = [type(layer).__name__ for layer in head.mlp]
    assert kinds == ["Linear", "ReLU", "Linear", "ReLU", "Linear"]


def test_a_predictor_is_the_students_alone_and_the_teacher_follows_the_rest(
    smoke_config: RunConfig,
) -> None:
    smoke_config.predictor = PredictorConfig(used=True, hidden_dim=8)
    student = build_student(smoke_config)
    teacher = build_teacher(smoke_config, student)
    extra = dict(student.named_parameters()).keys() - dict(teacher.named_parameters()).keys()
    assert extra
    assert all(name.startswith("head.predictor.") for name in extra)
    x = torch.randn(4, 32)
    projection = student.head.mlp(x)
    direct = normalize(student.head.predictor(projection), dim=-1)  # type: ignore[misc]
    torch.testing.assert_close(student.head.project(x), direct)
    torch.testing.assert_close(teacher.head.project(x), normalize(projection, dim=-1))
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    after_update(TeacherKind.momentum, teacher, student, 0.5, epoch_ends=False)
    weights = dict(student.named_parameters())
    for name, parameter in teacher.named_parameters():
        torch.testing.assert_close(parameter, weights[name] - 0.5)
    after_update(TeacherKind.student_copy, teacher, student, 0.0, epoch_ends=False)
    assert float(relative_distance(teacher, student)) == 0


def test_lars_follows_its_published_update_rule() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(5, 4)
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    optimiser = build_optimiser(layer, OptimiserName.lars)
    rate, decay, eta, momentum = 0.3, 1e-2, 1e-3, 0.9
    velocity, bias_velocity = torch.zeros(4, 5), torch.zeros(4)
    for step in range(3):
        set_rates(optimiser, rate, decay)
        optimiser.zero_grad()
        layer(torch.full((2, 5), 1.0 + step)).pow(2).sum().backward()
        g, b = layer.weight.grad.clone(), layer.bias.grad.clone()  # type: ignore[union-attr]
        optimiser.step()
        # You et al. (2017): local rate eta |w| / (|g| + decay |w|), momentum on the scaled update.
        local = eta * weight.norm() / (g.norm() + decay * weight.norm())
        velocity = momentum * velocity + local * (g + decay * weight)
        weight = weight - rate * velocity
        bias_velocity = momentum * bias_velocity + b  # 1-d: neither decayed nor adapted
        bias = bias - rate * bias_velocity
        torch.testing.assert_close(layer.weight.detach(), weight)
        torch.testing.assert_close(layer.bias.detach(), bias)


def test_each_optimiser_is_the_one_that_is_asked_for() -> None:
    names = {kind: type(build_optimiser(nn.Linear(2, 2), kind)).__name__ for kind in OptimiserName}
    assert names == {
        OptimiserName.adamw: "AdamW",
        OptimiserName.sgd: "SGD",
        OptimiserName.lars: "Lars",
    }


def test_labels_are_targets_with_as_many_outputs_as_classes(
    smoke_config: RunConfig, smoke_data: Dataset
) -> None:
    smoke_config.target.operation = Operation.labels
    smoke_config.target.centering = False
    smoke_config.teacher.kind = TeacherKind.student_copy
    smoke_config.head.l2_bottleneck = False
    smoke_config.head.layers = 1
    smoke_config.loss.student_temp = 1.0
    prototypes = smoke_config.head.prototypes
    trainer = Trainer(smoke_config, smoke_data, CPU)
    assert trainer.outputs == len(smoke_data.classes)
    assert smoke_config.head.prototypes == prototypes  # the caller's config is left alone
    logits, labels = torch.randn(2, 3, 16), torch.tensor([4, 0, 15])
    targets = trainer.method.targets(logits, labels, 0.04, trainer.teacher.head)
    loss, _ = trainer.method.loss(logits, targets)
    expected = torch.stack([cross_entropy(view, labels) for view in logits]).mean()
    torch.testing.assert_close(loss, expected)
