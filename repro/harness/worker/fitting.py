"""What would fit where a GPU's memory did not hold a step: tried on the card, there and then.

Memory grows with the images of a batch, with those of a part (`resources.accumulate`) and in jumps
of the allocator and of kernels that suit some sizes only. So nothing is extrapolated: after the
error everything of the run is let go, and two steps of each candidate are made, first the batch in
more parts, which is the same computation, then smaller batches, which are another one.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from repro.errors import UserError
from repro.harness.runs.failures import GpuMemoryError, is_out_of_memory

if TYPE_CHECKING:
    import torch

    from repro.config.schema import RunConfig
    from repro.data.dataset import Dataset

SECONDS = 60.0  # for all candidates
STEPS = 2  # the first one makes the optimiser's state, the second has it beside the activations
MOST_PARTS = 64


@contextmanager
def naming_what_fits(config: RunConfig, dataset: Dataset, device: torch.device) -> Iterator[None]:
    """Around all that a run puts on a GPU.

    Raises:
        GpuMemoryError: in place of what torch raises where there is no memory left.
    """
    try:
        yield
    except Exception as error:
        if device.type != "cuda" or not is_out_of_memory(error):
            raise
        from repro.gpu import memory_words

        words, evaluating = memory_words(error, device), comes_from("repro.evals", error)
        let_go(error)
        fits, found = None, ""
        if evaluating:
            found = "it was evaluating, whose memory does not depend on the batch"
        elif config.resources.ranks == 1:  # other ranks wait in a collective
            print(f"out of memory: {words}; trying what fits", flush=True)
            with suppress(Exception):  # the first error is the one to tell
                fits, found = search(config, lambda c: steps_fit(c, dataset, device))
        line = f"out of memory: {words}{'; ' if found else ''}{found}"
        raise GpuMemoryError(line, [fits] if fits else []) from error


def search(
    config: RunConfig, fits: Callable[[RunConfig], bool], seconds: float = SECONDS
) -> tuple[str | None, str]:
    """The first candidate that fits, as an override, and what was found, for people.

    Args:
        fits: tries a config.
    """
    until = time.monotonic() + seconds
    if fits(config):
        return None, "the same step fits by now: repro retry --only oom"
    tried = "nothing"
    for key, value, candidate in candidates(config):
        if time.monotonic() > until:
            return None, f"tried for {seconds:.0f} s: {tried} fits"
        override = f"{key}={value}"
        if fits(candidate):
            same = "the same batch in parts" if key.startswith("resources") else "another batch"
            return override, f"{override} fits, {same}"
        tried = f"not even {override}"
    return None, f"{tried} fits"


def candidates(config: RunConfig) -> Iterator[tuple[str, int, RunConfig]]:
    """(key, value, config): the batch in ever more parts, then halved and halved again."""
    from repro.config.checks import check

    batch, parts = config.train.batch_size, config.resources.accumulate
    more = [p for p in range(2 * parts, MOST_PARTS + 1) if batch % p == 0]
    fewer = [batch >> halvings for halvings in range(1, batch.bit_length())]
    chosen = parts
    for count in more:
        if count >= 2 * chosen:
            chosen = count
            divided = replace(config, resources=replace(config.resources, accumulate=count))
            with suppress(UserError):  # batch norm and NT-Xent need the batch in one piece
                check(divided)
                yield "resources.accumulate", count, divided
    for size in fewer:
        smaller = replace(
            config,
            train=replace(config.train, batch_size=size),
            resources=replace(config.resources, accumulate=1),
        )
        with suppress(UserError):
            check(smaller)
            yield "train.batch_size", size, smaller


def steps_fit(config: RunConfig, dataset: Dataset, device: torch.device) -> bool:
    """Whether a few steps of a new run find room; leaves nothing behind."""
    from repro.gpu import give_back
    from repro.train import Trainer

    # Evaluations are left out: the one before the first step, and those at ends of epochs.
    endless = replace(
        config,
        train=replace(config.train, epochs=1_000_000),
        eval=replace(config.eval, every_epochs=1_000_000),
    )
    try:
        trainer = Trainer(endless, dataset, device)
        trainer.step = 1
        made = (event for event in trainer.run() if event["kind"] == "step")
        return len(list(islice(made, STEPS))) == STEPS
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)
        return False
    finally:
        trainer = made = None  # type: ignore[assignment]
        give_back()


def comes_from(package: str, error: BaseException) -> bool:
    """Whether the error was raised in this package, or in what it called."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(str(frame.f_globals.get("__name__", "")).startswith(package) for frame in frames)


def let_go(error: BaseException) -> None:
    """What the functions that the error ended still hold, networks and activations above all."""
    from repro.gpu import give_back

    behind: BaseException | None = error
    while behind is not None:
        traceback.clear_frames(behind.__traceback__)
        behind = behind.__cause__ or behind.__context__
    give_back()
