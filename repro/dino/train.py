"""Algorithm 1 of the paper: one run, from a typed config to metrics.

Order of an iteration, as in the authors' code: set learning rate and weight decay; teacher on the
global views, student on all; loss with the centre from before this step; backward; clip; freeze;
AdamW step; teacher update; centre update.

Shapes: G global views, V student views, B images, K prototypes, D feature width.

Departures: a non-finite loss raises `Diverged` (the authors' code exits without a trace); bfloat16
autocast needs no loss scaler, so no step is ever skipped.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from repro.config import Device, Precision, RunConfig
from repro.data.datasets import Dataset
from repro.dino import schedules
from repro.dino.diagnostics import feature_statistics, output_statistics, to_floats
from repro.dino.losses import log_student, pairwise_cross_entropy
from repro.dino.networks import build_student, build_teacher
from repro.dino.optimiser import build_optimiser, clip_gradients, freeze_last_layer, set_rates
from repro.dino.randomness import derive, epoch_order
from repro.dino.sentinel import Sentinel
from repro.dino.targets import Centre
from repro.dino.teachers import after_update, before_update, relative_distance
from repro.errors import UserError
from repro.evals.features import extract_features, pixel_features
from repro.evals.knn import knn_accuracy
from repro.evals.throughput import images_per_second

GLOBAL_VIEWS = 2
MIN_PATIENCE = 20  # steps for which the sentinel must see the same state
Event = dict[str, Any]


class Diverged(RuntimeError):
    """The loss is not finite."""

    def __init__(self, step: int, loss: float) -> None:
        super().__init__(f"the loss is {loss} at step {step}")
        self.step = step


def choose_device(device: Device) -> torch.device:
    """Raises UserError where cuda is asked for and there is none."""
    if device is Device.cuda and not torch.cuda.is_available():
        raise UserError("resources.device=cuda, but torch sees no GPU; use auto or cpu")
    if device is Device.auto:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device.value)


class Trainer:
    """Student, teacher, centre and optimiser of one run; `run()` yields its events."""

    def __init__(self, config: RunConfig, dataset: Dataset, device: torch.device) -> None:
        self.config, self.dataset, self.device = config, dataset, device
        images = len(dataset.train.labels_N)
        self.steps_per_epoch = images // config.train.batch_size
        if self.steps_per_epoch == 0:
            raise UserError(
                f"train.batch_size={config.train.batch_size} is larger than the {images} training "
                f"images of {dataset.name}"
            )
        self.total_steps = config.train.epochs * self.steps_per_epoch
        self.step = 0

        torch.manual_seed(derive(config.seed, "weights"))
        self.student = build_student(config).to(device)
        self.teacher = build_teacher(config, self.student).to(device)
        self.centre = Centre(config.head.prototypes, config.target).to(device)
        self.optimiser = build_optimiser(self.student)

        log_K = math.log(config.head.prototypes)
        slow_start = max(config.head.freeze_last_layer_epochs, config.optim.warmup_epochs)
        self.sentinel = Sentinel(
            log_K,
            grace=min(slow_start * self.steps_per_epoch, self.total_steps // 5),
            patience=max(MIN_PATIENCE, self.steps_per_epoch),
        )
        self.accuracies: dict[str, float] = {}
        self.worst_decomposition = 0.0
        self._epoch_sums: dict[str, float] = defaultdict(float)
        self.epoch_means: dict[str, float] = {}

    def run(self) -> Iterator[Event]:
        """Train from the current step to the end; see ARCHITECTURE.md for the events."""
        if self.step == 0:
            yield self._evaluate(floors=True)
        while self.step < self.total_steps:
            yield from self._epoch()

    def _epoch(self) -> Iterator[Event]:
        epoch, done = divmod(self.step, self.steps_per_epoch)
        if done == 0:
            self._epoch_sums.clear()
        batch_size = self.config.train.batch_size
        order = epoch_order(self.config.seed, epoch, len(self.dataset.train.labels_N))
        batches = list(torch.split(order, batch_size))[done : self.steps_per_epoch]
        all_views = self.dataset.train.view_batches(
            batches, self.config.views, self.config.seed, self.step
        )
        start = time.perf_counter()
        for views in all_views:
            event = self._step(views, epoch)
            now = time.perf_counter()
            event["images_per_second"] = batch_size / (now - start)
            start = now
            yield event
            if self.step % self.steps_per_epoch:
                continue
            self.epoch_means = {k: v / self.steps_per_epoch for k, v in self._epoch_sums.items()}
            last = self.step == self.total_steps
            if last or (epoch + 1) % self.config.eval.every_epochs == 0:
                yield self._evaluate()
            yield {"kind": "epoch", "step": self.step, "epoch": self.epochs_done}

    @property
    def epochs_done(self) -> float:
        return self.step / self.steps_per_epoch

    def _step(self, views: list[Tensor], epoch: int) -> Event:
        config, student, teacher = self.config, self.student, self.teacher
        spe = self.steps_per_epoch
        lr = schedules.learning_rate(config, self.step, spe)
        decay = schedules.weight_decay(config, self.step, spe)
        momentum = schedules.teacher_momentum(config, self.step, spe)
        temperature = schedules.teacher_temperature(config, epoch)
        set_rates(self.optimiser, lr, decay)

        # Drop path draws from the global generators; see randomness.py.
        torch.manual_seed(derive(config.seed, "drop path", self.step))
        views = [view.to(self.device, non_blocking=True) for view in views]
        batch, prototypes = config.train.batch_size, config.head.prototypes
        bf16 = config.train.precision is Precision.bf16
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            with torch.no_grad():
                features_MD, teacher_logits = teacher(views[:1])
            _, student_logits = student(views)
        teacher_GBK = teacher_logits.float().view(GLOBAL_VIEWS, batch, prototypes)
        student_VBK = student_logits.float().view(-1, batch, prototypes)
        targets_GBK, log_targets_GBK = self.centre.targets(teacher_GBK, temperature)
        log_student_VBK = log_student(student_VBK, config.loss.student_temp)
        loss = pairwise_cross_entropy(targets_GBK, log_student_VBK)

        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        grad_norm = clip_gradients(student, config.optim.clip, config.optim.clip_norm)
        if epoch < config.head.freeze_last_layer_epochs:
            freeze_last_layer(student)
        scalars = {"loss": loss.detach(), "grad_norm": grad_norm}
        scalars |= output_statistics(targets_GBK, log_targets_GBK, log_student_VBK.detach())
        scalars |= feature_statistics(features_MD)
        scalars["student_teacher_distance"] = relative_distance(teacher, student)
        # Before the weights change: a diverged run keeps its last good state.
        if not math.isfinite(value := float(scalars["loss"])):
            self.sentinel.see(self.step + 1, value, value, value, value)
            raise Diverged(self.step + 1, value)

        before_update(config.teacher.kind, teacher, student)
        self.optimiser.step()
        epoch_ends = (self.step + 1) % spe == 0
        after_update(config.teacher.kind, teacher, student, momentum, epoch_ends)
        self.centre.update(teacher_GBK)
        scalars["centre_norm"] = self.centre.centre_K.norm()

        self.step += 1
        values = to_floats(scalars)
        self.worst_decomposition = max(self.worst_decomposition, values["decomposition_error"])
        for key, number in values.items():
            self._epoch_sums[key] += number
        state = self.sentinel.see(
            self.step, values["loss"], values["entropy"], values["kl"], values["mean_entropy"]
        )
        return {
            "kind": "step",
            "step": self.step,
            "epoch": self.epochs_done,
            **values,
            "lr": lr,
            "weight_decay": decay,
            "momentum": momentum,
            "teacher_temp": temperature,
            "sentinel": state,
        }

    def _evaluate(self, floors: bool = False) -> Event:
        """k-NN of teacher and student; with `floors`, of raw pixels and of the initial weights."""
        train, test = self.dataset.train, self.dataset.test
        settings = self.config.eval

        def accuracy(train_ND: Tensor, test_MD: Tensor) -> float:
            return knn_accuracy(
                train_ND,
                train.labels_N,
                test_MD,
                test.labels_N,
                settings.knn_k,
                settings.knn_temp,
            )

        def network_accuracy(backbone: torch.nn.Module) -> float:
            splits = (train, test)
            return accuracy(
                *(extract_features(backbone, s, settings.batch_size, self.device) for s in splits)
            )

        if floors:
            pixels = accuracy(*(pixel_features(s, settings.batch_size) for s in (train, test)))
            # Teacher and student are still the same random network.
            random = network_accuracy(self.teacher.backbone)
            self.accuracies = {
                "knn": random,
                "student_knn": random,
                "knn_pixels": pixels,
                "knn_random": random,
            }
            measured = self.accuracies
        else:
            measured = {
                "knn": network_accuracy(self.teacher.backbone),
                "student_knn": network_accuracy(self.student.backbone),
            }
            self.accuracies |= measured
        return {"kind": "eval", "step": self.step, "epoch": self.epochs_done, **measured}

    def result(self) -> dict[str, Any]:
        """Final metrics (accuracies in percent, entropies in nats), sentinel and counts."""
        assert self.step == self.total_steps, f"step {self.step} of {self.total_steps}"
        backbone, resolution = self.teacher.backbone, self.config.data.resolution
        return {
            "metrics": {
                **self.accuracies,
                **self.epoch_means,  # of the last epoch
                "decomposition_error": self.worst_decomposition,
                "log_K": self.sentinel.log_K,
                "params_M": sum(p.numel() for p in backbone.parameters()) / 1e6,
                "im_s": images_per_second(backbone, resolution, self.device),
            },
            "sentinel": self.sentinel.report(),
            "counts": {
                "train_images": len(self.dataset.train.labels_N),
                "test_images": len(self.dataset.test.labels_N),
                "classes": len(self.dataset.classes),
                "unreadable_images": self.dataset.unreadable_images,
                "steps": self.step,
                "images_seen": self.step * self.config.train.batch_size,
            },
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything an exact resume needs; plain types and tensors only."""
        return {
            "step": self.step,
            "student": self.student.state_dict(),
            "teacher": self.teacher.state_dict(),
            "centre": self.centre.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "sentinel": vars(self.sentinel).copy(),
            "accuracies": dict(self.accuracies),
            "worst_decomposition": self.worst_decomposition,
            "epoch_sums": dict(self._epoch_sums),
            "epoch_means": dict(self.epoch_means),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.student.load_state_dict(state["student"])
        self.teacher.load_state_dict(state["teacher"])
        self.centre.load_state_dict(state["centre"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.sentinel = Sentinel(**state["sentinel"])
        self.accuracies = dict(state["accuracies"])
        self.worst_decomposition = state["worst_decomposition"]
        self._epoch_sums = defaultdict(float, state["epoch_sums"])
        self.epoch_means = dict(state["epoch_means"])
        self.step = state["step"]
