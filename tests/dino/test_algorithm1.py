"""The trainer against Algorithm 1 of the paper, written as plainly as it reads.

The oracle runs every crop through the network on its own, loops over the pairs of views, clips
tensor by tensor and averages weights one by one; it shares only the networks and the views.
"""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from repro.config.schema import ClipKind, CodePath, RunConfig, TeacherKind
from repro.data.dataset import Dataset
from repro.dino.networks import build_student, build_teacher
from repro.randomness import derive, epoch_order
from repro.train import Trainer

CPU = torch.device("cpu")


class PlainDino:
    """Algorithm 1 with the authors' order of operations (F4-F13 of their code)."""

    def __init__(self, trainer: Trainer) -> None:
        self.config = trainer.config
        self.student = build_student(self.config)  # on the reference path
        self.student.load_state_dict(trainer.student.state_dict())
        self.teacher = build_teacher(self.config, self.student)
        self.previous = copy.deepcopy(trainer.student.state_dict())
        self.centre = torch.zeros(self.config.head.prototypes)
        trained = [(n, p) for n, p in self.student.named_parameters() if p.requires_grad]
        decayed = [p for n, p in trained if self.decays(n, p)]
        plain = [p for n, p in trained if not self.decays(n, p)]
        groups = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=0.0, fused=False, foreach=False)

    @staticmethod
    def decays(name: str, parameter: Tensor) -> bool:
        return parameter.ndim > 1 and not name.endswith(".bias")

    def step(
        self, crops: list[Tensor], step: int, steps_per_epoch: int, trained: nn.Module
    ) -> float:
        """One iteration; checks its gradients against `trained`'s and then goes on with those.

        AdamW divides a gradient by its own size, so a rounding error of 1e-9 in a gradient that is
        zero on paper (the bias of the keys) would move a weight by the whole learning rate.
        """
        config, total = self.config, self.config.train.epochs * steps_per_epoch
        warmup = config.optim.warmup_epochs * steps_per_epoch
        peak = config.optim.lr * config.train.batch_size / 256
        if step < warmup:
            rate = peak * step / (warmup - 1)
        else:
            turn = math.pi * (step - warmup) / (total - warmup)
            rate = config.optim.min_lr + (peak - config.optim.min_lr) * (1 + math.cos(turn)) / 2
        fall = (1 + math.cos(math.pi * step / total)) / 2
        wd = config.optim.weight_decay_end
        wd += (config.optim.weight_decay - config.optim.weight_decay_end) * fall
        momentum = 1 + (config.teacher.momentum - 1) * fall
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.param_groups[0]["weight_decay"] = wd

        with torch.no_grad():
            t = [self.teacher.head(self.teacher.backbone(x)) for x in crops[:2]]
        s = [self.student.head(self.student.backbone(x)) for x in crops]
        loss, terms = torch.zeros(()), 0
        for i, teacher_out in enumerate(t):
            for j, student_out in enumerate(s):
                if i != j:
                    loss = loss + self.cross_entropy(teacher_out, student_out)
                    terms += 1
        loss = loss / terms
        self.optimiser.zero_grad()
        loss.backward()
        if config.optim.clip is ClipKind.per_tensor:
            for p in self.student.parameters():
                if p.grad is not None and (norm := p.grad.norm().item()) > config.optim.clip_norm:
                    p.grad.mul_(config.optim.clip_norm / (norm + 1e-6))
        if step < config.head.freeze_last_layer_epochs * steps_per_epoch:
            for name, p in self.student.named_parameters():
                if "last_layer" in name:
                    p.grad = None
        adopt_equal_gradients(self.student, trained)
        before = copy.deepcopy(self.student.state_dict())
        self.optimiser.step()
        self.update_teacher(before, momentum, (step + 1) % steps_per_epoch == 0)
        if config.target.centering:
            m = config.target.centre_momentum
            self.centre = m * self.centre + (1 - m) * torch.cat(t).mean(dim=0)
        return float(loss.detach())

    def cross_entropy(self, t: Tensor, s: Tensor) -> Tensor:
        tau_t = self.config.target.temp if self.config.target.sharpening else 0.1
        target = ((t.detach() - self.centre) / tau_t).softmax(dim=1)
        return -(target * (s / 0.1).log_softmax(dim=1)).sum(dim=1).mean()

    def update_teacher(self, before: dict[str, Tensor], momentum: float, epoch_ends: bool) -> None:
        kind = self.config.teacher.kind
        if kind is TeacherKind.momentum:
            pairs = zip(self.teacher.parameters(), self.student.parameters(), strict=True)
            for pt, ps in pairs:
                pt.data = momentum * pt.data + (1 - momentum) * ps.data
        elif kind is TeacherKind.previous_iteration:
            self.teacher.load_state_dict(before)
        elif kind is TeacherKind.student_copy or epoch_ends:
            self.teacher.load_state_dict(self.student.state_dict())


