"""Tasks -> arrays, so that `parallel: 4` means four trainings at a time however many carry them.

SLURM throttles an array by itself (`%4`), not several together. So long as there are no more arrays
than may run at a time, they divide that number by their sizes. Beyond it there are as many lanes of
one task at a time each, in which an array begins when the one before it has ended (`afterany`).
Evaluations come behind their trainings by the same rule, as many at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from repro.harness.slurm.requirements import Requirements

Tasks = list[list[str]]  # the run ids of each task


@dataclass(frozen=True)
class Part:
    """One array: its tasks, how many of them at a time, and the lane that it waits in, if any."""

    stage: str
    required: Requirements
    tasks: Tasks
    at_a_time: int
    lane: int | None = None


def divided(
    groups: Sequence[tuple[str, Requirements, Tasks]], size: int, at_a_time: int
) -> list[Part]:
    """Groups of tasks as arrays of at most `size`, of which `at_a_time` tasks run together."""
    whole = [ceil(len(tasks) / size) for _, _, tasks in groups]
    in_lanes = sum(whole) > at_a_time
    arrays: list[tuple[str, Requirements, Tasks]] = []
    for (stage, required, tasks), number in zip(groups, whole, strict=True):
        most = size
        if in_lanes and number > at_a_time:  # the same work for every lane
            most = ceil(len(tasks) / (ceil(number / at_a_time) * at_a_time))
        starts = range(0, len(tasks), most)
        arrays += [(stage, required, tasks[start : start + most]) for start in starts]
    sizes = [len(tasks) for _, _, tasks in arrays]
    if not in_lanes:
        throttles = shares(sizes, at_a_time)
        return [Part(*array, limit) for array, limit in zip(arrays, throttles, strict=True)]
    load = [0] * at_a_time
    parts = []
    for array, count in zip(arrays, sizes, strict=True):
        lane = load.index(min(load))
        load[lane] += count
        parts.append(Part(*array, 1, lane))
    return parts


def shares(sizes: Sequence[int], at_a_time: int) -> list[int]:
    """How many tasks of each array run at a time: at least one, in all no more than that."""
    given = [1] * len(sizes)
    for _ in range(min(at_a_time, sum(sizes)) - len(sizes)):
        wanting = (i for i, size in enumerate(sizes) if given[i] < size)
        given[max(wanting, key=lambda i: sizes[i] / given[i])] += 1
    return given
