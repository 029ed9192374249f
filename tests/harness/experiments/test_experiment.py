"""Experiment files: the committed ones are sound, and every mistake in one is named."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from repro.errors import UserError
from repro.harness.experiments.claims import Greater
from repro.harness.experiments.experiment import experiment_ids, load, row_config, run_name, select
from repro.harness.experiments.folders import experiments_dir, results_dir

SCALES = ("smoke", "laptop", "gpu", "paper")
SPEC: dict[str, Any] = {
    "id": "X1",
    "kind": "table",
    "title": "An experiment",
    "where": "Sec. 1, Table 1",
    "source": ["S1"],
    "question": "Does it?",
    "layout": [{"key": "method", "title": "Method"}],
    "metrics": [
        {"key": "knn", "title": "k-NN", "unit": "%", "decimals": 1},
        {"key": "kl", "title": "KL", "unit": "nats", "decimals": 2},
    ],
    "rows": [
        {"name": "a", "label": "A", "cells": {"method": "A"}, "reported": {"knn": 70.0}},
        {"name": "b", "label": "B", "cells": {"method": "B"}, "reported": {}},
    ],
    "claims": [
        {
            "id": "C.X1.1",
            "statement": "A beats B",
            "portability": "L",
            "kind": "greater",
            "better": "X1.a.knn",
            "worse": "X1.b.knn",
        }
    ],
}


@pytest.fixture
def experiments(tmp_path: Path, repository: Path) -> Path:
    """A folder of experiments with the real base groups and scales."""
    folder = tmp_path / "experiments"
    for part in ("base", "scales"):
        shutil.copytree(repository / "experiments" / part, folder / part)
    return folder


def write(folder: Path, change: Callable[[dict[str, Any]], Any] = lambda spec: None) -> Path:
    spec = copy.deepcopy(SPEC)
    change(spec)
    path = folder / "X1.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


@pytest.mark.parametrize("name", experiment_ids())
@pytest.mark.parametrize("scale", SCALES)
def test_every_row_of_every_committed_experiment_composes(name: str, scale: str) -> None:
    experiment = load(name)
    for row in experiment.rows:
        if row.why_not(scale):
            assert not row.trainable or scale not in row.scales
            continue
        for variant in experiment.runs_a_row:
            label = row_config(experiment, row, scale, 3, variant).label
            assert (label.experiment, label.scale) == (name, scale)
            assert label.row == run_name(row, variant)


@pytest.mark.parametrize("name", experiment_ids())
def test_every_claim_of_a_committed_experiment_names_cells_that_exist_somewhere(name: str) -> None:
    experiments = [load(other) for other in experiment_ids()]
    rows = {f"{e.id}.{row.name}" for e in experiments for row in e.rows}
    cells = {f"{e.id}.{row.name}.{m.key}" for e in experiments for row in e.rows for m in e.metrics}
    for claim in load(name).claims:
        assert set(claim.body.row_addresses()) <= rows, claim.id
        assert set(claim.body.cell_addresses()) <= cells, claim.id
        assert claim.body.row_addresses() or claim.body.cell_addresses(), claim.id


def test_a_minimal_file_is_read_with_its_defaults(experiments: Path) -> None:
    experiment = load(write(experiments))
    first = experiment.row("a")
    assert (first.overrides, first.scales, first.reported_curve) == ({}, (), None)
    assert (experiment.baseline, experiment.at_scale, experiment.curves) == ({}, {}, ())
    assert experiment.claims[0].body == Greater(better="X1.a.knn", worse="X1.b.knn")


def test_overrides_apply_from_the_experiment_to_the_row_and_from_any_scale_to_this_one(
    experiments: Path,
) -> None:
    """Each layer sets its own key and the next one's; the later one must win."""
    keys = ["optim.lr", "optim.min_lr", "loss.student_temp", "teacher.momentum", "eval.knn_temp"]
    layers = [dict.fromkeys(keys[i : i + 2], (i + 1) / 100) for i in range(4)]

    def change(spec: dict[str, Any]) -> None:
        spec["baseline"], spec["at"] = layers[0], {"smoke": layers[1], "gpu": {"seed": 7}}
        spec["also"] = dict.fromkeys(keys, "it is about the layers")
        spec["rows"][0] |= {"overrides": layers[2], "at": {"smoke": layers[3]}}

    experiment = load(write(experiments, change))
    c = row_config(experiment, experiment.row("a"), "smoke", 5)
    values = (c.optim.lr, c.optim.min_lr, c.loss.student_temp, c.teacher.momentum, c.eval.knn_temp)
    assert values == (0.01, 0.02, 0.03, 0.04, 0.04)
    assert c.seed == 5


