"""A run that is to be made: id, slug, config, and what it serves."""

from __future__ import annotations

from dataclasses import dataclass

from repro.config.schema import RunConfig
from repro.harness.runs.states import EvaluationState, State


@dataclass(frozen=True)
class PlannedRun:
    """One run of a plan.

    Attributes:
        state: None if it has no folder yet.
        serves: all (experiment, row) whose numbers it gives.
        requests: the evaluations that those rows' columns need, by the names of `requests.py`.
        sent: whether a live SLURM job has it.
        evaluation: as an overview found it.
    """

    id: str
    experiment: str
    row: str
    seed: int
    state: State | None
    config: RunConfig
    slug: str
    serves: tuple[tuple[str, str], ...]
    requests: tuple[str, ...] = ()
    sent: bool = False
    evaluation: EvaluationState = EvaluationState.none

    @property
    def state_name(self) -> str:
        return self.state or "new"
