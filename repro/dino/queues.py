"""A queue of earlier teacher outputs: MoCo's negatives, SwAV's further images (Tables 7, 13, 14).

Shapes: Q places, P width of what is kept, M new entries.

The outputs of both global views enter (MoCo-v2 encodes one view an image for the queue; here, as
for the other methods, both views are predicted from each other). It starts with random directions,
as in MoCo; `full` says whether all of them have been replaced.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from repro import distributed


class Queue(nn.Module):
    entries_QP: Tensor
    pushed: Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.register_buffer("entries_QP", normalize(torch.randn(size, width), dim=1))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.int64))
        self._full = False

    @property
    def full(self) -> bool:
        # Read from the device until it is, and it stays so.
        self._full = self._full or int(self.pushed) >= len(self.entries_QP)
        return self._full

    @torch.no_grad()
    def push(self, entries_GBP: Tensor) -> None:
        """Replace the oldest entries by those of all ranks; of too many, the last ones stay."""
        entries_MP = distributed.gather(entries_GBP, dim=1).flatten(0, 1)
        size = len(self.entries_QP)
        count = len(entries_MP)
        places = (self.pushed + torch.arange(count, device=self.pushed.device)) % size
        self.entries_QP.index_copy_(0, places[-size:], entries_MP[-size:])
        self.pushed += count
