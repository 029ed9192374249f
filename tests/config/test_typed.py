"""Values as typed: what is text stays it, what is a number is one, and the rest is one line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from repro.config.checks import check
from repro.config.compose import compose, from_plain, parse_assignments, to_plain
from repro.config.keys import dotted_keys, kinds
from repro.config.schema import RunConfig
from repro.decode.plain_yaml import read
from repro.errors import UserError
from repro.harness.runs.store import config_text

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
# From public reports on other programs that read values as YAML; inputs.md has the sources.
ODD = (
    "epoch=999-step=8", "pat%r", "%r", "a@b", "@scratch/birds", "st*r", "*birds", "a#b",
    "with #hash", "with space", "(copy)", "李明", "a,b", "x: y", "{curly}", "[square]", "[1", "{",
    "'quote", '"dquote', "&and", "!bang", "!!python/name:os.system", "a:b", "?", "ba\\ck", "~tilde",
    "~", "trail:", "2024-01-01", "1_000", "010", "1:30", "on", "1e5", "0x1F", "null", "", "true",
    " leading", "a\nb", "- a", "|", ">", "--", "=", ".inf", ".nan", "a}b", "$HOME", "[" * 3000,
)  # fmt: skip


def composed(*words: str) -> RunConfig:
    return compose(EXPERIMENTS, "smoke", parse_assignments(["data=folder", *words]), "repro train")


def refusal(*words: str) -> str:
    with pytest.raises(UserError) as raised:
        composed(*words)
    return str(raised.value)


@pytest.mark.parametrize("text", ODD, ids=ascii)
def test_text_stays_what_was_typed(text: str) -> None:
    config = composed(f"data.name={text}", f"paths.data=/a/{text}")
    assert (config.data.name, config.paths.data) == (text, f"/a/{text}")


@pytest.mark.parametrize("text", ODD, ids=ascii)
def test_a_run_folder_gives_text_back_as_it_was(text: str) -> None:
    config = composed(f"data.name={text}", f"paths.data=/a/{text}")
    assert from_plain(read(config_text(config), "config.yaml"), "config.yaml") == config


def test_quotes_around_the_whole_of_a_text_are_not_part_of_it() -> None:
    assert composed("data.name='my birds'").data.name == "my birds"
    assert composed('data.name="1"').data.name == "1"


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("train.epochs=010", 10),  # 8 in YAML 1.1
        ("train.epochs=1_000", 1000),
        ("optim.lr=1e-3", 1e-3),
        ("optim.lr=1.e-3", 1e-3),
        ("optim.lr=5", 5.0),
        ("head.batch_norm=True", True),
        ("head.batch_norm=off", False),
        ("views.global_scale=[0.2, 1]", [0.2, 1.0]),
        ("paths.benchmarks={voc12: /data/voc}", {"voc12": "/data/voc"}),
    ],
)
def test_numbers_switches_and_lists_are_read(word: str, value: Any) -> None:
    key = word.partition("=")[0]
    section, _, name = key.partition(".")
    assert to_plain(composed(word))[section][name] == value


@pytest.mark.parametrize(
    ("word", "part"),
    [
        ("optim.lr=.inf", "optim.lr=.inf: "),
        ("optim.lr=inf", "optim.lr=inf must be at most 1e+09"),
        ("optim.lr=nan", "optim.lr=nan must be"),
        ("optim.lr=1e400", "optim.lr=inf must be at most 1e+09"),
        ("target.temp=-inf", "target.temp=-inf must be at least 0"),
        ("train.epochs=12:30", "train.epochs=12:30: "),  # 750 in YAML 1.1
        ("train.epochs=0x1F", "train.epochs=0x1F: "),
        ("train.epochs=" + "9" * 400, "must be at most 1e+09"),
        ("train.epochs=" + "9" * 5000, "train.epochs=9"),
        ("seed=9223372036854775808", "seed=9223372036854775808 must be at most"),
        ("model.drop_path=1", "model.drop_path=1.0 must be less than 1"),
        ("views.brightness=-5", "views.brightness=-5.0 must be at least 0"),
        ("reporting.heartbeat_seconds=0", "reporting.heartbeat_seconds=0 must be at least 1"),
        ("protocols.linear_epochs=-1", "protocols.linear_epochs=-1 must be at least 1"),
        ("views.global_scale=[.nan, 1]", ".nan is no finite number"),
        ("views.global_scale=[0.1, 1", "not valid YAML"),
        ("views.global_scale=!x", "the tag !x names a type"),
        ("data.name=${nothing}", "data.name: Interpolation key 'nothing' not found"),
        ("optim.lr=${nothing}", "optim.lr: Interpolation key 'nothing' not found"),
        ("optim.lr=${oc.env:NOT_SET_ANYWHERE}", "'NOT_SET_ANYWHERE' not found"),
        ("optim.lr=${optim.lr}", "optim.lr: Recursive interpolation detected"),
        ("data.name=${", "repro train: data.name="),
        ("data.name=???", "data.name=???: that marks a missing value; write one"),
        ("train.epochs=???", "train.epochs=???: that marks a missing value"),
        ("data.name=\\${x}", "must not contain ${"),
        ("data.name=a\0b", "is not text in UTF-8"),
        ("data.name=a\udcffb", "is not text in UTF-8"),
    ],
)  # fmt: skip
def test_what_is_no_value_of_its_key_is_refused_with_key_and_reason(word: str, part: str) -> None:
    assert part in refusal(word)


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), 10**400, -(10**30)])
@pytest.mark.parametrize("key", dotted_keys())
def test_no_number_of_a_config_may_be_infinite_or_huge(key: str, value: float) -> None:
    kind, config = kinds()[key], RunConfig()
    numbers = get_args(kind) if get_origin(kind) is tuple else (kind,)
    plain = [get_args(one)[0] if get_origin(one) is Annotated else one for one in numbers]
    if not {int, float} & set(plain):
        return
    section, _, name = key.rpartition(".")
    holder = getattr(config, section) if section else config
    setattr(holder, name, (value,) * len(plain) if get_origin(kind) is tuple else value)
    with pytest.raises(UserError, match=key):
        check(config)


def keys_of(node: Any, prefix: str = "") -> Iterator[str]:
    for item in fields(node):
        child = getattr(node, item.name)
        if is_dataclass(child):
            yield from keys_of(child, f"{prefix}{item.name}.")
        else:
            yield f"{prefix}{item.name}"


def test_every_key_has_a_kind() -> None:
    assert list(kinds()) == dotted_keys() == list(keys_of(RunConfig()))
    assert get_type_hints(RunConfig)["seed"] is kinds()["seed"]


@pytest.mark.parametrize("value", [8, 1e5, True, None, ["a"], {"a": 1}])
def test_a_number_where_a_file_should_have_text_is_not_rewritten(value: Any) -> None:
    with pytest.raises(UserError, match=r"T7: data\.name=.*: must be text; put it in quotes"):
        compose(EXPERIMENTS, "smoke", {"data.name": value}, "T7")


@given(st.text())
def test_whatever_is_typed_is_that_text(text: str) -> None:
    assume("${" not in text and "\0" not in text and text != "???")
    whole = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    assert composed(f"data.name={text}").data.name == (text[1:-1] if whole else text)
