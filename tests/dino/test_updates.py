"""Teacher updates, clipping, freezing and parameter groups (F10-F13; Figure 6 right)."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from repro.config.schema import ClipKind, TeacherKind
from repro.dino import teachers
from repro.dino.optimiser import build_optimiser, clip_gradients, freeze_last_layer, set_rates


def pair() -> tuple[nn.Module, nn.Module]:
    student = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    teacher = copy.deepcopy(student)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn_like(parameter))
    return teacher, student


def test_the_momentum_teacher_is_a_weighted_mean_of_every_parameter() -> None:
    teacher, student = pair()
    expected = [
        0.9 * t.detach() + 0.1 * s.detach()
        for t, s in zip(teacher.parameters(), student.parameters(), strict=True)
    ]
    teachers.after_update(TeacherKind.momentum, teacher, student, 0.9, epoch_ends=False)
    for parameter, value in zip(teacher.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.detach(), value)


def equal(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_the_previous_iteration_teacher_lags_one_update_behind() -> None:
    teacher, student = pair()
    old = copy.deepcopy(student)
    kind = TeacherKind.previous_iteration
    teachers.before_update(kind, teacher, student)
    with torch.no_grad():
        next(student.parameters()).add_(1.0)
    teachers.after_update(kind, teacher, student, 0.9, epoch_ends=True)
    assert equal(teacher, old)
    assert not equal(teacher, student)


def test_the_student_copy_follows_at_once_and_the_previous_epoch_only_at_its_end() -> None:
    teacher, student = pair()
    frozen = copy.deepcopy(teacher)
    teachers.before_update(TeacherKind.previous_epoch, teacher, student)
    teachers.after_update(TeacherKind.previous_epoch, teacher, student, 0.9, epoch_ends=False)
    assert equal(teacher, frozen)
    teachers.after_update(TeacherKind.previous_epoch, teacher, student, 0.9, epoch_ends=True)
    assert equal(teacher, student)
    other, _ = pair()
    teachers.after_update(TeacherKind.student_copy, other, student, 0.9, epoch_ends=False)
    assert equal(other, student)


def test_the_distance_is_relative_to_the_teacher() -> None:
    teacher, student = pair()
    flat = [torch.cat([p.detach().flatten() for p in m.parameters()]) for m in (teacher, student)]
    expected = float((flat[1] - flat[0]).norm() / flat[0].norm())
    assert float(teachers.relative_distance(teacher, student)) == pytest.approx(expected)


def with_gradients(*norms: float) -> nn.Module:
    module = nn.ParameterList([nn.Parameter(torch.zeros(4)) for _ in norms])
    for parameter, norm in zip(module, norms, strict=True):
        parameter.grad = torch.full((4,), norm / 2)
    return module


def gradient_norms(module: nn.Module) -> list[float]:
    return [float(p.grad.norm()) for p in module.parameters() if p.grad is not None]


def test_per_tensor_clipping_bounds_each_tensor_and_leaves_small_ones_alone() -> None:
    module = with_gradients(5.0, 1.0, 3.0)
    total = clip_gradients(module, ClipKind.per_tensor, 3.0)
    assert gradient_norms(module) == pytest.approx([3.0, 1.0, 3.0], rel=1e-5)
    assert float(total) == pytest.approx(35**0.5)


def test_global_clipping_scales_all_tensors_together() -> None:
    module = with_gradients(3.0, 4.0)
    clip_gradients(module, ClipKind.global_norm, 1.0)
    assert gradient_norms(module) == pytest.approx([0.6, 0.8], rel=1e-5)
    clip_gradients(module, ClipKind.global_norm, 10.0)
    assert gradient_norms(module) == pytest.approx([0.6, 0.8], rel=1e-5)


def test_no_clipping_still_reports_the_norm() -> None:
    module = with_gradients(30.0, 40.0)
    assert float(clip_gradients(module, ClipKind.none, 1.0)) == pytest.approx(50)
    assert gradient_norms(module) == pytest.approx([30, 40])


class Headed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Linear(3, 3)
        self.last_layer = nn.Linear(3, 3, bias=False)


def test_a_frozen_last_layer_is_neither_moved_nor_decayed_nor_remembered() -> None:
    module = Headed()
    optimiser = build_optimiser(module)
    set_rates(optimiser, lr=0.1, weight_decay=0.4)
    before = module.last_layer.weight.detach().clone()
    module.last_layer(module.mlp(torch.randn(2, 3))).sum().backward()
    freeze_last_layer(module)
    optimiser.step()
    assert torch.equal(module.last_layer.weight, before)
    assert module.last_layer.weight not in optimiser.state
    assert module.mlp.weight in optimiser.state


def test_weight_decay_spares_biases_and_1d_parameters_only() -> None:
    module = nn.Module()
    module.pos_embed = nn.Parameter(torch.ones(1, 2, 3))
    module.layer = nn.Linear(3, 3)
    module.norm = nn.LayerNorm(3)
    module.norms = nn.Parameter(torch.ones(5, 1))
    optimiser = build_optimiser(module)
    set_rates(optimiser, lr=0.1, weight_decay=0.5)
    decayed, plain = (group["params"] for group in optimiser.param_groups)
    assert {id(p) for p in decayed} == {
        id(module.pos_embed), id(module.layer.weight), id(module.norms)
    }  # fmt: skip
    assert {id(p) for p in plain} == {
        id(module.layer.bias), id(module.norm.weight), id(module.norm.bias)
    }  # fmt: skip
    assert [group["weight_decay"] for group in optimiser.param_groups] == [0.5, 0.0]
