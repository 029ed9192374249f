"""How many runs this machine trains at a time, where nobody says: `--workers auto`.

Without GPUs as many as there are cores. A small run leaves most of a GPU idle, since its process
takes longer to launch a step than the card to compute it; so runs share a card until their steps
fill it, bounded by the card's memory and by the cores: a process needs one to launch from. A run of
the paper's scale fills a card by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from repro.config.schema import GLOBAL_VIEWS, Device, ModelConfig, RunConfig
from repro.hardware import available_cores, free_gpu_memory, visible_gpus
from repro.harness.experiments.clusters import LocalCluster
from repro.harness.plan.cost import answers, disk, work_of_an_image

# Floating-point operations of bf16 that a card of today does while a process launches a step: some
# 25 ms at 300 TFLOP/s.
FILLS_A_CARD = 7.5e12
CONTEXT = 1.5 * 2**30  # bytes of a process on the card before its first tensor
SLACK = 1.3  # memory that the allocator holds, over what tensors take
COPIES = 1.5  # weights, teacher, gradients and AdamW's state, over what a run's checkpoint holds


def workers_here(
    cluster: LocalCluster, configs: Sequence[RunConfig], asked: int | None = None
) -> int:
    """Runs of `configs` at a time on this machine; `asked` as --workers says, 0: decided here."""
    if number := cluster.workers if asked is None else asked:
        return number
    gpus = cluster.visible or visible_gpus()
    ranks = max((config.resources.ranks for config in configs), default=1)
    runs = max(1, len(configs))
    if not gpus or all(config.resources.device is Device.cpu for config in configs):
        return min(runs, available_cores())
    if ranks > 1:
        return max(1, len(gpus) // ranks)
    free = min(free_gpu_memory(gpu) or float("inf") for gpu in gpus)
    cores = available_cores() // len(gpus)
    return min(runs, len(gpus) * min(runs_a_card(config, cores, free) for config in configs))


def runs_a_card(config: RunConfig, cores: int, free: float) -> int:
    """Such runs at a time on one GPU with so many free bytes of memory and cores beside it."""
    filled = ceil(FILLS_A_CARD / (config.train.batch_size * work_of_an_image(config)))
    return max(1, min(filled, cores, int(free // memory(config))))


def memory(config: RunConfig) -> float:
    """Bytes of a run's process on a card, from above: what the backward pass keeps, as in fp32."""
    views, outputs = config.views, config.head.prototypes
    images = config.train.batch_size / config.resources.accumulate
    kept = GLOBAL_VIEWS * _kept(config.model, views.global_size, views.global_size)
    if views.local_number:
        kept += views.local_number * _kept(config.model, views.global_size, views.local_size)
    logits = 4 * 4 * outputs * sum(views.counts)
    return CONTEXT + SLACK * (COPIES * disk(config) / 2 + images * (kept + logits))


def _kept(model: ModelConfig, global_size: int, size: int) -> int:
    """Bytes that one view of `size` leaves for the backward pass, counted without any data."""

    def count() -> int:
        import torch
        from torch import Tensor
        from torch.autograd.graph import saved_tensors_hooks

        from repro.dino.backbones import build_backbone

        seen: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            seen.setdefault(storage._cdata, storage.nbytes())
            return tensor

        images = 2  # of one alone, batch norm has no statistics
        with torch.device("meta"):
            backbone = build_backbone(model, global_size)
            weights = sum(p.untyped_storage().nbytes() for p in backbone.parameters())
            with saved_tensors_hooks(keep, lambda tensor: tensor):
                features = backbone(torch.empty(images, 3, size, size))
        total = sum(seen.values())
        del features  # until here it kept every storage, and its address, alive
        return max(0, total - weights) // images

    return answers().get(f"kept {model} {global_size} {size}", int, count)
