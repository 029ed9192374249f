"""The matrix products of a training step, and nothing else: what the step can at best become.

The products that the fast path needs: all views through a block together, the last block for the
[CLS] tokens alone, twice the forward's operations for a backward. Beside them, for comparison with
other code, the operations of the model as Algorithm 1 has it, where every block sees every token.

Shapes: T tokens, S samples, D width of the ViT, W width of a head.
"""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from repro.config.schema import GLOBAL_VIEWS, CodePath, Precision, RunConfig
from repro.dino.fast.choice import choose_kernels
from repro.dino.fast.kernels import Kernels, Linear
from repro.dino.networks import build_student


@dataclass(frozen=True)
class Product:
    """[batch, m, k] times [batch, k, n]; batch 0 stands for a linear layer, which has none."""

    m: int
    k: int
    n: int
    batch: int = 0

    @property
    def operations(self) -> int:
        return 2 * max(1, self.batch) * self.m * self.k * self.n

    @property
    def numbers(self) -> int:
        """Operands and result, each touched once."""
        return max(1, self.batch) * (self.m * self.k + self.k * self.n + self.m * self.n)

    def backward(self) -> list[Product]:
        """The gradients with respect to both operands."""
        m, k, n = self.m, self.k, self.n
        return [Product(m, n, k, self.batch), Product(k, m, n, self.batch)]


def forward_products(config: RunConfig, batch: int, views: list[tuple[int, int]]) -> list[Product]:
    """Products of one network on (number of views, side) of `batch` images each."""
    model, head = config.model, config.head
    d, hidden = model.dim, 4 * model.dim
    layout = [(batch * count, (side // model.patch_size) ** 2 + 1) for count, side in views]
    t, s = sum(m * n for m, n in layout), sum(m for m, _ in layout)
    found = [Product(t - s, 3 * model.patch_size**2, d)]
    for depth in range(model.depth):
        last = depth == model.depth - 1
        rows = s if last else t
        found += [Product(t, d, 2 * d), Product(rows, d, d)]  # keys and values; queries
        for m, n in layout:
            queries = 1 if last else n
            found.append(Product(queries, d // model.heads, n, m * model.heads))
            found.append(Product(queries, n, d // model.heads, m * model.heads))
        found += [Product(rows, d, d), Product(rows, d, hidden), Product(rows, hidden, d)]
    widths = [d, *[head.hidden_dim] * (head.layers - 1), head.bottleneck_dim, head.prototypes]
    found += [Product(s, a, b) for a, b in itertools.pairwise(widths)]
    return found


def step_products(config: RunConfig) -> Counter[Product]:
    """Products of teacher and student, forward and backward, with how often each occurs."""
    views = [(GLOBAL_VIEWS, config.views.global_size)]
    taught = forward_products(config, config.train.batch_size, views)
    if config.views.local_number:
        views.append((config.views.local_number, config.views.local_size))
    learnt = forward_products(config, config.train.batch_size, views)
    embedding = learnt[0].backward()[1:]  # nobody asks for the gradient of pixels
    backward = [p for product in learnt[1:] for p in product.backward()] + embedding
    return Counter(taught + learnt + backward)


def model_operations(config: RunConfig) -> int:
    """Of a step of Algorithm 1 as it stands: teacher forward, student forward and backward, counted
    operator by operator on one image without any data.
    """
    plainly = copy.deepcopy(config)
    plainly.resources.path = CodePath.reference
    views = config.views
    sides = [views.global_size, views.local_size]
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        network = build_student(plainly)
        crops = [torch.empty(n, 3, s, s) for n, s in zip(views.counts, sides, strict=False)]
        with torch.no_grad():
            network(crops[:1])
        network(crops).logits_MK.sum().backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops()) * config.train.batch_size


class BareProducts:
    """Calling it does all products of a step once, by the kernels that the step would choose."""

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        kernels: Kernels = choose_kernels(config, device)
        dtype = torch.bfloat16 if config.train.precision is Precision.bf16 else torch.float32
        self.products = step_products(config)
        self.linear: Linear = kernels.linear
        self.operands = [
            (self._tensor(p, p.m, p.k, device, dtype), self._second(p, device, dtype), count)
            for p, count in self.products.items()
        ]

    @staticmethod
    def _tensor(p: Product, a: int, b: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        shape = (p.batch, a, b) if p.batch else (a, b)
        return torch.randn(shape, device=device).to(dtype)

    def _second(self, p: Product, device: torch.device, dtype: torch.dtype) -> Tensor:
        # A linear layer keeps its weight as [n, k].
        a, b = (p.k, p.n) if p.batch else (p.n, p.k)
        return self._tensor(p, a, b, device, dtype)

    @property
    def operations(self) -> int:
        return sum(p.operations * count for p, count in self.products.items())

    @property
    def bytes(self) -> int:
        size = self.operands[0][0].element_size()
        return size * sum(p.numbers * count for p, count in self.products.items())

    @torch.no_grad()
    def __call__(self) -> None:
        for first, second, count in self.operands:
            for _ in range(count):
                if first.ndim == 2:
                    self.linear(first, second, None)
                else:
                    torch.bmm(first, second)
