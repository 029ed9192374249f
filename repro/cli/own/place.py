"""Where an experiment of one's own lies."""

from __future__ import annotations

import re
from pathlib import Path

from repro.errors import UserError


def path_for(name: str) -> Path:
    """The file of this name, which may not be there.

    Raises:
        UserError: the name means something else already, or is none.
    """
    from repro.harness.experiments.experiment import experiment_ids
    from repro.harness.experiments.folders import own_dir
    from repro.harness.experiments.names import why_not

    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,79}", name):
        raise UserError(
            f"'{name}': a name begins with a letter and has letters, digits, - and _ (at most 80)"
        )
    if why := why_not(name, experiment_ids()):
        raise UserError(why)
    return own_dir() / f"{name}.yaml"
