"""A grid by its axes: every number in its place, and effects that are those of the numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from analysis.evidence.evidence import Evidence, published_evidence
from analysis.figures.draw import drawing_of
from analysis.figures.style import styled
from analysis.tables.crossed import crossed
from analysis.tables.effects import contrasts
from analysis.tables.formats import write
from analysis.tables.table import build
from repro.config.identity import run_id
from repro.harness.experiments.experiment import Experiment, parse, row_config
from repro.harness.experiments.folders import experiments_dir
from repro.harness.experiments.grid import Grid

MOMENTA, SIZES, SEEDS = (0.9, 0.95, 0.99), (64, 256), (0, 1, 2)


def grid_of(**more: Any) -> Experiment:
    axes = {
        "m": {"key": "teacher.momentum", "values": list(MOMENTA)},
        "K": {"key": "head.prototypes", "values": list(SIZES)},
    }
    content = {
        "id": "mine", "kind": "table", "title": "Mine", "where": "own", "question": "Does it?",
        "grid": {"axes": axes} | more,
        "metrics": [{"key": "knn", "title": "k-NN", "unit": "%", "decimals": 1}],
        "figure": {"kind": "heatmap", "down": "m", "across": "K"},
    }  # fmt: skip
    return parse(content, experiments_dir() / "own" / "mine.yaml")


def number(m: float, size: int, seed: int) -> float:
    """Additive but for one corner: m 0.99 with K 256 is 4 better than its effects add up to."""
    corner = 4.0 if (m, size) == (0.99, 256) else 0.0
    noise = (seed - 1) * 0.5 + 0.1 * ((seed + size // 64 + round(100 * m)) % 3 - 1)
    return 50 + 100 * (m - 0.9) + (2.0 if size == 256 else 0.0) + corner + noise


def measured(experiment: Experiment, seeds: tuple[int, ...] = SEEDS) -> Evidence:
    """Records of its rows, made of a published one."""
    model = next(iter(published_evidence("laptop").records.values()))
    records = {}
    for row in experiment.rows:
        for seed in seeds:
            config = row_config(experiment, row, "laptop", seed)
            value = number(row.described["m"], row.described["K"], seed)
            identity = run_id(config)
            records[identity] = msgspec.structs.replace(
                model,
                id=identity,
                seed=seed,
                metrics={"knn": value},
                sentinel=msgspec.structs.replace(model.sentinel, state="healthy"),
            )
    return Evidence("laptop", records)


def test_every_number_stands_where_its_axes_cross() -> None:
    experiment = grid_of(exclude=[{"m": 0.95, "K": 64}], include=[{"m": 0.5, "K": 128}])
    cells = {"knn": {row.name: f"{i}.5" for i, row in enumerate(experiment.rows)}}
    (table,) = crossed(experiment, cells)
    assert table.heads == ("m", "64", "256", "128")
    assert table.lines == (
        ("0.9", "0.5", "1.5", "-"),
        ("0.95", "-", "2.5", "-"),
        ("0.99", "3.5", "4.5", "-"),
        ("0.5", "-", "-", "5.5"),
    )


def test_a_metric_that_nobody_measured_has_no_table_of_its_own() -> None:
    experiment = grid_of()
    assert crossed(experiment, {"knn": dict.fromkeys((r.name for r in experiment.rows), "-")}) == ()


def test_effects_are_those_that_the_numbers_were_made_of() -> None:
    experiment = grid_of()
    printed = build(experiment, measured(experiment))
    found = dict(effect.rsplit(": ", 1) for effect in printed.effects)
    means = {title: float(text.split()[0]) for title, text in found.items()}
    assert means == {
        "k-NN: m 0.95 - 0.9": pytest.approx(5.0),
        "k-NN: m 0.99 - 0.9": pytest.approx(11.0),
        "k-NN: K 256 - 64": pytest.approx(2 + 4 / 3, abs=0.01),
        "k-NN: (m 0.95 - 0.9) at K 256 - at 64": pytest.approx(0.0, abs=0.01),
        "k-NN: (m 0.99 - 0.9) at K 256 - at 64": pytest.approx(4.0),
    }
    low, high = (
        float(word) for word in found["k-NN: m 0.99 - 0.9"].split("(")[1][:-1].split(" to ")
    )
    assert low < 11.0 < high
    text = write(printed, "terminal")
    assert "k-NN by m (down) and K (across)" in text
    assert "paper" not in text
    assert "k-NN: K 256 - 64" in write(printed, "md").replace("\\", "")


def test_a_main_effect_compares_like_with_like_where_rows_are_missing() -> None:
    grid = grid_of(exclude=[{"m": 0.9, "K": 256}]).grid
    assert isinstance(grid, Grid)
    rows = {"m0.9-K64", "m0.95-K64", "m0.95-K256", "m0.99-K64", "m0.99-K256"}
    weights = contrasts(grid, dict.fromkeys(rows))
    assert weights["m 0.99 - 0.9"] == {"m0.99-K64": 1, "m0.9-K64": -1}
    assert all(abs(sum(one.values())) < 1e-12 for one in weights.values())
    assert weights["K 256 - 64"] == pytest.approx(
        {"m0.95-K256": 0.5, "m0.99-K256": 0.5, "m0.95-K64": -0.5, "m0.99-K64": -0.5}
    )
    assert not any("0.9)" in title for title in weights)  # no such corner is whole


def test_effects_are_told_beside_the_first_value_of_an_axis_also_where_it_comes_later() -> None:
    grid = grid_of(exclude=[{"m": 0.9, "K": 64}]).grid
    assert isinstance(grid, Grid)
    rows = ["m0.9-K256", "m0.95-K64", "m0.95-K256", "m0.99-K64", "m0.99-K256"]
    titles = list(contrasts(grid, dict.fromkeys(rows)))
    assert titles == ["m 0.95 - 0.9", "m 0.99 - 0.9", "K 256 - 64"]


def test_without_a_spread_an_effect_has_no_interval() -> None:
    experiment = grid_of()
    (only,) = {
        effect.rsplit("(", 1)[1] for effect in build(experiment, measured(experiment, (0,))).effects
    }
    assert only == "spread unknown)"


def test_a_heat_map_has_every_mean_in_its_field(tmp_path: Path) -> None:
    experiment = grid_of()
    evidence = measured(experiment)
    with styled():
        figure = drawing_of("heatmap")(experiment, evidence)
    axes, colours = figure.axes
    (image,) = axes.images
    expected = [[np.mean([number(m, k, s) for s in SEEDS]) for k in SIZES] for m in MOMENTA]
    np.testing.assert_allclose(image.get_array(), expected)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["64", "256"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0.9", "0.95", "0.99"]
    fields = [text.get_text().splitlines()[0] for text in axes.texts]
    assert fields == [f"{mean:.1f}" for line in expected for mean in line]
    assert colours.get_ylabel() == "k-NN top-1 (%)"
