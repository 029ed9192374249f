"""Overrides that nobody thought of: a config that can be written and read again, or one line."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from repro.config.checks import check
from repro.config.compose import compose, from_plain, parse_assignments
from repro.config.identity import run_id
from repro.config.keys import GROUPS, dotted_keys
from repro.decode.plain_yaml import read
from repro.errors import UserError
from repro.harness.runs.store import config_text
from tests.fuzz.searching import search, values, words

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
KEYS = [*dotted_keys(), *GROUPS]
keys = st.sampled_from(KEYS) | st.sampled_from(KEYS) | words
choices = st.sampled_from([path.stem for path in (EXPERIMENTS / "base").rglob("*.yaml")])


def composed(overrides: dict[Any, Any]) -> None:
    """What is accepted has an identity, and survives its own file."""
    config = compose(EXPERIMENTS, "smoke", overrides, "here")
    check(config)
    again = from_plain(read(config_text(config), "config.yaml"), "config.yaml")
    assert again == config
    assert run_id(again) == run_id(config)


def typed(assignments: list[tuple[str, str]]) -> None:
    with suppress(UserError):
        composed(parse_assignments([f"{key}={text}" for key, text in assignments]))


def written(overrides: dict[str, Any]) -> None:
    with suppress(UserError):
        composed(overrides)


def test_whatever_is_typed_is_a_config_or_one_line() -> None:
    search(typed, st.lists(st.tuples(keys, words | choices), min_size=1, max_size=3), 150)


def test_whatever_a_file_overrides_is_a_config_or_one_line() -> None:
    search(written, st.dictionaries(keys, values | choices, min_size=1, max_size=3), 150)