def test_a_rows_bad_override_is_blamed_on_the_file_and_the_row(experiments: Path) -> None:
    change = lambda spec: spec["rows"][0].update(overrides={"teacher.knd": "momentum"})  # noqa: E731
    experiment = load(write(experiments, change))
    with pytest.raises(UserError, match=r"X1.yaml: row a: .*'teacher.knd'.*teacher.kind"):
        row_config(experiment, experiment.row("a"), "smoke", 0)


MISTAKES: list[tuple[str, Callable[[dict[str, Any]], Any]]] = [
    (r"unknown key 'titel'; nearest valid key: title", lambda s: s.update(titel="x")),
    (r"the key 'question' is missing", lambda s: s.pop("question")),
    (r"id 'X2' must be the file's name, 'X1'", lambda s: s.update(id="X2")),
    (
        r"kind: 'tabel' is not one of table, figure; nearest: table",
        lambda s: s.update(kind="tabel"),
    ),
    (r"kind: 'plot' is not one of table, figure; nearest: none", lambda s: s.update(kind="plot")),
    (r"rows: 5 must be a list", lambda s: s.update(rows=5)),
    (r"row a: unknown key 'overides'; .*: overrides", lambda s: s["rows"][0].update(overides={})),
    (r"row 1: name: False must be text", lambda s: s["rows"][0].update(name=False)),
    (r"rows: 'a' appears twice", lambda s: s["rows"][1].update(name="a")),
    (r"row a: cells: 'metod' .*nearest: method", lambda s: s["rows"][0].update(cells={"metod": 1})),
    (r"row a: reported: 'knnn' .*: knn", lambda s: s["rows"][0].update(reported={"knnn": 1})),
    (r"row a: reported: knn: '72,8'", lambda s: s["rows"][0].update(reported={"knn": "72,8"})),
    (r"reported_curve: the key 'epoch'", lambda s: s["rows"][0].update(reported_curve={"kl": [1]})),
    (
        r"reported_curve: kl must be as long",
        lambda s: s["rows"][0].update(reported_curve={"epoch": [1, 2], "kl": [1]}),
    ),
    (r"scales and at: 'labtop' .*: laptop", lambda s: s["rows"][0].update(scales=["labtop"])),
    (r"at: 'labtop' .*: laptop", lambda s: s.update(at={"labtop": {}})),
    (r"curves: 'entropy' is not one of knn, kl", lambda s: s.update(curves=["entropy"])),
    (r"C.X1.1: X1.c.knn: row: 'c'", lambda s: s["claims"][0].update(better="X1.c.knn")),
    (r"X1.a.knm: metric: 'knm'.*: knn", lambda s: s["claims"][0].update(better="X1.a.knm")),
    (r"about: no key or section 'teachr'; nearest: teacher", lambda s: s.update(about=["teachr"])),
    (
        r"claim C.X1.1: about: no key or section 'teacher.knd'; nearest: teacher.kind",
        lambda s: s["claims"][0].update(about=["teacher.knd"]),
    ),
    (r"'X1.a' is not an address such as T7.r1.knn", lambda s: s["claims"][0].update(better="X1.a")),
    (r"row a: reported numbers need a source", lambda s: s.pop("source")),
    (
        r"reported_curve: kl\[0\]: 'x' must be a number",
        lambda s: s["rows"][0].update(reported_curve={"epoch": [1], "kl": ["x"]}),
    ),
    (r"claim C.X1.1: '../..' is not a", lambda s: s["claims"][0].update(better="../..")),
    (r"C.X1.1: on_paper: 'hold' .*: holds", lambda s: s["claims"][0].update(on_paper="hold")),
    (r"C.X1.1: portability: 'X'", lambda s: s["claims"][0].update(portability="X")),
    (r"C.X1.1: unknown kind 'grater'.*: greater", lambda s: s["claims"][0].update(kind="grater")),
    (r"C.X1.1: the key 'worse' is missing", lambda s: s["claims"][0].pop("worse")),
    (r"C.X1.1: unknown key 'marign'", lambda s: s["claims"][0].update(marign=1)),
    (r"claims: 'C.X1.1' appears twice", lambda s: s["claims"].append(s["claims"][0])),
    (
        r"figure: unknown kind 'ablatoin'; nearest: ablation",
        lambda s: s.update(figure={"kind": "ablatoin"}),
    ),
    (
        r"figure: over: 'metod' is not one of method; nearest: method",
        lambda s: s.update(figure={"kind": "ablation", "over": "metod"}),
    ),
    (
        r"figure: key: 'head.prototype' is not one of .*; nearest: head.prototypes",
        lambda s: s.update(figure={"kind": "ablation", "over": "method", "key": "head.prototype"}),
    ),
    (r"figure: unknown key 'over'", lambda s: s.update(figure={"kind": "rows", "over": "method"})),
    (r"metric knn: decimals: -1 must be at least 0", lambda s: s["metrics"][0].update(decimals=-1)),
    (
        r"metric kl: minus names 1 columns, not 2",
        lambda s: s["metrics"][1].update(minus=["knn"]),
    ),
    (
        r"metric kl: minus: 'knnn' is not one of knn, kl; nearest: knn",
        lambda s: s["metrics"][1].update(minus=["knnn", "kl"]),
    ),
    (r"metric kl: variant: this file has", lambda s: s["metrics"][1].update(variant="100ep")),
    (r"unknown key 'path'", lambda s: s.update(path="/elsewhere")),
    (r"claims: 5 must be a list", lambda s: s.update(claims=5)),
    (r"layout\[0\]: 'method' must be a mapping", lambda s: s.update(layout=["method"])),
]


