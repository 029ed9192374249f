"""How long properties look for a counterexample: seconds in `make test`, as long as one likes by

REPRO_FUZZ=100 pytest tests/data
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from repro.errors import UserError

T = TypeVar("T")


def examples(short: int) -> int:
    """So many examples, times what REPRO_FUZZ says."""
    return short * int(os.environ.get("REPRO_FUZZ", "1"))


def answer(ask: Callable[[], T]) -> T | str:
    """What comes back, or the one line that says why nothing does; anything else is raised."""
    try:
        return ask()
    except UserError as error:
        line = str(error)
        line.encode()
        assert len(line.splitlines()) == 1, line
        return line
