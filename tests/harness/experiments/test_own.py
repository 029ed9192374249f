"""People's own files: made of a line, extended by one without touching what else they say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from repro.decode import plain_yaml
from repro.errors import UserError
from repro.harness.experiments.experiment import (
    Experiment,
    experiment_ids,
    known_ids,
    load,
    own_ids,
    parse,
    select,
)
from repro.harness.experiments.own import Swept, axis_names, extended, text_of_sweep

SWEPT = Swept({"teacher.momentum": [0.9, 0.99], "head.prototypes": [64, 256]}, {"crops": "two"})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory outside of every checkout, without experiments of its own yet."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments" / "own").mkdir(parents=True)
    return tmp_path / "experiments" / "own"


def made(path: Path, swept: Swept = SWEPT) -> tuple[str, Experiment]:
    text = text_of_sweep(path, swept, "repro sweep ...", "--scale smoke --seeds 2")
    return text, read(text, path)


def read(text: str, path: Path) -> Experiment:
    return parse(plain_yaml.read(text, str(path)), path)


def line(axes: dict[str, Sequence[Any]], **fixed: Any) -> Swept:
    return Swept(axes, fixed)


def test_a_sweep_s_file_says_what_the_line_said(folder: Path) -> None:
    text, experiment = made(folder / "mine.yaml")
    assert len(experiment.rows) == 4
    assert experiment.baseline == {"crops": "two"}
    assert experiment.figure.kind == "heatmap"
    assert "Command  repro run mine --scale smoke --seeds 2" in text
    assert text.startswith("# yaml-language-server: $schema=")


@pytest.mark.parametrize(
    ("values", "kind"), [([1, 2], "ablation"), (["a", "b"], "rows"), ([True, False], "rows")]
)
def test_one_axis_is_a_curve_where_it_has_numbers(
    folder: Path, values: list[Any], kind: str
) -> None:
    key = {"ablation": "train.epochs", "rows": "teacher.kind"}[kind]
    _, experiment = made(folder / "mine.yaml", line({key: values}))
    assert experiment.figure.kind == kind


@pytest.mark.parametrize("value", [1e-05, 0.1, 1, True, "010", "1e5", "a, b", [0.25, 1.0], "on"])
def test_every_value_is_read_from_the_file_as_it_was_written(folder: Path, value: Any) -> None:
    _, experiment = made(folder / "mine.yaml", line({"optim.lr": [value, "other"]}))
    assert experiment.rows[0].overrides == {"optim.lr": value}


def test_own_files_are_found_beside_the_paper_s_and_are_no_part_of_all(folder: Path) -> None:
    text, _ = made(folder / "mine.yaml")
    (folder / "mine.yaml").write_text(text)
    (folder / "T7.yaml").write_text(text)  # no file takes the place of one of the paper's
    assert own_ids() == ["mine"]
    assert known_ids() == [*experiment_ids(), "mine"]
    assert load("mine").path == folder / "mine.yaml"
    assert load("T7").title.startswith("Important components")
    assert "mine" not in {experiment.id for experiment, _ in select(["all"])}
    ((experiment, rows),) = select(["mine:momentum0.9-prototypes64"])
    assert (experiment.id, len(rows)) == ("mine", 1)
    with pytest.raises(UserError, match="nearest: mine "):
        load("mien")


@pytest.mark.parametrize(
    "values",
    ["[0.9, 0.99]", "[\n      0.9, # low\n      0.99,\n    ]", "\n      - 0.9\n      - 0.99"],
)
def test_a_value_is_added_where_the_values_stand_and_nothing_else_changes(
    folder: Path, values: str
) -> None:
    path = folder / "mine.yaml"
    text = f"""\
# mine, with a remark
id: mine
kind: table
title: Mine
where: own
question: Does it?   # yes
grid:
  axes:
    momentum:
      key: teacher.momentum
      values: {values}
    K: {{values: [64, 256], key: head.prototypes}}
metrics:
- {{key: knn, title: k-NN, unit: "%", decimals: 1}}   # alone
claims:
- {{id: C.1, statement: so, portability: M, kind: no_collapse, rows: [mine.momentum0.9-K64]}}
"""
    before = read(text, path)
    longer = extended(text, before, line({}, **{"teacher.momentum": 0.95}), complete=False)
    after = read(longer, path)
    assert [row.name for row in after.rows if row not in before.rows] == [
        "momentum0.95-K64",
        "momentum0.95-K256",
    ]
    assert all(row in after.rows for row in before.rows)
    assert after.claims == before.claims
    start = longer.index("[0.9, 0.95, 0.99]")
    assert longer[:start] == text[:start]
    rest = text[text.index("    K: {") :]
    assert longer.endswith(rest)


def test_the_same_line_leaves_the_file_as_it_is(folder: Path) -> None:
    text, experiment = made(folder / "mine.yaml")
    assert extended(text, experiment, SWEPT, complete=True) == text
    fewer = line({"teacher.momentum": [0.99, 0.9]})
    assert extended(text, experiment, fewer, complete=False) == text


@pytest.mark.parametrize(
    ("swept", "said"),
    [
        (line({"teacher.momentum": [0.9]}, crops="two"), "has head.prototypes, too"),
        (line(dict(SWEPT.axes)), "has crops, too"),
        (line(dict(SWEPT.axes), crops="ten"), "has crops=two for all its rows"),
        (line({**SWEPT.axes, "optim.lr": [1, 2]}, crops="two"), "has no axis of optim.lr"),
        (line({**SWEPT.axes, "crops": ["two", "ten"]}), "has no axis of crops"),
    ],
)
def test_a_line_about_other_settings_is_refused(folder: Path, swept: Swept, said: str) -> None:
    text, experiment = made(folder / "mine.yaml")
    with pytest.raises(UserError, match=said):
        extended(text, experiment, swept, complete=True)


def test_axes_are_called_by_the_last_part_of_their_key_where_that_is_enough() -> None:
    keys = ["teacher.momentum", "optim.momentum", "method"]
    assert list(axis_names(keys).values()) == ["teacher_momentum", "optim_momentum", "method"]
