"""What an attempt goes on from, and that it is the same run that goes on.

The number of threads, the kernels, the images and the lines of metrics.jsonl are those of the
attempts before; where they cannot be, the run is not continued, or its log and events say so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from repro.errors import UserError
from repro.harness.runs import checkpoint
from repro.harness.runs.failures import is_out_of_memory
from repro.harness.runs.store import LINES, RunFolder
from repro.terminal import count
from repro.train import STATE, Trainer

NEEDED = STATE | {"wall_seconds"}


def newest(
    folder: RunFolder, unfit: Mapping[Path, str] = checkpoint.NONE_UNFIT
) -> checkpoint.Found:
    """The checkpoint to go on from; without one the run begins.

    Args:
        unfit: which were tried and do not serve, and why.

    Raises:
        UserError: there are checkpoints, and none that serves.
    """
    found = checkpoint.find(_checkpoints(folder), folder.id, NEEDED, unfit)
    if found.state is None and found.damaged:
        raise UserError(
            f"{_checkpoints(folder)}: no checkpoint serves ({found.faults}); put one back, or "
            f"repro retry --from-start {folder.id} begins at step 0"
        )
    return found


def threads(found: checkpoint.Found, given: int) -> int:
    """Those of the attempts before: sums over other parts of a tensor end in other digits.

    Args:
        given: what this attempt would take, 0 where it is torch's choice.
    """
    before = int((found.state or {}).get("threads", 0))
    if before and given not in (0, before):
        began_with = count(before, "thread")
        print(f"goes on with {began_with}, as it began, not {given}: for the same numbers")
    return before or given


def fill(
    folder: RunFolder, found: checkpoint.Found, make: Callable[[dict[str, Any] | None], Trainer]
) -> tuple[Trainer, checkpoint.Found]:
    """A trainer that stands where the newest checkpoint does that fits it, and that checkpoint.

    Whole and of this run, one may still hold tensors of another shape, of other code or edited.

    Args:
        make: a new trainer, given the state that it will be filled with.

    Raises:
        UserError: there are checkpoints, and none that serves.
    """
    while True:
        trainer = make(found.state)
        if found.state is None or found.path is None:
            return trainer, found
        try:
            trainer.load_state_dict(found.state)
        except (RuntimeError, ValueError, TypeError, LookupError) as error:
            if is_out_of_memory(error) or "CUDA" in str(error):
                raise
            why = f"does not fit this run ({_last_line(error)})"
            found = newest(folder, {**found.damaged, found.path: why})
        else:
            return trainer, found


def _last_line(error: Exception) -> str:
    """Of torch's list of what does not fit."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()[:200]


def check_data(folder: RunFolder, found: checkpoint.Found, data: dict[str, str]) -> None:
    """Raises: UserError: the images are others than those that the run has seen so far."""
    if found.state is None:
        return
    before = found.state.get(checkpoint.OWNER, {}).get("data", data)
    if changed := [part for part in data if before.get(part) != data[part]]:
        raise UserError(
            f"the {' and '.join(changed)} images changed since step {found.state['step']}: put "
            f"back what was there, or repro retry --from-start {folder.id} begins at step 0"
        )


def take_up(folder: RunFolder, found: checkpoint.Found, evaluation_due: bool) -> int:
    """Make the folder one that ends at the checkpoint, and tell of what is not as it was left.

    Without a checkpoint the evaluation at step 0 is repeated too.

    Returns:
        How many metric lines it has.
    """
    for path, why in found.damaged.items():
        aside = checkpoint.set_aside(path)
        used = found.path.name if found.path else ""
        print(f"{path.name} {why}: it is now {aside.name}, {used} is taken")
        folder.event("checkpoint_set_aside", file=aside.name, why=why, used=used)
    step = found.state["step"] if found.state is not None else -1
    lines = folder.truncate_metrics(step, evaluation_due)
    if found.state is None:
        return len(lines)
    missing = step - len({line["step"] for line in lines if line["kind"] == "step"})
    lost = found.state.get(LINES, len(lines)) - len(lines)
    if checkpoint.OWNER not in found.state:
        print("its checkpoint, of an earlier version, does not say which run and images it is of")
    if missing:
        print(f"metrics.jsonl lacks {missing} of {step} steps: curves of this run have gaps")
        folder.event("metrics_missing", steps=missing, of=step)
    elif lost:
        print(f"metrics.jsonl lacks {count(lost, 'evaluation')}: curves of this run have gaps")
        folder.event("metrics_missing", evaluations=lost)
    return len(lines)


def mark(folder: RunFolder, data: dict[str, str]) -> dict[str, Any]:
    """What the checkpoints of this attempt say besides the state of the training."""
    import torch

    return {"threads": torch.get_num_threads(), **checkpoint.owner(folder.id, data)}


def begin_again(folder: RunFolder) -> list[Path]:
    """Set a run's checkpoints aside, so that its next attempt begins at step 0; their new names.

    Raises:
        Busy: it is in training.
    """
    with folder.lock():
        names = checkpoint.set_all_aside(_checkpoints(folder))
        folder.event("begins_again", set_aside=[path.name for path in names])
    return names


def _checkpoints(folder: RunFolder) -> Path:
    return folder.path / "checkpoints"
