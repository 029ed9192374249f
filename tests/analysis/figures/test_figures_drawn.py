"""What stands in the pictures is what stands in the records and in the experiment files."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from analysis.evidence.evidence import Evidence
from analysis.evidence.stats import Spread, mean_interval
from analysis.figures.ablation import draw_ablation, numbers_at, variable_of
from analysis.figures.collapse import draw_collapse
from analysis.figures.cost import draw_cost
from analysis.figures.curves import apart, draw_curves
from analysis.figures.marks import (
    BORROWED,
    CHANCE,
    COLLAPSED,
    FLOOR,
    INTERVAL,
    MEAN,
    ONE_SEED,
    whiskers,
)
from analysis.figures.metrics import accuracies, judged_metrics
from analysis.figures.rows import draw_rows
from analysis.figures.style import ONSETS
from analysis.figures.throughput import draw_throughput
from repro.harness.experiments.experiment import experiment_ids, load
from repro.harness.experiments.figure import AblationFigure

Record = dict[str, Any]
Records = Callable[..., Record]
Build = Callable[..., Evidence]


def points_of(axes: Axes) -> list[list[tuple[float, float]]]:
    """Everything plotted, line by line."""
    return [[(float(x), float(y)) for x, y in line.get_xydata()] for line in axes.lines]


def has(axes: Axes, wanted: list[tuple[float, float]]) -> bool:
    """Whether a line of the panel has exactly these points."""
    return any(len(own) == len(wanted) and np.allclose(own, wanted) for own in points_of(axes))


def words_of(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_figure_7_draws_the_mean_of_the_seeds_with_their_range_and_the_papers_curves(
    make: Records, evidence_of: Build
) -> None:
    kl = {seed: [0.1 * seed + 0.01 * i for i in range(20)] for seed in range(3)}
    runs = [make("F7.both", seed, curves={"kl": kl[seed]}) for seed in range(3)]
    figure = draw_collapse(load("F7"), evidence_of(runs))
    paper_entropy, paper_kl, entropy, ours = figure.axes
    shares = [(i + 1) / 20 for i in range(20)]
    assert has(ours, list(zip(shares, kl[1], strict=True)))
    heights = ours.collections[0].get_paths()[0].vertices[:, 1]
    assert (min(heights), max(heights)) == pytest.approx((0.0, 0.39))
    printed = load("F7").row("both").reported_curve
    assert printed is not None
    wanted = [(e / 100, v) for e, v in zip(printed["epoch"], printed["entropy"], strict=True)]
    assert has(paper_entropy, wanted)
    band = paper_kl.collections[0].get_paths()[0].vertices[:, 1]
    assert max(band) == pytest.approx(max(printed["kl"]) + load("F7").metric("kl").reading_error)
    K = make("F7.both", 0)["config"]["head"]["prototypes"]
    assert any(own == [(0, math.log(K)), (1, math.log(K))] for own in points_of(entropy))
    assert f"ln K = {math.log(K):.2f} (K = {K}): uniform" in words_of(entropy)


def test_the_sentinels_onset_stands_on_the_seeds_own_curve_at_its_share_of_training(
    make: Records, evidence_of: Build
) -> None:
    runs = [make("F7.centering", seed) for seed in range(3)]
    runs[1]["sentinel"] = {"state": "uniform", "since_step": 128, "meaning": "all the same"}
    runs[1]["counts"]["steps"] = 640
    figure = draw_collapse(load("F7"), evidence_of(runs))
    curve = runs[1]["curves"]
    total = runs[1]["config"]["train"]["epochs"]
    for axes, metric in zip(figure.axes[2:], ("entropy", "kl"), strict=True):
        marks = [line for line in axes.lines if line.get_marker() == ONSETS["uniform"]]
        assert len(marks) == 1
        height = np.interp(0.2, np.array(curve["epoch"]) / total, curve[metric])
        assert marks[0].get_xydata().tolist() == [[0.2, pytest.approx(float(height))]]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "collapse sentinel: uniform, onset in one seed" in legend
    assert not any("constant" in words for words in legend)


def test_figure_6_left_has_teacher_and_student_by_name(make: Records, evidence_of: Build) -> None:
    runs = [make("F6L.momentum", seed) for seed in range(2)]
    left, right = draw_curves(load("F6L"), evidence_of(runs)).axes
    assert has(right, [(i / 5, 60.0 + 15.05 * i / 5) for i in range(6)])
    assert has(right, [(i / 5, 60.0 + 14.05 * i / 5) for i in range(6)])
    assert set(words_of(left)) == set(words_of(right)) == {"teacher", "student"}


def test_names_at_the_ends_of_lines_keep_their_order_and_distance() -> None:
    moved = apart({"a": 1.0, "b": 1.1, "c": 5.0}, 1.0)
    assert moved == {"a": pytest.approx(0.55), "b": pytest.approx(1.55), "c": 5.0}


def test_the_files_say_which_experiments_are_ablations_over_one_variable() -> None:
    figures = {name: load(name).figure for name in experiment_ids()}
    ablations = {name: one for name, one in figures.items() if isinstance(one, AblationFigure)}
    assert {name: variable_of(load(name)).column.key for name in ablations} == {
        "AC_K": "K", "AC_l2": "layers", "AD_heads": "heads", "AD_len": "epochs", "AD_m": "m",
        "AD_tau": "temp", "AE_scale": "s", "AF_nlast": "l", "T9": "batch",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("AC_K", [2, 4, 16, 64, 256]),
        ("T9", [8, 16, 32, 64, 2]),
        ("AD_heads", [2, 4, 8, 16]),
        ("AD_m", [0, 0.9, 0.99, 0.999]),
        ("AE_scale", [0.08, 0.16, 0.24, 0.32, 0.48]),
    ],
)
def test_ours_stands_at_the_numbers_of_its_own_scale(name: str, numbers: list[float]) -> None:
    experiment = load(name)
    variable = variable_of(experiment)
    assert list(numbers_at(experiment, variable, Evidence("laptop", {})).values()) == numbers
    assert numbers_at(experiment, variable, Evidence("paper", {})) == variable.numbers


def test_an_ablation_is_a_curve_of_the_papers_numbers_and_one_of_our_means(
    make: Records, evidence_of: Build
) -> None:
    names = [row.name for row in load("AC_K").rows]
    runs = [make(f"AC_K.{n}", s, knn=60.0 + i + s) for i, n in enumerate(names) for s in range(3)]
    left, right = draw_ablation(load("AC_K"), evidence_of(runs)).axes
    reported = [row.reported["knn"] for row in load("AC_K").rows]
    K = [1024 * 4**i for i in range(5)]
    assert has(left, [(math.log(k), v) for k, v in zip(K, reported, strict=True)])
    here = [2, 4, 16, 64, 256]
    assert has(right, [(math.log(k), 61.0 + i) for i, k in enumerate(here)])
    assert [text.get_text() for text in right.get_xticklabels()] == [str(k) for k in here]
    interval = mean_interval([60.0, 61.0, 62.0])
    assert has(right, [(math.log(2), interval.low), (math.log(2), interval.high)])
    assert sum(own == [(math.log(16), 62.0 + s)] for own in points_of(right) for s in range(3)) == 3


def test_chance_is_written_at_the_foot_and_rows_that_are_no_number_stand_apart(
    make: Records, evidence_of: Build
) -> None:
    rows = [row.name for row in load("AD_tau").rows]
    left, right = draw_ablation(
        load("AD_tau"), evidence_of([make(f"AD_tau.{name}", 0) for name in rows])
    ).axes
    assert has(left, [(0, 43.9), (0.02, 66.7), (0.04, 69.6), (0.06, 68.7)])
    assert "0.1: chance" in words_of(left)
    assert left.get_ylim()[0] > 20
    assert has(right, [(t, 75.0) for t in (0, 0.02, 0.04, 0.06, 0.08)])
    assert [text.get_text() for text in left.get_xticklabels()][-1] == "0.04\nto 0.07"


def test_a_run_that_the_sentinel_reported_is_a_cross(make: Records, evidence_of: Build) -> None:
    runs = [make("AD_m.m0.999", seed, knn=70.0 + seed) for seed in range(2)]
    runs[1]["sentinel"]["state"] = "constant"
    _, right = draw_ablation(load("AD_m"), evidence_of(runs)).axes
    crosses = [line for line in right.lines if line.get_marker() == "x"]
    assert [line.get_ydata()[0] for line in crosses] == [71.0]


def test_the_bottleneck_ablation_is_two_curves(make: Records, evidence_of: Build) -> None:
    runs = [make(f"AC_l2.{name}", 0, knn=70.0) for name in ("l2_2", "l2_3", "no_1", "no_2")]
    figure = draw_ablation(load("AC_l2"), evidence_of(runs))
    assert has(figure.axes[0], [(2, 62.2), (3, 68.0), (4, 69.3)])
    assert has(figure.axes[0], [(1, 61.6), (2, 62.9)])
    assert has(figure.axes[1], [(2, 70.0), (3, 70.0)])
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend[:2] == ["l2 bottleneck", "no l2 bottleneck"]


def test_table_8_draws_the_linear_accuracy_against_minutes_and_gigabytes(
    make: Records, evidence_of: Build
) -> None:
    experiment = load("T8")
    runs = [
        make(
            f"T8.{row.name}", seed, variant=variant,
            knn=20.0, linear=70.0 + i, time_h=0.01 * (i + 1), mem_G=i,
        )
        for i, row in enumerate(experiment.rows)
        for variant in ("100ep", "300ep")
        for seed in range(3)
    ]  # fmt: skip
    figure = draw_cost(experiment, evidence_of(runs))
    time, our_time, memory, our_memory = figure.axes
    hours = [(15.3, 67.8), (17.0, 71.5), (20.3, 73.8), (24.2, 74.6)]
    assert has(time, [(60 * x, y) for x, y in hours])
    assert has(memory, [(9.3, 67.8), (10.5, 71.5), (12.9, 73.8), (15.4, 74.6)])
    assert has(our_time, [(0.6 * (i + 1), 70.0 + i) for i in range(4)])
    assert time.get_xlabel() == our_time.get_xlabel() == "training time (minutes)"
    assert {axes.get_ylabel() for axes in figure.axes} == {"linear top-1 (%)"}
    assert has(our_memory, [(i, 70.0 + i) for i in range(4)])
    assert words_of(time) == words_of(our_memory) == ["0", "2", "6", "10"]
    assert our_time.get_ylim() == time.get_ylim()
    assert our_time.get_title() == "ours, laptop scale, seeds 0 to 2"


def test_where_the_accuracy_of_table_8_is_not_measured_no_other_stands_in_its_place(
    make: Records, evidence_of: Build
) -> None:
    runs = [make("T8.l2", 0, variant=v, time_h=0.01, mem_G=2.0) for v in ("100ep", "300ep")]
    _, our_time, _, our_memory = draw_cost(load("T8"), evidence_of(runs)).axes
    for axes in (our_time, our_memory):
        assert words_of(axes) == ["linear top-1 (%):\nnot measured at this scale"]
        assert not axes.lines


def test_figure_5_joins_the_patch_sizes_of_an_architecture(
    make: Records, evidence_of: Build
) -> None:
    runs = [make(f"F5.{n}", 0, im_s=v, knn=v / 50) for n, v in (("s16", 4000.0), ("s8", 2000.0))]
    left, right = draw_throughput(load("F5"), evidence_of(runs)).axes
    assert has(left, [(312, 76.1), (63, 77.4)])
    assert has(right, [(4000, 80), (2000, 40)])
    assert words_of(right) == ["patch 16", "patch 8"]


def test_an_interval_is_drawn_from_three_seeds_on() -> None:
    axes = Figure().subplots()
    whiskers(axes, 1.0, [1.0, 2.0])
    assert not axes.lines
    whiskers(axes, 1.0, [1.0, 2.0, 3.0])
    interval = mean_interval([1.0, 2.0, 3.0])
    assert points_of(axes) == [[(1.0, interval.low), (1.0, interval.high)]]


def test_of_one_or_two_seeds_a_paler_interval_has_the_spread_that_is_borrowed() -> None:
    axes, spread = Figure().subplots(), Spread(1.5, 4, "of other rows")
    whiskers(axes, 1.0, [1.0], spread=spread)
    interval = mean_interval([1.0], spread=spread)
    assert points_of(axes) == [[(1.0, interval.low), (1.0, interval.high)]]
    whiskers(axes, 1.0, [1.0, 2.0, 3.0], spread=spread)
    borrowed, own = axes.lines
    assert (borrowed.get_color(), own.get_color()) == ("0.62", "black")


def test_a_curve_joins_the_seeds_that_all_of_its_rows_have(
    make: Records, evidence_of: Build
) -> None:
    names = [row.name for row in load("AC_K").rows]
    runs = [make(f"AC_K.{name}", 0, knn=60.0 + i) for i, name in enumerate(names)]
    runs += [make("AC_K.K65536", seed, knn=80.0) for seed in (1, 2)]
    _, right = draw_ablation(load("AC_K"), evidence_of(runs)).axes
    here = [2, 4, 16, 64, 256]
    assert has(right, [(math.log(k), 60.0 + i) for i, k in enumerate(here)])
    assert right.get_title() == "ours, laptop scale, line: seed 0"
    mean = (63.0 + 80.0 + 80.0) / 3
    assert has(right, [(math.log(64), mean)])  # with its interval, beside the curve


def test_a_row_of_figure_7_whose_seeds_end_in_different_states_is_a_line_a_seed(
    make: Records, evidence_of: Build
) -> None:
    kl = {seed: [0.1 * seed + 0.01 * i for i in range(20)] for seed in range(3)}
    runs = [make("F7.sharpening", seed, curves={"kl": kl[seed]}) for seed in range(3)]
    runs[2]["sentinel"] = {"state": "one_dimension", "since_step": 128, "meaning": "sharp"}
    runs[2]["counts"]["steps"] = 640
    figure = draw_collapse(load("F7"), evidence_of(runs))
    ours = figure.axes[3]
    shares = [(i + 1) / 20 for i in range(20)]
    assert all(has(ours, list(zip(shares, kl[seed], strict=True))) for seed in kl)
    assert not ours.collections
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert not any(words.startswith("band below") for words in legend)
    assert "thin lines below: seeds of a row that end in different states" in legend


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("T7", ["knn", "linear"]), ("T14", ["linear", "knn"]), ("T15", ["linear", "knn"]),
        ("T2", ["linear", "knn"]), ("T12", ["top1_1pct", "top1_10pct"]), ("T5", ["jf_m"]),
        ("T13", ["rn50_linear", "rn50_knn", "vits_linear", "vits_knn"]),
        ("AE_mc", ["knn_2crops", "linear_2crops", "linear_mc6"]), ("F6R", ["knn"]),
        ("T1", ["tokens", "params_M", "im_s"]), ("AC_act", ["knn"]),
    ],
)  # fmt: skip
def test_a_figure_shows_what_its_claims_are_judged_on(name: str, keys: list[str]) -> None:
    assert [metric.key for metric in accuracies(judged_metrics(load(name)))] == keys


def test_a_panel_of_ours_stands_beside_the_papers_numbers_of_the_same_metric_in_one_range(
    make: Records, evidence_of: Build
) -> None:
    figure = draw_rows(load("T7"), evidence_of([make("T7.r1", 0, knn=75.0, linear=80.0)]))
    labels = [axes.get_xlabel() for axes in figure.axes]
    assert labels == ["k-NN top-1 (%)"] * 2 + ["linear top-1 (%)"] * 2
    for left, right in (figure.axes[:2], figure.axes[2:]):
        assert left.get_xlim() == right.get_xlim()
        assert any("chance" in str(line.get_label()) for line in left.lines)
    assert any(own == [(80.0, 0.0)] for own in points_of(figure.axes[3]))


def test_what_the_paper_does_not_print_has_no_panel_and_what_is_not_measured_is_named(
    make: Records, evidence_of: Build
) -> None:
    figure = draw_rows(load("T15"), evidence_of([make("T15.r1", 0, linear=70.0)]))
    titles = [(axes.get_title(), axes.get_xlabel()) for axes in figure.axes]
    assert titles == [
        ("paper", "linear top-1 (%)"),
        ("ours, laptop scale", "linear top-1 (%)"),
        ("ours, laptop scale", "k-NN top-1 (%)"),
    ]
    without = draw_rows(load("T15"), evidence_of([make("T15.r1", 0)]))
    assert [axes.get_xlabel() for axes in without.axes] == ["k-NN top-1 (%)"]
    title = without.legends[0].get_title().get_text()
    assert title == "not measured at this scale: linear top-1"


def test_a_legend_names_what_was_drawn_and_nothing_else(make: Records, evidence_of: Build) -> None:
    runs = [make("F6R.momentum", seed, knn=70.0 + seed) for seed in range(3)]

    def names() -> list[str]:
        figure = draw_rows(load("F6R"), evidence_of(runs))
        return [text.get_text() for text in figure.legends[0].get_texts()]

    always = [ONE_SEED, MEAN, INTERVAL, FLOOR]
    assert [name for name in names() if name != CHANCE] == always
    runs[1]["sentinel"]["state"] = "uniform"
    assert COLLAPSED in names()
    assert BORROWED not in names()
    del runs[2]
    runs[0]["counts"]["test_images"] = 1024  # by which the spread is bounded
    assert BORROWED in names()
    assert INTERVAL not in names()


def test_numbers_stand_clear_of_the_lines(make: Records, evidence_of: Build) -> None:
    rows = [row.name for row in load("AC_l2").rows if row.name != "l2_1"]
    runs = [make(f"AC_l2.{name}", 0, knn=62.0 + 2 * i) for i, name in enumerate(rows)]
    figure = draw_ablation(load("AC_l2"), evidence_of(runs))
    ConstrainedLayoutEngine().execute(figure)
    renderer = FigureCanvasAgg(figure).get_renderer()
    for axes in figure.axes:
        curves = [line for line in axes.lines if len(line.get_xdata()) > 1]
        for text in (text for text in axes.texts if "chance" not in text.get_text()):
            box = text.get_window_extent(renderer).padded(-4)
            for line in curves:
                path = line.get_path().transformed(line.get_transform())
                assert not path.intersects_bbox(box, filled=False), text.get_text()
