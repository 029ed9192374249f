"""How long a search goes on: a second in tests, or REPRO_FUZZ_MINUTES of CPU where that is set."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

MINUTES = float(os.environ.get("REPRO_FUZZ_MINUTES", "0"))
HANGS = 600  # seconds after which an input is said to hang; a busy machine needs a minute at times


def search(check: Callable[[Any], None], inputs: st.SearchStrategy[Any], examples: int) -> None:
    """Call `check` with inputs, round by round; the first round is always the same."""
    until = time.process_time() + 60 * MINUTES
    how = settings(
        max_examples=10 * examples if MINUTES else examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    for number in count():

        @seed(number)
        @how
        @given(inputs)
        def bounded(value: Any) -> None:
            with ended_after(HANGS):
                check(value)

        bounded()
        if time.process_time() >= until:
            return


@contextmanager
def ended_after(seconds: int) -> Iterator[None]:
    def end(*_: object) -> None:
        raise TimeoutError(f"no answer after {seconds} seconds")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


ODD = (
    "", " ", "0", "-1", "010", "1:30", "on", "1e5", "1e400", ".inf", "-.inf", ".nan", "nan", "inf",
    "9" * 30, "9" * 400, "9" * 5000, "null", "~", "???", "true", "[", "]", "{", "}", "[[", "{}",
    "[]", "[1, 2]", "[.nan, 1]", "{a: b}", "{1: 2}", "{a: {b: c}}", "&a [*a]", "*a", "!!int 3",
    "!x", "@x", "%x", "${", "${}", "${x}", "${seed}", "${oc.env:HOME}", "${oc.env:NO}", "\\${x}",
    "${oc.create:[1]}", "${hydra:runtime.cwd}", "${data}", "'", '"', "a'b", "#", "a #b", "\0", "\n",
    "\udcff", "李", "\u202e", "x" * 300, "../..", "/", "~/x", "=", "==", "--", "-", "a=b", "<<",
    "? [1]", "- a\n- b", "a: 1\na: 2", "|", ">", "0x1F", "1_000", "1,5", "+5", "1e1", "5.0",
)  # fmt: skip
words = st.sampled_from(ODD) | st.text(max_size=20) | st.floats().map(str) | st.integers().map(str)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)
