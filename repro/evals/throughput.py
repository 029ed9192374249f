"""Images per second of a frozen backbone (Table 1, Figure 5: 128 images a forward, inference), and
the peak memory of training (Table 8).
"""

from __future__ import annotations

import resource
import time

import torch
from torch import nn

BATCH = 128
SECONDS = 1.0
FORWARDS = 3


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

    seconds()  # to warm up
    times: list[float] = []
    while len(times) < FORWARDS or sum(times) < SECONDS:
        times.append(seconds())
    backbone.train(was_training)
    return BATCH / min(times)


def peak_memory(device: torch.device) -> int:
    """Most bytes in use so far: of this process on the GPU, or resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
