"""Several ways to take the same training step, on one card and in alternating rounds."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from tests.benchmarks.measure import DEVICE, FULL, one_line, wait_for_device

WARM_UP = 4 if FULL else 1  # steps; a gradient scaler finds its scale, kernels are loaded
MOST_STEPS = 10 if FULL else 1  # of a round
ROUND_SECONDS = 1.0
Step = Callable[[], object]


@dataclass
class Contender:
    """A step and what taking it costs."""

    step: Step
    gigabytes: float  # the most that the step holds on a card, weights included; 0 on a CPU
    steps: int  # of a round
    rounds: list[float] = field(default_factory=list)  # seconds a step

    @property
    def seconds(self) -> float:
        return min(self.rounds)


class Contest:
    """Contenders by name, each with memory of its own; one that fails is told, the others go on."""

    def __init__(self) -> None:
        self.contenders: dict[str, Contender] = {}
        self.failed: dict[str, str] = {}

    def enter(self, name: str, build: Callable[[], Step], needed: bool = False) -> None:
        """Build it, warm it up and find its peak of memory; without a needed one there is none."""
        before = _allocated()
        try:
            step = build()
            for _ in range(WARM_UP):
                step()
            wait_for_device()
            if DEVICE.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            start = time.perf_counter()
            step()
            wait_for_device()
            took = time.perf_counter() - start
        except Exception as error:  # whatever breaks this one, others are measured
            if needed:
                raise
            traceback.print_exc()
            self.failed[name] = one_line(error)
            return
        peak = torch.cuda.max_memory_allocated() if DEVICE.type == "cuda" else 0
        steps = max(1, min(MOST_STEPS, round(ROUND_SECONDS / took)))
        self.contenders[name] = Contender(step, (peak - before) / 1e9, steps)
        if DEVICE.type == "cuda":
            torch.cuda.empty_cache()  # what is cached for one is no use to another

    def begin(self) -> None:
        """From now on, rounds count in which everybody takes part."""
        for contender in self.contenders.values():
            contender.rounds.clear()

    def round(self) -> None:
        for contender in self.contenders.values():
            wait_for_device()
            start = time.perf_counter()
            for _ in range(contender.steps):
                contender.step()
            wait_for_device()
            contender.rounds.append((time.perf_counter() - start) / contender.steps)


def _allocated() -> int:
    return torch.cuda.memory_allocated() if DEVICE.type == "cuda" else 0
