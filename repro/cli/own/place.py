"""Where an experiment of one's own lies, and what it may not be called."""

from __future__ import annotations

import re
from pathlib import Path

from repro.errors import UserError

TAKEN = ("all", "collapse", "scorecard", "train")  # words of commands


def path_for(name: str) -> Path:
    """The file of this name, which may not be there.

    Raises:
        UserError: the name means something else already, or is none.
    """
    from repro.harness.experiments.experiment import experiment_ids
    from repro.harness.experiments.folders import own_dir
    from repro.harness.runs.states import State

    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,79}", name):
        raise UserError(
            f"'{name}': a name begins with a letter and has letters, digits, - and _ (at most 80)"
        )
    if name in (*TAKEN, *State):
        raise UserError(f"'{name}': commands read that as a word of theirs; choose another name")
    if name.upper() in map(str.upper, experiment_ids()):
        raise UserError(f"'{name}': that is one of the paper's; choose another name")
    return own_dir() / f"{name}.yaml"
