"""Twenty steps of our trainer on the inputs of `golden.json`, on any device, in any precision."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from repro.config.schema import CodePath, Precision, RunConfig
from repro.data.dataset import Dataset
from repro.train import Trainer
from tests.fidelity import inputs

GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text())
OURS = {"weight_v": "directions", "weight_g": "norms"}


@dataclass(frozen=True)
class GivenCrops:
    """A split whose views are those of `inputs.crops`, whatever the batch."""

    labels_N: Tensor

    def evaluation_batches(self, size: int, part: tuple[int, int] = (0, 1)) -> Iterator[Tensor]:
        yield torch.zeros(len(self.labels_N), 3, inputs.GLOBAL_SIZE, inputs.GLOBAL_SIZE)

    def view_batches(
        self, batches: list[Tensor], config: Any, seed: int, first_step: int, part: Any = (0, 1)
    ) -> Iterator[list[Tensor]]:
        for offset in range(len(batches)):
            views = inputs.crops(first_step + offset)
            yield [torch.cat(views[:2]), torch.cat(views[2:])]


def config() -> RunConfig:
    c = RunConfig()
    c.views.global_size, c.views.local_size = inputs.GLOBAL_SIZE, inputs.LOCAL_SIZE
    c.views.local_number = inputs.LOCALS
    c.model.dim, c.model.depth, c.model.heads = inputs.DIM, inputs.DEPTH, inputs.HEADS
    c.model.patch_size, c.model.drop_path = inputs.PATCH, 0.0
    c.head.hidden_dim, c.head.bottleneck_dim = inputs.HIDDEN, inputs.BOTTLENECK
    c.head.prototypes, c.head.norm_last_layer = inputs.PROTOTYPES, False
    c.head.freeze_last_layer_epochs = inputs.FREEZE_EPOCHS
    c.target.temp_start, c.target.temp = inputs.TEMP_START, inputs.TEMP
    c.target.temp_warmup_epochs = inputs.TEMP_WARMUP_EPOCHS
    c.teacher.momentum = inputs.MOMENTUM
    c.optim.lr = inputs.RATE * 256 / inputs.BATCH  # the linear rule divides it again
    c.optim.min_lr, c.optim.warmup_epochs = inputs.MIN_RATE, inputs.WARMUP_EPOCHS
    c.optim.weight_decay, c.optim.weight_decay_end = inputs.DECAY, inputs.DECAY_END
    c.optim.clip_norm = inputs.CLIP
    c.train.epochs, c.train.batch_size = inputs.EPOCHS, inputs.BATCH
    c.eval.every_epochs = inputs.EPOCHS
    return c


def our_name(theirs: str) -> str:
    return ".".join(OURS.get(word, word) for word in theirs.split("."))


def load_initial(network: nn.Module) -> None:
    theirs = {our_name(n): n for n in (t.partition(".")[2] for t in GOLDEN["final"]) if n}
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(inputs.initial(theirs[name], parameter.shape))


def trainer_at_the_start(
    path: CodePath,
    device: torch.device,
    precision: Precision = Precision.fp32,
) -> Trainer:
    given = config()
    given.resources.path, given.train.precision = path, precision
    split = GivenCrops(torch.arange(inputs.BATCH * inputs.STEPS_PER_EPOCH) % 2)
    trainer = Trainer(given, Dataset("given", ["0", "1"], split, split), device)
    load_initial(trainer.student)
    load_initial(trainer.teacher)
    return trainer


def losses_of(trainer: Trainer) -> list[float]:
    """Trains to the end."""
    return [event["loss"] for event in trainer.run() if event["kind"] == "step"]


@dataclass(frozen=True)
class Apart:
    """How far a tensor of ours ended from the authors': of its norm, and of the worst entry."""

    norm: float  # relative
    entry: float


def apart(name: str, trainer: Trainer) -> Apart:
    which, _, place = name.partition(".")
    if which == "centre":
        ours = trainer.method.centre.centre_K
    else:
        ours = dict(getattr(trainer, which).named_parameters())[our_name(place)].detach()
    golden, found = GOLDEN["final"][name], inputs.summary(ours.cpu())
    entries = zip(golden["entries"], found["entries"], strict=True)
    differences = torch.tensor([a - b for a, b in entries]).abs()
    norm = abs(found["norm"] - golden["norm"]) / max(golden["norm"], 1e-12)
    if place.endswith("qkv.bias"):
        # The keys' bias has no gradient but rounding errors, which AdamW makes as large as any.
        places = torch.linspace(0, ours.numel() - 1, len(differences)).long()
        differences, norm = differences[places // inputs.DIM != 1], 0.0
    return Apart(norm, float(differences.max()))
