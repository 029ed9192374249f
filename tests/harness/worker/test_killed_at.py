"""A run that is killed at file operations, again and again, ends as if it never had been.

All operations and moments, by the hundred: `python -m tests.harness.killed_at 300`.
"""

from __future__ import annotations

import random
from collections import deque
from pathlib import Path

import pytest

from tests.harness.killed_at import MOMENTS, Trials


def test_a_run_killed_at_file_operations_ends_bit_for_bit_with_the_threads_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPRO_THREADS", "1")
    trials = Trials(tmp_path)
    assert trials.operations > 50
    draw = random.Random(0)
    places = deque((draw.randrange(10, 30), moment) for moment in MOMENTS)
    kills, fault = trials.trial(places, len(places))
    assert not fault
    assert kills
