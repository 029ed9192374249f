"""Algorithm 1 of the paper: one run, from a typed config to metrics.

Order of an iteration, as in the authors' code: set learning rate and weight decay; teacher on the
global views, student on all; loss with the centre from before this step; backward; clip; freeze;
optimiser step; teacher update; centre update.

Several ranks share a batch, and each may work through its share in parts (`resources.accumulate`).
Targets are made of the whole batch before the student sees its first part, so that the step is the
same however the batch is divided.

Shapes: G global views, V student views, B images of this rank, K outputs, D feature width.

Departures: a non-finite loss raises `Diverged` (the authors' code exits without a trace); bfloat16
autocast needs no loss scaler, so no step is ever skipped.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from repro import distributed
from repro.config.schema import GLOBAL_VIEWS, Family, Operation, Precision, RunConfig, StopOn
from repro.data.dataset import Dataset
from repro.data.views.kinds import to_pixels
from repro.data.views.parts import images_of, parts_of
from repro.dino import schedules
from repro.dino.diagnostics import FeatureStatistics, to_floats
from repro.dino.fast.choice import choose_kernels, named_kernels
from repro.dino.method import Method, Targets
from repro.dino.networks import Outputs, build_student, build_teacher
from repro.dino.optimiser import build_optimiser, clip_gradients, freeze_last_layer, set_rates
from repro.dino.sentinel import Sentinel, judge, judge_vectors
from repro.dino.teachers import after_update, before_update, relative_distance
from repro.errors import UserError
from repro.evals.knn import knn_in_training
from repro.evals.throughput import images_per_second, peak_memory
from repro.evals.weights.start import start_from_weights
from repro.randomness import derive, epoch_order

MIN_PATIENCE = 20  # steps for which the sentinel must see the same state
STATE = frozenset({  # what `Trainer.load_state_dict` takes
    "step", "student", "teacher", "method", "optimiser", "sentinel", "accuracies",
    "worst_decomposition", "epoch_sums", "epoch_means", "seconds", "peak_memory",
})  # fmt: skip
Event = dict[str, Any]


class Diverged(RuntimeError):
    """The loss is not finite."""

    def __init__(self, step: int, loss: float) -> None:
        super().__init__(f"the loss is {loss} at step {step}")
        self.step = step


class Trainer:
    """Student, teacher, method and optimiser of one run; `run()` yields its events."""

    def __init__(
        self,
        config: RunConfig,
        dataset: Dataset,
        device: torch.device | str,
        earlier: dict[str, Any] | None = None,
    ) -> None:
        """`earlier`: the state that will be loaded, whose kernels go on."""
        if config.target.operation is Operation.labels:
            config = replace(config, head=replace(config.head, prototypes=len(dataset.classes)))
        if config.target.operation is Operation.labels and not dataset.classes:
            raise UserError(f"{dataset.name}: labels as targets need train/CLASS/*")
        self.config, self.dataset = config, dataset
        self.device = device = torch.device(device)
        self.judged = dataset.judged
        images = len(dataset.train.labels_N)
        self.steps_per_epoch = images // config.train.batch_size
        if self.steps_per_epoch == 0:
            raise UserError(
                f"train.batch_size={config.train.batch_size} is larger than the {images} training "
                f"images of {dataset.name}"
            )
        if config.queue.used and config.queue.size > images:
            raise UserError(
                f"queue.size={config.queue.size} is larger than the {images} training images of "
                f"{dataset.name}: it would hold the very images it is compared with"
            )
        self.total_steps = config.train.epochs * self.steps_per_epoch
        self.step = 0

        self.outputs = config.head.prototypes
        self.kernels = choose_kernels(config, device, (earlier or {}).get("kernels"))
        self.student = build_student(config, self.kernels)
        if config.model.weights and earlier is None:
            start_from_weights(self.student.backbone, config)
        self.student = self.student.to(device)
        self.teacher = build_teacher(config, self.student, self.kernels).to(device)
        if config.train.sync_batch_norm:
            for network in (self.student, self.teacher):
                distributed.synchronise_batch_norm(network, device)
        self.replica = distributed.replicate(self.student)
        self.method = Method(config, self.teacher.head, self.outputs).to(device)
        self.optimiser = build_optimiser(self.student, config.optim.name)

        log_K = math.log(self.outputs)
        slow_start = max(config.head.freeze_last_layer_epochs, config.optim.warmup_epochs)
        self.sentinel = Sentinel(
            log_K,
            grace=min(slow_start * self.steps_per_epoch, self.total_steps // 5),
            patience=max(MIN_PATIENCE, self.steps_per_epoch),
        )
        self.accuracies: dict[str, float | None] = {}
        self.test_features_MD: Tensor | None = None  # of the teacher, at the last evaluation
        self.worst_decomposition = 0.0
        self._epoch_sums: dict[str, float] = defaultdict(float)
        self.epoch_means: dict[str, float] = {}
        self.epoch_ended = True  # with its evaluation, if it has one
        self.seconds = 0.0  # of training steps, without evaluations
        self.peak_memory = 0  # bytes

    def run(self) -> Iterator[Event]:
        """Train from the current step to the end; see ARCHITECTURE.md for the events."""
        if self.step == 0 and "knn_pixels" not in self.accuracies:
            yield self._evaluate(floors=True)
        if self.step % self.steps_per_epoch == 0 and not self.epoch_ended:
            yield from self._end_epoch()
        while not self.ended:
            yield from self._epoch()

    def _epoch(self) -> Iterator[Event]:
        epoch, done = divmod(self.step, self.steps_per_epoch)
        if done == 0:
            self._epoch_sums.clear()
        self.epoch_ended = False
        batch_size = self.config.train.batch_size
        order = epoch_order(self.config.seed, epoch, len(self.dataset.train.labels_N))
        batches = list(torch.split(order, batch_size))[done : self.steps_per_epoch]
        part = (distributed.rank(), distributed.ranks())
        all_views = self.dataset.train.view_batches(
            batches, self.config.views, self.config.seed, self.step, part
        )
        start = time.perf_counter()
        for batch, views in zip(batches, all_views, strict=True):
            labels_B = self.dataset.train.labels_N[distributed.share(batch, part)]
            event = self._step(views, labels_B, epoch)
            now = time.perf_counter()
            event["images_per_second"] = batch_size / (now - start)
            self.seconds += now - start
            start = now
            yield event
            if self.step % self.steps_per_epoch:
                continue
            yield from self._end_epoch()

    def _end_epoch(self) -> Iterator[Event]:
        """What follows an epoch's last step, also in a run that was stopped between the two."""
        self.epoch_means = {k: v / self.steps_per_epoch for k, v in self._epoch_sums.items()}
        if self.evaluation_due:
            yield self._evaluate()
        self.epoch_ended = True
        yield {"kind": "epoch", "step": self.step, "epoch": self.epochs_done}

    @property
    def ended(self) -> bool:
        """Whether no step follows."""
        return self.step == self.total_steps or self.stopped_early

    @property
    def stopped_early(self) -> bool:
        """Whether a collapse has held for as long as the config says, at an epoch's end.

        A function of the state that is saved, and of means over all ranks: a resumed run, and every
        rank, stops at the same step.
        """
        train = self.config.train
        at_end = self.step % self.steps_per_epoch == 0 and self.step < self.total_steps
        if train.stop_on is StopOn.nothing or not at_end:
            return False
        held = self.sentinel.collapsed_for(self.step)
        return held >= max(1, train.stop_after * self.total_steps)

    @property
    def evaluation_due(self) -> bool:
        """Whether an epoch's last step is done, and an evaluation comes next."""
        epochs, rest = divmod(self.step, self.steps_per_epoch)
        wanted = self.ended or epochs % self.config.eval.every_epochs == 0
        return wanted and rest == 0 and not self.epoch_ended

    @property
    def epochs_done(self) -> float:
        return self.step / self.steps_per_epoch

    def _step(self, views: list[Tensor], labels_B: Tensor, epoch: int) -> Event:
        config, student, teacher = self.config, self.student, self.teacher
        spe = self.steps_per_epoch
        lr = schedules.learning_rate(config, self.step, spe)
        decay = schedules.weight_decay(config, self.step, spe)
        momentum = schedules.teacher_momentum(config, self.step, spe)
        temperature = schedules.teacher_temperature(config, epoch)
        set_rates(self.optimiser, lr, decay)

        # Drop path draws from the global generators; see randomness.py.
        torch.manual_seed(derive(config.seed, "drop path", self.step, distributed.rank()))
        views = [to_pixels(view.to(self.device, non_blocking=True)) for view in views]
        labels_B = labels_B.to(self.device, non_blocking=True)
        parts = parts_of(len(labels_B), config.resources.accumulate)
        taught = self._teach(views[0], parts)
        features = FeatureStatistics(taught.features_MD)
        teacher_GBK = taught.logits_MK.float().view(GLOBAL_VIEWS, -1, self.outputs)
        targets = self.method.targets(teacher_GBK, labels_B, temperature, teacher.head)

        self.optimiser.zero_grad(set_to_none=True)
        scalars = self._learn(views, targets, parts)
        grad_norm = clip_gradients(student, config.optim.clip, config.optim.clip_norm)
        if epoch < config.head.freeze_last_layer_epochs:
            freeze_last_layer(student)
        centre_K = self.method.centre.moved(teacher_GBK)
        scalars = distributed.means(scalars | features.scalars()) | {
            "grad_norm": grad_norm,
            "student_teacher_distance": relative_distance(teacher, student),
            "centre_norm": centre_K.norm(),
        }
        # The step's only wait for a GPU, which then has the update to do while the host goes on.
        # Before the weights change: a diverged run keeps its last good state.
        values = to_floats(scalars)
        if not math.isfinite(values["loss"]):
            self.sentinel.see(self.step + 1, "nan")
            raise Diverged(self.step + 1, values["loss"])

        before_update(config.teacher.kind, teacher, student)
        self.optimiser.step()
        epoch_ends = (self.step + 1) % spe == 0
        after_update(config.teacher.kind, teacher, student, momentum, epoch_ends)
        width = taught.projections_MP.shape[-1]
        projections_GBP = taught.projections_MP.float().view(GLOBAL_VIEWS, -1, width)
        self.method.update(centre_K, projections_GBP, targets)

        self.step += 1
        for key, number in values.items():
            self._epoch_sums[key] += number
        return {
            "kind": "step",
            "step": self.step,
            "epoch": self.epochs_done,
            **values,
            "lr": lr,
            "weight_decay": decay,
            "momentum": momentum,
            "teacher_temp": temperature,
            "sentinel": self.sentinel.see(self.step, self._judge(values)),
        }

    @torch.no_grad()
    def _teach(self, views: Tensor, parts: list[slice]) -> Outputs:
        """The teacher's outputs for the global views of all images, view-major."""
        pieces = []
        for rows in parts:
            with self._autocast():
                outputs = self.teacher([images_of(views, GLOBAL_VIEWS, rows)])
            pieces.append([t.view(GLOBAL_VIEWS, -1, t.shape[-1]) for t in outputs])
        return Outputs(
            *(torch.cat(same, dim=1).flatten(0, 1) for same in zip(*pieces, strict=True))
        )

    def _learn(
        self, views: list[Tensor], targets: Targets, parts: list[slice]
    ) -> dict[str, Tensor]:
        """Gradients of the student, part by part; mean loss and statistics over the parts."""
        counts = self.config.views.counts
        sums: dict[str, Tensor] = {}
        for index, rows in enumerate(parts):
            last = index == len(parts) - 1
            with distributed.gradients_at(self.replica, last):
                with self._autocast():
                    some = [images_of(v, n, rows) for v, n in zip(views, counts, strict=True)]
                    logits_MK = self.replica(some).logits_MK
                student_VBK = logits_MK.view(sum(counts), -1, self.outputs)
                loss, statistics = self.method.loss(student_VBK, targets.images(rows))
                (loss / len(parts)).backward()  # type: ignore[no-untyped-call]
            for name, value in ({"loss": loss.detach()} | statistics).items():
                sums[name] = sums[name] + value if name in sums else value
        return {name: value / len(parts) for name, value in sums.items()}

    def _autocast(self) -> torch.autocast:
        bf16 = self.config.train.precision is Precision.bf16
        return torch.autocast(self.device.type, torch.bfloat16, enabled=bf16)

    def _judge(self, values: dict[str, float]) -> str:
        if self.method.vectors:
            return judge_vectors(values["loss"], values["output_spread"])
        self.worst_decomposition = max(self.worst_decomposition, values["decomposition_error"])
        entropies = values["entropy"], values["kl"], values["mean_entropy"]
        return judge(values["loss"], *entropies, self.sentinel.log_K)

    def _evaluate(self, floors: bool = False) -> Event:
        """k-NN of teacher and student; with `floors`, of raw pixels and of the initial weights."""
        networks = self.teacher.backbone, self.student.backbone
        measured, self.test_features_MD = knn_in_training(
            *networks, self.judged, self.config.eval, self.device, self.kernels, floors
        )
        self.accuracies |= measured
        return {"kind": "eval", "step": self.step, "epoch": self.epochs_done, **measured}

    def result(self) -> dict[str, Any]:
        """Final metrics (accuracies in percent, entropies in nats), sentinel and counts; of a run
        that ended early also on what.
        """
        assert self.ended, f"step {self.step} of {self.total_steps}"
        backbone, resolution = self.teacher.backbone, self.config.data.resolution
        judged = self.judged
        metrics = {
            **self.accuracies,
            **self.epoch_means,  # of the last epoch
            "log_K": self.sentinel.log_K,
            "params_M": sum(p.numel() for p in backbone.parameters()) / 1e6,
            "time_h": self.seconds / 3600,
            "mem_G": self._memory() / 1e9,
            "im_s": images_per_second(backbone, resolution, self.device),
        }
        if not self.method.vectors:
            metrics["decomposition_error"] = self.worst_decomposition
        if self.config.model.family is Family.vit:
            metrics["tokens"] = (resolution // self.config.model.patch_size) ** 2 + 1
        return {
            "metrics": metrics,
            "sentinel": self.sentinel.report(),
            "counts": {
                "train_images": len(self.dataset.train.labels_N),
                "test_images": None if judged is None else len(judged.test.labels_N),
                "classes": 0 if judged is None else len(judged.classes),
                "unreadable_images": self.dataset.unreadable_images,
                "steps": self.step,
                "images_seen": self.step * self.config.train.batch_size,
            },
            **self._early_end(),
        }

    def _early_end(self) -> dict[str, Any]:
        if not self.stopped_early:
            return {}
        cause = self.config.train.stop_on.value
        return {"stopped_on": {"cause": cause, "step": self.step, "of": self.total_steps}}

    def _memory(self) -> int:
        self.peak_memory = max(self.peak_memory, peak_memory(self.device))
        return self.peak_memory

    def state_dict(self) -> dict[str, Any]:
        """Everything an exact resume needs; plain types and tensors only."""
        return {
            "step": self.step,
            "heads": self.config.model.heads,  # which no tensor tells, for evaluations elsewhere
            "kernels": named_kernels(self.kernels, self.device),
            "student": self.student.state_dict(),
            "teacher": self.teacher.state_dict(),
            "method": self.method.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "sentinel": vars(self.sentinel).copy(),
            "accuracies": dict(self.accuracies),
            "worst_decomposition": self.worst_decomposition,
            "epoch_sums": dict(self._epoch_sums),
            "epoch_means": dict(self.epoch_means),
            "epoch_ended": self.epoch_ended,
            "seconds": self.seconds,
            "peak_memory": self._memory(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.student.load_state_dict(state["student"])
        self.teacher.load_state_dict(state["teacher"])
        self.method.load_state_dict(state["method"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.sentinel = Sentinel(**state["sentinel"])
        self.accuracies = dict(state["accuracies"])
        self.worst_decomposition = state["worst_decomposition"]
        self._epoch_sums = defaultdict(float, state["epoch_sums"])
        self.epoch_means = dict(state["epoch_means"])
        self.epoch_ended = state.get("epoch_ended", True)  # earlier versions saved nowhere else
        self.seconds = state["seconds"]
        self.peak_memory = state["peak_memory"]
        self.step = state["step"]
