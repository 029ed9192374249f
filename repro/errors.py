"""Mistakes a user can mend: one clear line and exit code 2, never a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in a command, a file or a setting; its text is the whole message shown."""


def nearest(word: str, valid: Iterable[str]) -> str:
    """The valid word closest to `word`, for "did you mean" messages; none where none is like it.

    A dotted key is first compared as a whole, then by its last part, so that `teacher.knd`
    finds `teacher.kind` and `momentum` finds `teacher.momentum`.
    """
    candidates = list(valid)
    if whole := near(word, candidates):
        return whole
    last = word.rsplit(".", 1)[-1]
    by_last = {key.rsplit(".", 1)[-1]: key for key in candidates}
    return by_last.get(near(last, by_last), "none")


def near(word: str, valid: Iterable[str], likeness: float = 0.6) -> str:
    """The valid word that `word` may be a slip of; empty where none is like it."""
    return next(iter(difflib.get_close_matches(word, list(valid), n=1, cutoff=likeness)), "")
