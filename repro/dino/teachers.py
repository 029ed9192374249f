"""Where the teacher's weights come from (Sec. 5.2, Figure 6 right).

- momentum: theta_t <- lambda theta_t + (1 - lambda) theta_s after every optimiser step;
- student_copy: the student's current weights, at every step;
- previous_iteration: the student's weights before its latest update;
- previous_epoch: the student's weights at the end of the previous epoch.

Parameters only: batch-norm statistics stay the teacher's own, as in the authors' code. A predictor
is the student's alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from repro.config.schema import TeacherKind
from repro.dino.optimiser import groups


@torch.no_grad()
def move_towards(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """teacher <- momentum x teacher + (1 - momentum) x student."""
    for averages, values in zip(*map(groups, _shared(teacher, student)), strict=True):
        torch._foreach_mul_(averages, momentum)
        torch._foreach_add_(averages, values, alpha=1 - momentum)


@torch.no_grad()
def copy_weights(teacher: nn.Module, student: nn.Module) -> None:
    torch._foreach_copy_(*_shared(teacher, student))


def before_update(kind: TeacherKind, teacher: nn.Module, student: nn.Module) -> None:
    """Called after the gradients are known and before the student's weights change."""
    if kind is TeacherKind.previous_iteration:
        copy_weights(teacher, student)


def after_update(
    kind: TeacherKind, teacher: nn.Module, student: nn.Module, momentum: float, epoch_ends: bool
) -> None:
    """Called after the student's weights have changed."""
    if kind is TeacherKind.momentum:
        move_towards(teacher, student, momentum)
    elif kind is TeacherKind.student_copy or (kind is TeacherKind.previous_epoch and epoch_ends):
        copy_weights(teacher, student)


@torch.no_grad()
def relative_distance(teacher: nn.Module, student: nn.Module) -> Tensor:
    """|theta_s - theta_t| / |theta_t| over all parameters. Scalar."""
    apart: list[Tensor] = []
    sizes: list[Tensor] = []
    for averages, values in zip(*map(groups, _shared(teacher, student)), strict=True):
        apart += torch._foreach_norm(torch._foreach_sub(values, averages))
        sizes += torch._foreach_norm(averages)
    return _norm(apart) / _norm(sizes)


def _norm(norms: list[Tensor]) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return norm


def _shared(teacher: nn.Module, student: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """The parameters that both have, in one order."""
    students = dict(student.named_parameters())
    pairs = [(t.detach(), students[name].detach()) for name, t in teacher.named_parameters()]
    return [t for t, _ in pairs], [s for _, s in pairs]
