"""A run that is to be made: id, slug, config, cells it serves."""

from __future__ import annotations

from dataclasses import dataclass

from repro.config.schema import RunConfig


@dataclass(frozen=True)
class PlannedRun:
    """`state` is one of the store's, or "new"; `cells` are all (experiment, row) it serves.

    `sent`: a live SLURM job has it; `evaluation` is that of `overview.View`; `wanted` are the
    evaluations that its cells need, by the names of `requests.py`.
    """

    id: str
    experiment: str
    row: str
    seed: int
    state: str
    config: RunConfig
    slug: str
    cells: tuple[tuple[str, str], ...]
    sent: bool = False
    evaluation: str = ""
    wanted: tuple[str, ...] = ()