@pytest.mark.parametrize(("message", "change"), MISTAKES, ids=[m for m, _ in MISTAKES])
def test_a_mistake_is_one_line_with_file_place_and_fix(
    experiments: Path, message: str, change: Callable[[dict[str, Any]], Any]
) -> None:
    path = write(experiments, change)
    with pytest.raises(UserError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_mistake_inside_a_compound_claim_is_found(experiments: Path) -> None:
    def change(spec: dict[str, Any]) -> None:
        part = {"kind": "close", "a": "X1.a.knn", "b": "X1.z.knn", "margin": 1.0}
        body = {"kind": "all_of", "claims": [part]}
        spec["claims"][0] = {k: spec["claims"][0][k] for k in ("id", "statement", "portability")}
        spec["claims"][0] |= body

    with pytest.raises(UserError, match=r"C.X1.1: X1.z.knn: row: 'z'"):
        load(write(experiments, change))


def test_a_claim_may_address_an_experiment_that_is_not_written_yet(experiments: Path) -> None:
    change = lambda spec: spec["claims"][0].update(worse="T99.r1.knn")  # noqa: E731
    (claim,) = load(write(experiments, change)).claims
    assert claim.body.cell_addresses() == ("X1.a.knn", "T99.r1.knn")


def test_a_file_that_is_not_yaml_is_named(experiments: Path) -> None:
    (experiments / "X1.yaml").write_text("rows: [")
    with pytest.raises(UserError, match=r"X1.yaml: not valid YAML") as caught:
        load(experiments / "X1.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["T7:r2,r1"], [("T7", ["r1", "r2"])]),
        (["F7:both", "T7:r1", "F7:centering"], [("F7", ["both", "centering"]), ("T7", ["r1"])]),
        (["F7:both", "F7"], [("F7", ["both", "centering", "sharpening", "neither"])]),
    ],
)
def test_words_select_rows_in_the_order_of_the_file(
    words: list[str], expected: list[tuple[str, list[str]]]
) -> None:
    assert [(e.id, [r.name for r in rows]) for e, rows in select(words)] == expected


def test_all_selects_every_row_of_every_experiment() -> None:
    selection = select(["all"])
    assert [experiment.id for experiment, _ in selection] == experiment_ids()
    assert all(tuple(rows) == experiment.rows for experiment, rows in selection)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("T77", r"nearest: T7"),
        ("f7", r"nearest: F7"),
        ("T7:r22", r"no row 'r22' in T7; nearest: r"),
    ],
)
def test_an_unknown_id_or_row_is_refused_with_the_nearest(word: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        select([word])


def test_the_experiments_of_the_nearest_parent_folder_are_used(
    experiments: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Path
) -> None:
    monkeypatch.delenv("REPRO_RESULTS", raising=False)
    inside = tmp_path / "some" / "where"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    assert experiments_dir() == experiments
    assert results_dir() == tmp_path / "results"
    monkeypatch.chdir("/")
    assert experiments_dir() == repository / "experiments"


def test_results_may_lie_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPRO_RESULTS", str(tmp_path))
    assert results_dir() == tmp_path


def test_a_config_that_two_rows_share_is_changed_for_one_of_them_only() -> None:
    experiment = load("T7")
    row = experiment.row("r1")
    first = row_config(experiment, row, "smoke", 0)
    first.train.epochs += 1
    second = row_config(experiment, row, "smoke", 0)
    assert second.train.epochs == first.train.epochs - 1