def crops_of(trainer: Trainer, step: int) -> list[Tensor]:
    """The views the trainer uses at `step`, one tensor a crop."""
    config, size = trainer.config, trainer.config.train.batch_size
    epoch, done = divmod(step, trainer.steps_per_epoch)
    order = epoch_order(config.seed, epoch, len(trainer.dataset.train.labels_N))
    batch = order[done * size : (done + 1) * size]
    (views,) = trainer.dataset.train.view_batches([batch], config.views, config.seed, step)
    return [crop for group in views for crop in group.split(size)]


def adopt_equal_gradients(plain: nn.Module, trained: nn.Module) -> None:
    for (name, ours), theirs in zip(plain.named_parameters(), trained.parameters(), strict=True):
        if ours.grad is None or theirs.grad is None:
            assert ours.grad is theirs.grad is None, name
            continue
        scale = max(1.0, float(ours.grad.abs().max()))
        assert float((ours.grad - theirs.grad).abs().max()) < 1e-6 * scale, name
        ours.grad.copy_(theirs.grad)


def greatest_difference(a: nn.Module, b: nn.Module) -> float:
    pairs = zip(a.parameters(), b.parameters(), strict=True)
    return max(float((x - y).detach().abs().max()) for x, y in pairs)


@pytest.mark.parametrize("path", list(CodePath))
@pytest.mark.parametrize("kind", list(TeacherKind))
def test_the_trainer_follows_algorithm_1_step_by_step(
    kind: TeacherKind, path: CodePath, smoke_config: RunConfig, smoke_data: Dataset
) -> None:
    config = smoke_config
    config.resources.path = path
    config.teacher.kind = kind
    config.model.drop_path = 0.0  # the oracle's crops would draw other masks
    config.optim.clip_norm = 0.05  # so that some tensors are clipped and others are not
    trainer = Trainer(config, smoke_data, CPU)
    plain = PlainDino(trainer)
    steps = (event for event in trainer.run() if event["kind"] == "step")
    for step in range(trainer.steps_per_epoch + 2):
        event = next(steps)
        crops = crops_of(trainer, step)
        expected = plain.step(crops, step, trainer.steps_per_epoch, trainer.student)
        assert event["loss"] == pytest.approx(expected, abs=1e-6)
        assert float((trainer.method.centre.centre_K - plain.centre).abs().max()) < 1e-6
        assert greatest_difference(trainer.teacher, plain.teacher) < 1e-6
        assert greatest_difference(trainer.student, plain.student) < 1e-6


@pytest.mark.parametrize(("centering", "sharpening"), [(True, False), (False, True)])
def test_gradients_equal_those_of_algorithm_1(
    centering: bool, sharpening: bool, smoke_config: RunConfig, smoke_data: Dataset
) -> None:
    config = smoke_config
    config.model.drop_path = 0.0
    config.optim.clip = ClipKind.none
    config.head.freeze_last_layer_epochs = 0
    config.target.centering, config.target.sharpening = centering, sharpening
    trainer = Trainer(config, smoke_data, CPU)
    plain = PlainDino(trainer)
    event = next(event for event in trainer.run() if event["kind"] == "step")
    loss = plain.step(crops_of(trainer, 0), 0, trainer.steps_per_epoch, trainer.student)
    assert event["loss"] == pytest.approx(loss, abs=1e-6)


def test_drop_path_masks_depend_on_the_seed_and_step_alone(
    smoke_config: RunConfig, smoke_data: Dataset
) -> None:
    losses = []
    for disturbance in (1, 2):
        trainer = Trainer(smoke_config, smoke_data, CPU)
        torch.manual_seed(disturbance)
        steps = (event for event in trainer.run() if event["kind"] == "step")
        losses.append([next(steps)["loss"] for _ in range(3)])
    assert losses[0] == losses[1]
    assert derive(0, "drop path", 1) != derive(0, "drop path", 2)
