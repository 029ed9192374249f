"""Compiles every Triton kernel for an absent GPU: `python -m tests.dino.fast.compiled 90`.

Their launches are called on tensors of the host and end once the compiler has made a program; the
rest of a launch is left out. Prints each kernel's name.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from repro.data.views import triton_views
from repro.dino.fast import triton_attention, triton_loss, triton_rows

HALF = torch.bfloat16
MOST_SHARED = 160 * 1024  # bytes that a program may have together on any of these cards


class Absent:
    """Triton's driver of a card that is not there."""

    def __init__(self, capability: int) -> None:
        self.target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int = 0) -> int:
        return 0


def main(capability: int) -> None:
    driver.set_active(Absent(capability))
    run, seen = JITFunction.run, set()

    def compile_alone(kernel: Any, *arguments: Any, **options: Any) -> Any:
        made = run(kernel, *arguments, **options | {"warmup": True})
        assert made.metadata.shared <= MOST_SHARED, f"{kernel}: {made.metadata.shared} bytes"
        if id(made) not in seen:
            seen.add(id(made))
            print(f"{kernel.__module__.rpartition('.')[2]}.{kernel.__name__}")
        return made

    JITFunction.run = compile_alone
    for tokens, width, heads in ((197, 384, 6), (37, 192, 3)):
        blocks(tokens, width, heads)
    for views, outputs, needed in ((12, 65536, True), (10, 256, False)):
        student = torch.zeros(views, 4, outputs, dtype=HALF)
        targets = torch.zeros(2, 4, outputs)
        triton_loss.loss_and_gradient(student, targets, targets, 0.1, needed)
    for size in (64, 32):
        images = torch.zeros(16, 3, size, size, dtype=torch.uint8)
        triton_views.render(images, torch.zeros(32, triton_views.COLUMNS), size, 1.0)


def blocks(tokens: int, width: int, heads: int) -> None:
    samples = 2
    rows, vector = samples * tokens, torch.zeros(width)
    sums, kept = torch.zeros(rows, width), torch.ones(rows)
    branch = sums.to(HALF)
    for moved, bias, drops in ((None, None, None), (branch, vector, None), (branch, vector, kept)):
        triton_rows.add_norm(sums, moved, bias, drops, 1.25, vector, vector, HALF, True)
    for drops in (None, kept):
        triton_rows.add_norm_backward(branch, sums, branch, kept, drops, 1.25, vector, vector, True)
    hidden = torch.zeros(rows, 4 * width, dtype=HALF)
    triton_rows.bias_gelu(hidden, torch.zeros(4 * width))
    triton_rows.bias_gelu_backward(hidden, hidden, torch.zeros(4 * width))
    three = torch.zeros(rows, 3 * width, dtype=HALF)
    logs = triton_attention.attend(three, branch, samples, heads)
    triton_attention.attend_backward(three, branch, branch, logs, three, samples)


if __name__ == "__main__":
    main(int(sys.argv[1]))
