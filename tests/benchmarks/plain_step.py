"""A training step as Algorithm 1 reads: the baseline of the step's benchmark.

One resolution after the other through timm's blocks, attention with stored weights, a loop over the
pairs of views, clipping and averages tensor by tensor, each clipping decision read back.
"""

from __future__ import annotations

import torch
from torch import Tensor

from repro.config.schema import GLOBAL_VIEWS, Precision, RunConfig
from repro.dino.networks import build_student, build_teacher
from repro.dino.optimiser import build_optimiser


class PlainStep:
    """Student, teacher, centre and AdamW; a call is one step on fixed views."""

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        with device:  # where weights are drawn sooner
            self.student = build_student(config).to(device)
            self.teacher = build_teacher(config, self.student).to(device)
        self.centre_K = torch.zeros(config.head.prototypes, device=device)
        groups = build_optimiser(self.student).param_groups
        self.optimiser = torch.optim.AdamW(groups, lr=1e-5, foreach=False, fused=False)

    def __call__(self, views: list[Tensor]) -> float:
        with self._autocast(), torch.no_grad():
            teacher = self.teacher(views[:1]).logits_MK.float().chunk(GLOBAL_VIEWS)
        with self._autocast():
            student = self.student(views).logits_MK
        crops = GLOBAL_VIEWS + self.config.views.local_number
        loss = self.loss(student.float().chunk(crops), teacher)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for parameter in self.student.parameters():
            if parameter.grad is None:
                continue
            factor = self.config.optim.clip_norm / (parameter.grad.norm(2).item() + 1e-6)
            if factor < 1:
                parameter.grad.mul_(factor)
        self.optimiser.step()
        momentum = self.config.teacher.momentum
        with torch.no_grad():
            pairs = zip(self.teacher.parameters(), self.student.parameters(), strict=True)
            for average, value in pairs:
                average.mul_(momentum).add_((1 - momentum) * value)
            mean_K = torch.cat(teacher).mean(dim=0)
            self.centre_K = 0.9 * self.centre_K + 0.1 * mean_K
        return float(loss.detach())

    def loss(self, student: tuple[Tensor, ...], teacher: tuple[Tensor, ...]) -> Tensor:
        config = self.config
        total, terms = torch.zeros((), device=self.device), 0
        logs = [(logits / config.loss.student_temp).log_softmax(dim=-1) for logits in student]
        for g, logits in enumerate(teacher):
            target = ((logits - self.centre_K) / config.target.temp).softmax(dim=-1)
            for v, log_student in enumerate(logs):
                if v != g:
                    total = total - (target * log_student).sum(dim=-1).mean()
                    terms += 1
        return total / terms

    def _autocast(self) -> torch.autocast:
        bf16 = self.config.train.precision is Precision.bf16
        return torch.autocast(self.device.type, torch.bfloat16, enabled=bf16)
