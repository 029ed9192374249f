"""A grid in an experiment file: which rows it stands for, what they set, mistakes by place."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repro.decode import decode
from repro.errors import UserError
from repro.harness.experiments.experiment import Experiment, parse, row_config
from repro.harness.experiments.folders import experiments_dir
from repro.harness.experiments.grid import Grid, row_name, text_of, with_rows

AXES: dict[str, Any] = {
    "m": {"key": "teacher.momentum", "values": [0.9, 0.99]},
    "K": {"key": "head.prototypes", "values": [64, 256], "title": "prototypes"},
}


def experiment(grid: dict[str, Any], **more: Any) -> Experiment:
    content = {
        "id": "mine",
        "kind": "table",
        "title": "Mine",
        "where": "own",
        "question": "Does it?",
        "metrics": [{"key": "knn", "title": "k-NN", "unit": "%", "decimals": 1}],
        "grid": grid,
    }
    return parse(content | more, experiments_dir() / "own" / "mine.yaml")


def names(grid: dict[str, Any]) -> list[str]:
    return [row.name for row in experiment(grid).rows]


def test_every_combination_is_a_row_with_its_settings_cells_and_label() -> None:
    made = experiment({"axes": AXES})
    assert [row.name for row in made.rows] == ["m0.9-K64", "m0.9-K256", "m0.99-K64", "m0.99-K256"]
    row = made.row("m0.9-K256")
    assert row.overrides == {"teacher.momentum": 0.9, "head.prototypes": 256}
    assert row.described == {"m": 0.9, "K": 256}
    assert row.label == "m 0.9, prototypes 256"
    assert [(column.key, column.title) for column in made.layout] == [
        ("m", "m"),
        ("K", "prototypes"),
    ]
    config = row_config(made, row, "smoke", 3)
    assert (config.teacher.momentum, config.head.prototypes, config.seed) == (0.9, 256, 3)


def test_choices_set_several_keys_and_name_rows_by_their_words() -> None:
    choices = {"byol": {"method": "byol", "crops": "two"}, "dino": {"method": "dino"}}
    made = experiment({"axes": {"method": {"choices": choices}, "m": AXES["m"]}})
    assert [row.name for row in made.rows][:2] == ["byol-m0.9", "byol-m0.99"]
    assert made.row("byol-m0.9").overrides == choices["byol"] | {"teacher.momentum": 0.9}
    assert row_config(made, made.row("byol-m0.9"), "smoke", 0).predictor.used


def test_switches_are_named_by_their_axis() -> None:
    axis = {"key": "target.sharpening", "values": [True, False]}
    assert names({"axes": {"sharpening": axis}}) == ["sharpening", "no_sharpening"]


def test_axes_that_are_zipped_move_together() -> None:
    lr = {"key": "optim.lr", "values": [1e-3, 5e-4]}
    grid = {"axes": {"m": AXES["m"], "K": AXES["K"], "lr": lr}, "zip": [["m", "lr"]]}
    assert names(grid) == [
        "m0.9-K64-lr0.001", "m0.9-K256-lr0.001", "m0.99-K64-lr0.0005", "m0.99-K256-lr0.0005",
    ]  # fmt: skip


def test_excluded_combinations_are_no_rows_and_included_ones_come_last() -> None:
    grid = {"axes": AXES, "exclude": [{"m": 0.9, "K": 64}], "include": [{"m": 0.5, "K": 128}]}
    assert names(grid) == ["m0.9-K256", "m0.99-K64", "m0.99-K256", "m0.5-K128"]


def test_rows_and_columns_that_are_written_out_stand_before_those_of_the_grid() -> None:
    made = experiment(
        {"axes": AXES},
        layout=[{"key": "what", "title": "What"}, {"key": "K", "title": "size"}],
        rows=[{"name": "plain", "label": "plain", "cells": {"K": 1}, "reported": {}}],
    )
    assert [row.name for row in made.rows][:2] == ["plain", "m0.9-K64"]
    assert [column.title for column in made.layout] == ["What", "size", "m"]


@given(
    st.lists(
        st.lists(st.integers(1, 9), min_size=1, max_size=3, unique=True), min_size=1, max_size=3
    ),
    st.integers(10, 99),
)
def test_names_are_unique_and_stay_when_a_value_is_added(axes: list[list[int]], new: int) -> None:
    def made(values: list[list[int]]) -> list[str]:
        axes = {
            name: {"key": "train.epochs", "values": v}
            for name, v in zip("abc", values, strict=False)
        }
        return [row_name(point) for point in decode({"axes": axes}, Grid, "").points()]

    before, after = made(axes), made([[*axes[0], new], *axes[1:]])
    assert len(set(after)) == len(after)
    assert len(before) == len(list(itertools.product(*axes)))
    assert [name for name in after if name in before] == before


@pytest.mark.parametrize(
    ("value", "text"),
    [(1, "1"), (1.0, "1"), (0.5, "0.5"), (1e-05, "1e-05"), (True, "true"), ([0.25, 1.0], "0.25 1")],
)
def test_equal_values_are_written_alike(value: Any, text: str) -> None:
    assert text_of(value) == text


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ({}, "grid: the key 'axes' is missing"),
        ({"axes": {}}, "grid: axes"),
        ({"axes": {"m": {"key": "teacher.momentum"}}}, "axes: m: an axis has either a key"),
        ({"axes": {"m": {"key": "x", "values": []}}}, "axes: m"),
        ({"axes": {"m": {"key": "x", "valeus": [1]}}}, "nearest valid key: values"),
        ({"axes": {"a.b": AXES["m"]}}, "'a.b' must be a word"),
        ({"axes": {"m": {"key": "teacher.momentum", "values": [1, 1.0]}}}, "m: 1 appears twice"),
        ({"axes": AXES, "zip": [["m", "L"]]}, "zip: 'L' is not one of m, K"),
        ({"axes": AXES, "zip": [["m", "m"]]}, "zip: m appears twice"),
        ({"axes": AXES, "exclude": [{"L": 1}]}, "exclude: 'L' is not one of"),
        ({"axes": AXES, "exclude": [{"K": 65}]}, "exclude: K: '65' is not one of 64, 256"),
        ({"axes": AXES, "include": [{"K": 65}]}, "include: every axis needs a value: m"),
        ({"axes": AXES, "include": [{"m": 0.9, "K": 64}]}, "'m0.9-K64' appears twice"),
        ({"axes": AXES, "exclude": [{"m": 0.9}, {"m": 0.99}]}, "exclude leaves no row"),
        (
            {"axes": {n: {"key": "seed", "values": list(range(80))} for n in "ab"}},
            "6,400 rows, more than 5,000",
        ),
        (
            {"axes": AXES | {"lr": {"key": "optim.lr", "values": [1]}}, "zip": [["m", "lr"]]},
            "as many values each: m has 2, lr has 1",
        ),
    ],
)
def test_a_mistake_in_a_grid_is_one_line_that_names_its_place(
    grid: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError) as mistake:
        experiment(grid)
    assert said in str(mistake.value)
    assert "mine.yaml" in str(mistake.value)
    assert "\n" not in str(mistake.value)


@pytest.mark.parametrize("axis", ["down", "across"])
def test_a_heat_map_of_an_axis_that_is_not_there_is_refused(axis: str) -> None:
    figure = {"kind": "heatmap", "down": "m", "across": "K"} | {axis: "L"}
    with pytest.raises(UserError, match=f"figure: {axis}: 'L' is not one of m, K"):
        experiment({"axes": AXES}, figure=figure)


@pytest.mark.parametrize(
    "content", [None, [], "text", {"id": "x"}, {"rows": 1, "grid": {"axes": AXES}}]
)
def test_what_is_no_file_with_a_grid_is_left_to_its_reader(content: Any) -> None:
    assert with_rows(content, "here") == content


def test_a_key_that_the_config_does_not_have_is_named_with_the_row(tmp_path: Path) -> None:
    made = experiment({"axes": {"m": {"key": "teacher.momentm", "values": [0.5, 0.9]}}})
    with pytest.raises(UserError, match=r"row m0.5: unknown key .*teacher\.momentum"):
        row_config(made, made.rows[0], "smoke", 0)
