"""How a run is, and how its evaluation is, in one word each."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Of a run, from its files alone (`RunFolder.state`) or with what SLURM adds (`overview`)."""

    queued = "queued"
    running = "running"
    interrupted = "interrupted"  # stopped with a checkpoint; the next start goes on from there
    cancelled = "cancelled"
    failed = "failed"
    lost = "lost"  # neither alive nor ended by itself
    done = "done"
    damaged = "damaged"  # a file of it cannot be read, or is not what was written


class EvaluationState(StrEnum):
    """Of the evaluations of a finished run."""

    none = ""  # not done yet, or nothing to evaluate
    waiting = "waiting"
    running = "running"
    failed = "failed"
    missing = "missing"
    done = "done"


LIVE = (State.queued, State.running)
ENDED = (State.failed, State.cancelled, State.interrupted)  # by themselves, without a result
