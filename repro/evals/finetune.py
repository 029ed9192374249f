"""Finetuning by DeiT's recipe (Sec. 4.2.3, Table 6; App. A, Table 11; issues 31, 81, 144, 171).

AdamW with weight decay 0.05, a cosine after five warm-up epochs from 1e-6, RandAugment, random
erasing, mixup 0.8 and cutmix 1.0 (timm's), label smoothing 0.1, drop path 0.1, every image three
times in a row (repeated augmentation). The new classifier starts close to zero: with the usual
initialisation a ViT-B reaches 81.3 instead of 82.8 on ImageNet (issue 31).

Two tiers. `official`: the best epoch on the test images, as DeiT's log reports it. `clean`: the
last epoch.

Departures: RandAugment sometimes asks for a black image (0 bits a colour), which Pillow refuses by
now; then it draws again. A batch is at most a quarter of the training images, rounded to an even
number as mixup needs it; warm-up is at most a tenth of the epochs.

Shapes: B images of a batch, C classes, E epochs, M test images.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from PIL import Image
from timm.data.mixup import Mixup
from timm.data.transforms_factory import create_transform
from timm.loss.cross_entropy import SoftTargetCrossEntropy
from timm.optim._optim_factory import create_optimizer_v2
from timm.scheduler.cosine_lr import CosineLRScheduler
from torch import Tensor, nn

from repro.data.dataset import Dataset
from repro.data.views.kinds import IMAGENET_MEAN, IMAGENET_STD
from repro.dino.backbones import feature_dim
from repro.dino.vit import DinoViT
from repro.evals.features.layers import for_device
from repro.randomness import derive, epoch_order, seed_everything

WEIGHT_DECAY = 0.05
WARMUP_EPOCHS, WARMUP_LR, LEAST_LR = 5, 1e-6, 1e-5
RAND_AUGMENT, ERASING = "rand-m9-mstd0.5-inc1", 0.25
MIXUP, CUTMIX, SMOOTHING = 0.8, 1.0, 0.1
DROP_PATH = 0.1
REPEATS = 3
ATTEMPTS = 10  # draws of an augmentation
SMALL_START = 2e-5  # deviation of the classifier's first weights
LR_BATCH = 512  # images for which DeiT states learning rates


@dataclass(frozen=True)
class FinetuneSettings:
    """`lr` for 512 images of a batch; the rate follows the batch linearly."""

    epochs: int
    batch_size: int
    lr: float
    resolution: int
    seed: int = 0


@dataclass(frozen=True)
class FinetuneResult:
    """Top-1 accuracies on the test images after each epoch, percent, [E].

    `best_right_M` and `last_right_M` say which test images the best epoch and the last one name
    right.
    """

    accuracy_E: Tensor
    best_right_M: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.bool))
    last_right_M: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.bool))

    def metrics(self) -> dict[str, float]:
        return {
            "finetune": float(self.accuracy_E.max()),
            "finetune_clean": float(self.accuracy_E[-1]),
        }


@dataclass(frozen=True)
class Augment:
    """timm's transform, tried again where it refuses its own draw."""

    transform: Callable[[Image.Image], Tensor]

    def __call__(self, image: Image.Image) -> Tensor:
        for _ in range(ATTEMPTS):
            try:
                return self.transform(image)
            except ValueError as error:
                refused = error
        raise refused


def finetune(
    backbone: nn.Module,
    dataset: Dataset,
    settings: FinetuneSettings,
    device: torch.device,
    say: Callable[[str], None] = print,
) -> FinetuneResult:
    """Train a copy of the backbone with a new classifier; the backbone itself stays as it is.

    Args:
        say: takes a line of progress for every tenth of the epochs.

    Raises:
        UserError: an unreadable image.
    """
    torch.manual_seed(derive(settings.seed, "finetune"))
    labels_N = dataset.train.labels_N.to(device)
    classes, images = len(dataset.classes), len(labels_N)
    network = classifier(backbone, classes).to(device)
    batch_size = max(2, min(settings.batch_size, images // 4) // 2 * 2)
    steps = images // batch_size
    optimiser = create_optimizer_v2(
        network, "adamw", lr=settings.lr * batch_size / LR_BATCH, weight_decay=WEIGHT_DECAY
    )
    schedule = CosineLRScheduler(
        optimiser,
        t_initial=settings.epochs,
        lr_min=LEAST_LR * batch_size / LR_BATCH,
        warmup_t=min(WARMUP_EPOCHS, settings.epochs // 10),
        warmup_lr_init=WARMUP_LR,
    )
    mixed: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = Mixup(  # type: ignore[no-untyped-call]
        mixup_alpha=MIXUP, cutmix_alpha=CUTMIX, label_smoothing=SMOOTHING, num_classes=classes
    )
    augment = Augment(create_transform(
        settings.resolution, is_training=True, auto_augment=RAND_AUGMENT, re_prob=ERASING,
        re_mode="pixel", interpolation="bicubic", mean=IMAGENET_MEAN, std=IMAGENET_STD,
    ))  # fmt: skip
    loss_of: nn.Module = SoftTargetCrossEntropy()  # type: ignore[no-untyped-call]
    accuracies: list[float] = []
    best_M = last_M = torch.empty(0, dtype=torch.bool)
    for epoch in range(settings.epochs):
        schedule.step(epoch)
        network.train()
        order = epoch_order(settings.seed, epoch, images).repeat_interleave(REPEATS)[:images]
        batches = list(torch.split(order, batch_size))[:steps]
        seed, first = derive(settings.seed, "finetune views"), epoch * steps
        made = dataset.train.transformed_batches(batches, augment, seed, first)
        for number, (batch, pixels) in enumerate(zip(batches, made, strict=True)):
            step_seed = derive(settings.seed, "finetune step", first + number)
            seed_everything(step_seed)
            labels_B = labels_N[batch.to(device, non_blocking=True)]
            inputs, targets_BC = mixed(pixels.to(device, non_blocking=True), labels_B)
            loss = loss_of(network(inputs), targets_BC)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        last_M = named_right(network, dataset, device)
        accuracy = 100 * float(last_M.float().mean())
        if not accuracies or accuracy > max(accuracies):
            best_M = last_M
        accuracies.append(accuracy)
        if (epoch + 1) % max(1, settings.epochs // 10) == 0:
            say(f"finetune: epoch {epoch + 1} of {settings.epochs}, {accuracies[-1]:.1f} %")
    return FinetuneResult(torch.tensor(accuracies), best_M, last_M)


def classifier(backbone: nn.Module, classes: int) -> nn.Sequential:
    """A trainable copy of the backbone, with drop path, and a linear layer that starts small."""
    body = copy.deepcopy(backbone).requires_grad_(True)
    if isinstance(body, DinoViT):
        last = max(1, len(body.blocks) - 1)
        body.drop_rates = [DROP_PATH * place / last for place in range(len(body.blocks))]
    head = nn.Linear(feature_dim(backbone), classes)
    nn.init.trunc_normal_(head.weight, std=SMALL_START)
    nn.init.zeros_(head.bias)
    return nn.Sequential(body, head)


@torch.no_grad()
def named_right(network: nn.Module, dataset: Dataset, device: torch.device) -> Tensor:
    """Whether the network names each test image right, [M]."""
    network.eval()
    batches = for_device(dataset.test.evaluation_batches(256), device)
    predicted = [network(i.to(device, non_blocking=True)).argmax(dim=1) for i in batches]
    return torch.cat(predicted).cpu() == dataset.test.labels_N
