"""Tasks that read the same records, each core doing its share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context
from typing import TypeVar

T = TypeVar("T")
_tasks: Sequence[Callable[[], object]] = ()


def side_by_side(tasks: Sequence[Callable[[], T]]) -> Iterator[T]:
    """What the tasks return, in their order, each as soon as it is there.

    Forked, so that nobody reads the records again; where that is not safe, one by one.

    Raises:
        Whatever a task raises, when it is its turn.
    """
    global _tasks  # noqa: PLW0603  forked processes find it; pickling the records would cost more
    cores = min(len(tasks), len(os.sched_getaffinity(0))) if sys.platform == "linux" else 1
    if cores <= 1:
        yield from (task() for task in tasks)
        return
    _tasks = tasks
    with get_context("fork").Pool(cores) as pool:
        yield from pool.imap(_run, range(len(tasks)))


def _run(number: int) -> object:
    return _tasks[number]()
