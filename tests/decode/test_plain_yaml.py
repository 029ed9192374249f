"""YAML as people mean it: what is no number is text, and what surprises is refused in one line."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from repro.decode import plain_yaml
from repro.errors import UserError

NUMBERS = st.integers(-(10**17), 10**17) | st.floats(allow_nan=False, allow_infinity=False)
PRINTABLE = st.text(st.characters(exclude_categories=("C", "Z"), include_characters=" "))
PLAIN = st.recursive(
    st.none() | st.booleans() | NUMBERS | PRINTABLE,
    lambda inner: st.lists(inner) | st.dictionaries(PRINTABLE, inner),
    max_leaves=20,
)


STAIRS = "".join(f"{' ' * n}a:\n" for n in range(999))


def refusal(text: str) -> str:
    with pytest.raises(UserError) as raised:
        plain_yaml.read(text, "X1.yaml")
    assert "\n" not in str(raised.value)
    return str(raised.value)


@given(PLAIN)
def test_what_json_writes_is_read_back(value: Any) -> None:
    assert plain_yaml.read(json.dumps(value, ensure_ascii=False), "here") == value


@given(PLAIN)
def test_what_pyyaml_writes_is_read_back(value: Any) -> None:
    assert plain_yaml.read(yaml.safe_dump(value, allow_unicode=True), "here") == value


@given(PLAIN | st.sampled_from(["1e5", "010", "1.", "+.5e3", "on", "~"]))
def test_what_is_written_is_read_back_by_this_and_by_others(value: Any) -> None:
    text = plain_yaml.write({"key": value})
    assert plain_yaml.read(text, "here") == yaml.safe_load(text) == {"key": value}


@pytest.mark.parametrize(
    "text",
    ["010", "1:30", "12:30:15", "on", "off", "yes", "No", "1_000", "0x1F", "0o17", "0b1", "tRUE",
     "2024-01-01", "=", "1e", ".", "-", "+-1", "nan", "inf", "e5"],
)  # fmt: skip
def test_what_is_no_number_is_the_text_that_stands_there(text: str) -> None:
    assert plain_yaml.read(f"[{text}]", "here") == [text]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None), ("~", None), ("null", None), ("NULL", None), ("true", True), ("False", False),
        ("0", 0), ("-7", -7), ("+7", 7), ("1e5", 1e5), ("1.e-3", 1e-3), (".5", 0.5), ("0.0", 0.0),
        ("'010'", "010"), ('"true"', "true"), ("|\n  1\n  2\n", "1\n2\n"), ("# nothing", None),
    ],
)  # fmt: skip
def test_words_and_numbers_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    read = plain_yaml.read(text, "here")
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' stands twice in one mapping"),
        ("x: {b: 1, b: 1}", "line 1: the key 'b' stands twice"),
        ("a: !!python/name:os.system x", "line 1: the tag tag:yaml.org,2002:python/name:os.system"),
        ("a: !x 1", "line 1: the tag !x names a type; only plain values are read"),
        ("a: ! 1", "line 1: the tag ! names a type"),
        ("a: *b", "line 1: *b needs an &b that ends before it"),
        ("a: &a [*a]", "line 1: *a needs an &a that ends before it"),
        ("a: .inf", "line 1: .inf is no finite number"),
        ("- -.INF", "line 1: -.INF is no finite number"),
        ("- .NaN", "line 1: .NaN is no finite number"),
        ("- 1e400", "line 1: 1e400 is too large a number"),
        ("a: " + "9" * 400, "line 1: a whole number of more than 18 digits"),
        ("? [1]\n: 2", "line 1: a key must be text, not a list or a mapping"),
        ("a: 1\n---\nb: 2", "line 2: a second document begins"),
        ("<<: 5\n", "line 2: << must name a mapping"),
        ("a: [1", "not valid YAML: "),
        ("a: b: c", "not valid YAML: "),
        ("a: \0", "not valid YAML: "),
        ("a: \ud800", "not valid YAML: "),
        ("@x", "not valid YAML: "),
    ],
)  # fmt: skip
def test_what_surprises_is_refused_in_one_line(text: str, message: str) -> None:
    assert refusal(text).startswith(f"X1.yaml: {message}")


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "{a: " * 5_000, "- " * 5_000, STAIRS]
)  # fmt: skip
def test_no_depth_of_nesting_uses_up_the_stack(text: str) -> None:
    assert "lists and mappings in each other" in refusal(text) or "not valid YAML" in refusal(text)


def test_an_alias_repeats_a_value_and_a_merge_its_keys() -> None:
    text = "a: &a {x: 1, y: 2}\nb: *a\nc: {<<: *a, y: 3}\nd: {<<: [{x: 5}, *a]}"
    assert plain_yaml.read(text, "here") == {
        "a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 2}, "c": {"x": 1, "y": 3}, "d": {"x": 5, "y": 2},
    }  # fmt: skip


def test_ten_lines_of_aliases_do_not_become_gigabytes() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    assert "more than 100,000 values" in refusal("\n".join(lines))


def test_every_file_of_the_product_says_the_same_in_yaml_1_1(repository: Any) -> None:
    files = sorted((repository / "experiments").rglob("*.yaml"))
    assert len(files) > 60
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert plain_yaml.read(text, str(file)) == yaml.safe_load(text), file
