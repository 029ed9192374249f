"""Images per second of a frozen backbone (Table 1, Figure 5: 128 images a forward, inference), and
the peak memory of training (Table 8).

One definition for every network: every token goes through every block, as in the authors' code.
The fast path takes [CLS] alone through the last block of a ViT, which saves 7 % of twelve blocks
and 21 % of four, where a ResNet has nothing to save. The fastest pass counts: the others waited for
the machine.
"""

from __future__ import annotations

import resource
import time
from contextlib import nullcontext

import torch
from torch import nn

from repro.dino.vit import DinoViT

BATCH = 128
SECONDS = 1.0
FORWARDS = 3
DEFINITION = "every token through every block"  # what records say of im_s


@torch.no_grad()
def images_per_second(backbone: nn.Module, resolution: int, device: torch.device) -> float:
    """The fastest of several forward passes: at least three, for about a second."""
    was_training = backbone.training
    backbone.eval()
    images = torch.zeros(BATCH, 3, resolution, resolution, device=device)

    def seconds() -> float:
        start = time.perf_counter()
        backbone(images)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    times: list[float] = []
    with backbone.whole() if isinstance(backbone, DinoViT) else nullcontext():
        seconds()  # to warm up
        while len(times) < FORWARDS or sum(times) < SECONDS:
            times.append(seconds())
    backbone.train(was_training)
    return BATCH / min(times)


def peak_memory(device: torch.device) -> int:
    """Most bytes in use so far: of this process on the GPU, or resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
