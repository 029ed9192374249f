"""A run that is to be made: id, slug, config, what it serves, and what to call one's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from repro.config.identity import is_identity
from repro.config.keys import GROUPS, dotted_keys
from repro.config.schema import RunConfig
from repro.harness.runs.states import EvaluationState, State

OWN = "train"  # the experiment of what `repro train` makes, which is no row of a file
LONGEST_NAME = 60  # characters


@dataclass(frozen=True)
class PlannedRun:
    """One run of a plan.

    Attributes:
        state: None if it has no folder yet.
        serves: all (experiment, row) whose numbers it gives.
        requests: the evaluations that those rows' columns need, by the names of `requests.py`.
        tags: words of people's own, which join those that its folder has.
        sent: whether a live SLURM job has it.
        evaluation: as an overview found it.
        published: whether a run of this id is among the published ones, here or not.
        damage: why its folder is left as it is, where that is damaged.
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
    tags: tuple[str, ...] = ()
    published: bool = False
    damage: str = ""

    @property
    def state_name(self) -> str:
        return self.state or "new"


def own_name(overrides: Mapping[str, Any]) -> str:
    """What a run of one's own is called: what was set of it, e.g. "momentum=0.9 method=byol".

    The seed has a place of its own in a name; what is no part of a run's identity has none.
    """
    settings = {k: v for k, v in overrides.items() if k in GROUPS or is_identity(k)}
    words = [f"{short_key(key)}={value}" for key, value in settings.items() if key != "seed"]
    name = " ".join("".join(word.split()) for word in words)
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 3]}..."


def short_key(key: str) -> str:
    """The last part of a dotted key, or all of it where another key ends in the same one."""
    last = key.rpartition(".")[2]
    return last if _ENDINGS[last] <= 1 else key


_ENDINGS = Counter(key.rpartition(".")[2] for key in (*dotted_keys(), *GROUPS))
