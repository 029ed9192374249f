"""Rows change no more than their files declare; whatever else they change is refused."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from analysis.evidence.distance import protocol_distance
from repro.config.identity import canonical
from repro.config.keys import GROUPS
from repro.decode import read_yaml
from repro.errors import UserError
from repro.harness.experiments.about import overrides_of
from repro.harness.experiments.experiment import Experiment, experiment_ids, load, parse, row_config
from repro.harness.experiments.folders import experiments_dir

PAPER = experiments_dir() / "X1.yaml"
MULTICROP = {"key": "multicrop", "title": "MC", "about": ["crops", "views.local_number"]}
LOSS = {"key": "loss", "title": "Loss"}


def read(
    overrides: Mapping[str, Any],
    cells: Mapping[str, Any],
    path: Path = PAPER,
    row: Mapping[str, Any] | None = None,
    **more: Any,
) -> Experiment:
    """A file of two rows: `plain`, and `other` with these overrides and cells."""
    plain = {"loss": "CE", "multicrop": True}
    rows = [
        {"name": "plain", "label": "P", "cells": plain, "reported": {}},
        {"name": "other", "label": "O", "cells": plain | dict(cells), "reported": {}}
        | {"overrides": dict(overrides)}
        | dict(row or {}),
    ]
    content = {"id": path.stem, "kind": "table", "title": "X", "where": "here", "question": "?"}
    metrics = [{"key": "knn", "title": "k-NN", "unit": "%", "decimals": 1}]
    return parse(
        content | {"layout": [LOSS, MULTICROP], "metrics": metrics, "rows": rows} | more, path
    )


@pytest.mark.parametrize(
    ("overrides", "cells"),
    [
        ({"loss.kind": "mse"}, {"loss": "MSE"}),  # the column is called by a section
        ({"crops": "two"}, {"multicrop": False}),  # a group, named by the column
        ({"views.local_number": 0}, {"multicrop": False}),
        ({"views.local_number": 0, "loss.kind": "mse"}, {"multicrop": False, "loss": "MSE"}),
    ],
)
def test_what_a_cell_stands_for_may_differ(
    overrides: Mapping[str, Any], cells: Mapping[str, Any]
) -> None:
    assert read(overrides, cells).row("other").overrides == overrides


@pytest.mark.parametrize(
    ("overrides", "cells", "key"),
    [
        ({"loss.kind": "mse", "optim.lr": 0.1}, {"loss": "MSE"}, "optim.lr"),
        ({"loss.kind": "mse", "crops": "two"}, {"loss": "MSE"}, "crops"),  # its cell is the same
        ({"loss.kind": "mse"}, {"loss": ""}, "loss.kind"),  # an empty cell says nothing
        ({"method": "byol"}, {"loss": "MSE"}, "method"),
    ],
)
def test_a_second_change_that_no_cell_stands_for_is_refused(
    overrides: Mapping[str, Any], cells: Mapping[str, Any], key: str
) -> None:
    with pytest.raises(UserError) as raised:
        read(overrides, cells)
    (line,) = str(raised.value).splitlines()
    assert line.startswith(f"{PAPER}: row other: {key}: ")
    assert f"about: [{key}]" in line
    assert f"also: {{{key}: why}}" in line


def test_a_change_at_one_scale_or_of_one_variant_is_seen_too() -> None:
    at = {"at": {"paper": {"optim.lr": 0.1}}}
    with pytest.raises(UserError, match=r"row other: optim\.lr"):
        read({}, {}, row=at)
    variants = {"long": {"title": "long"}}
    metrics = [{"key": "knn", "title": "k", "unit": "", "decimals": 1, "variant": "long"}]
    with pytest.raises(UserError, match=r"row other: optim\.lr"):
        read({}, {}, row={"variants": {"long": at}}, variants=variants, metrics=metrics)
    all_rows = {"long": {"title": "long", "overrides": {"train.epochs": 9}}}
    assert read({}, {}, variants=all_rows, metrics=metrics).row("other")


def test_what_goes_along_is_named_with_its_reason_by_the_row_or_for_all() -> None:
    changed, why = {"optim.lr": 0.1}, {"optim.lr": "another optimiser"}
    assert read(changed, {}, row={"also": why}).row("other").also == why
    assert read(changed, {}, also=why).also == why
    assert read(changed, {}, also={"optim": "another optimiser"}).also  # a section
    with pytest.raises(UserError, match=r"row other: optim\.lr"):
        read(changed, {}, also={"optim.min_lr": "another key"})


def test_a_word_that_is_no_setting_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"also: no key, section or group 'optim\.rl'; .*optim\.lr"):
        read({}, {}, also={"optim.rl": "why"})
    layout = [LOSS, MULTICROP | {"about": ["crop"]}]
    with pytest.raises(UserError, match=r"column multicrop: about: .*'crop'; nearest: crops"):
        read({}, {}, layout=layout)


def test_a_figures_variable_and_a_grids_axes_declare_what_they_set() -> None:
    K = {"key": "K", "title": "K"}
    rows = [
        {"name": f"K{k}", "label": "K", "cells": {"K": k}, "overrides": overrides, "reported": {}}
        for k, overrides in ((1024, {"head.prototypes": 64}), (65536, {}))
    ]
    figure = {"kind": "ablation", "over": "K", "key": "head.prototypes"}
    assert read({}, {}, layout=[K], rows=rows, figure=figure).rows
    with pytest.raises(UserError, match=r"row K1024: head\.prototypes"):
        read({}, {}, layout=[K], rows=rows)
    choices = {"small": {"head.prototypes": 64, "optim.lr": 0.1}, "large": {}}
    axes = {"K": {"choices": choices}, "m": {"key": "teacher.momentum", "values": [0.9, 0.99]}}
    assert len(read({}, {}, layout=[], rows=[], grid={"axes": axes}).rows) == 4


def test_in_a_file_of_ones_own_rows_need_not_say_what_they_change(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    name = [{"key": "which", "title": "Which"}]
    for cells in ({}, {"which": "fast"}):  # none at all, or a column that is only a name
        other = {"name": "b", "label": "B", "cells": cells, "overrides": {"optim.lr": 0.1}}
        first = {"name": "a", "label": "A", "cells": {"which": "slow"} if cells else {}}
        rows = [first | {"reported": {}}, other | {"reported": {}}]
        assert read({}, {}, own, layout=name, rows=rows).rows
    with pytest.raises(UserError, match=r"mine\.yaml: row other: optim\.lr"):
        read({"loss.kind": "mse", "optim.lr": 0.1}, {"loss": "MSE"}, own)


def test_a_row_of_a_paper_that_takes_a_second_change_is_refused() -> None:
    """Every trained row of every file: declared as it is, refused with one setting more."""
    refused = 0
    for name in experiment_ids():
        trained = [row.name for row in load(name).rows if row.trainable]
        if len(trained) < 2 or load(name).grid is not None:
            continue
        path = experiments_dir() / f"{name}.yaml"
        content = read_yaml(path)
        row = next(one for one in content["rows"] if one["name"] == trained[-1])
        row["overrides"] = {**row.get("overrides", {}), "optim.weight_decay": 0.123}
        with pytest.raises(UserError, match=rf"{name}\.yaml: row .*optim\.weight_decay"):
            parse(content, path)
        refused += 1
    assert refused > 20


@pytest.mark.parametrize("scale", ["laptop", "paper"])
def test_resolved_configs_of_two_rows_differ_in_nothing_but_what_they_set(scale: str) -> None:
    """So that what a row sets, which is what is checked, is all that it changes."""
    compared = 0
    for name in experiment_ids():
        experiment = load(name)
        first, *others = [row for row in experiment.rows if not row.why_not(scale)]
        for row, variant in product(others, experiment.runs_a_row):
            ours, theirs = (overrides_of(experiment, one, scale, variant) for one in (row, first))
            both = {*ours, *theirs}
            if both & set(GROUPS):
                continue  # a group brings settings of its own
            configs = (row_config(experiment, one, scale, 0, variant) for one in (row, first))
            differing = protocol_distance(*map(canonical, configs))
            # A part that is switched on brings its shape.
            own = {key for key in differing if f"{key.partition('.')[0]}.used" not in both}
            assert own <= both, (name, row.name)
            compared += 1
    assert compared > 20
