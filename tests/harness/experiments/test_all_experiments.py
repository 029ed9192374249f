"""The experiment files: all rows compose, shared rows are one run, the paper's settings."""

from __future__ import annotations

from typing import Any

import pytest

from repro.config.compose import compose
from repro.config.identity import run_id
from repro.config.schema import ClipKind, LossKind, Operation, OptimiserName, RunConfig, TeacherKind
from repro.harness.experiments.experiment import experiment_ids, load, row_config
from repro.harness.experiments.folders import experiments_dir

TRAINING = [
    "T2", "T7", "T8", "T9", "T13", "T14", "T15", "F5", "F6L", "F6R", "F7", "AC_bn", "AC_l2",
    "AC_K", "AC_act", "AD_m", "AD_tau", "AD_len", "AD_heads", "AE_scale", "AE_mc", "AD_fig_rn50",
    "AE_fig_byol",
]  # fmt: skip


def config(cell: str, scale: str = "paper") -> RunConfig:
    """Of a cell such as T7:r1 or T8:l0:100ep."""
    name, row, *variant = cell.split(":")
    experiment = load(name)
    return row_config(experiment, experiment.row(row), scale, 0, *variant)


def test_every_training_table_and_figure_has_a_file() -> None:
    assert set(TRAINING) | {"T1"} <= set(experiment_ids())


@pytest.mark.parametrize("name", experiment_ids())
@pytest.mark.parametrize("scale", ["smoke", "laptop", "gpu", "paper"])
def test_every_row_composes_at_every_scale_and_its_variants_differ(name: str, scale: str) -> None:
    experiment = load(name)
    lines = []
    for row in experiment.rows:
        if not row.why_not(scale):
            for variant in experiment.runs_a_row:
                run = row_config(experiment, row, scale, 0, variant)
                lines.append((run_id(run), *experiment.sources(row, variant)))
    # No two lines of a table are the same numbers of the same run.
    assert len(set(lines)) == len(lines)
    assert lines


SAME_RUNS = [
    "T7:r1 T14:r1 T15:r1 F6R:momentum F6L:momentum AD_len:e300 AD_heads:h6 F5:s16 T13:dino:vits",
    "T7:r1 T8:l10:300ep",
    "T7:r2 T15:r4 F6R:student_copy",
    "T7:r3 T15:r3",
    "T7:r4 T14:r4 T8:l0:300ep AE_mc:dino:2crops",
    "T7:r5 T14:r2",
    "T7:r6 T14:r3",
    "T7:r7 T14:r7 T2:vits_byol T13:byol:vits AE_mc:byol:2crops AE_fig_byol:without_mc",
    "T7:r8 T14:r5 T13:mocov2:vits AE_mc:mocov2:2crops",
    "T7:r9 T15:r6 T13:swav:vits AE_mc:swav:mc6",
    "T14:r6 AE_mc:mocov2:mc6",
    "T14:r10 AE_mc:byol:mc6 AE_fig_byol:with_mc",
    "T8:l6:300ep AE_mc:dino:mc6",
    "T8:l0:100ep T9:bs1024",
    "T8:l10:100ep AD_len:e100",
    "T2:vits_dino AD_len:e800 T1:vits16",
    "AC_bn:no_bn AC_K:K65536 AC_act:gelu AD_m:m0.9 AD_tau:t0.04_0.07 AE_scale:s0.24",
    "AC_l2:l2_4 AC_K:K4096",
]


@pytest.mark.parametrize("cells", SAME_RUNS)
def test_rows_with_one_printed_number_are_one_run(cells: str) -> None:
    assert len({run_id(config(cell)) for cell in cells.split()}) == 1


def test_different_rows_of_the_paper_are_different_runs() -> None:
    first = {cells.split()[0] for cells in SAME_RUNS}
    assert len({run_id(config(cell)) for cell in first}) == len(first)


# Constants of the paper and of the authors' published arguments.
PAPER: dict[str, dict[str, Any]] = {
    "T7:r1": {
        "train.epochs": 300, "train.batch_size": 1024, "optim.lr": 5e-4, "optim.warmup_epochs": 10,
        "optim.weight_decay": 0.04, "optim.weight_decay_end": 0.4, "teacher.momentum": 0.996,
        "target.temp_start": 0.04, "target.temp": 0.07, "target.temp_warmup_epochs": 30,
        "head.prototypes": 65536, "head.hidden_dim": 2048, "head.bottleneck_dim": 256,
        "head.layers": 3, "views.local_number": 10, "loss.student_temp": 0.1,
        "target.centre_momentum": 0.9, "model.patch_size": 16, "model.dim": 384,
        "eval.knn_k": 20, "eval.knn_temp": 0.07,
    },
    "T7:r2": {"teacher.kind": TeacherKind.student_copy},
    "T7:r3": {"target.operation": Operation.sinkhorn_knopp, "target.centering": False},
    "T7:r4": {
        "views.local_number": 0, "views.global_scale": (0.14, 1.0), "optim.clip": ClipKind.none,
        "optim.min_lr": 1e-5,
    },
    "T7:r5": {"loss.kind": LossKind.mse, "target.centering": True, "head.batch_norm": False},
    "T7:r6": {"predictor.used": True, "predictor.batch_norm": False},
    "T7:r7": {
        "loss.kind": LossKind.mse, "predictor.used": True, "head.batch_norm": True,
        "target.centering": False, "head.prototypes": 256, "head.hidden_dim": 4096,
    },
    "T7:r8": {
        "loss.kind": LossKind.info_nce, "queue.used": True, "queue.size": 65536,
        "head.layers": 3, "head.batch_norm": True, "head.prototypes": 256,
        "optim.weight_decay": 0.05, "optim.weight_decay_end": 0.05,
    },
    "T7:r9": {
        "target.operation": Operation.sinkhorn_knopp, "teacher.kind": TeacherKind.student_copy,
        "views.local_number": 6, "queue.used": False,
    },
    "T9:bs128": {"train.epochs": 100, "train.batch_size": 128, "views.local_number": 0},
    "T9:bs8": {"train.epochs": 50, "train.batch_size": 8},
    "AC_bn:bn": {"train.epochs": 100, "head.batch_norm": True, "views.local_number": 6},
    "AC_l2:l2_2": {"head.prototypes": 4096, "head.layers": 1, "head.l2_bottleneck": True},
    "AC_l2:no_3": {"head.layers": 3, "head.l2_bottleneck": False},
    "AC_K:K262144": {"head.prototypes": 262144},
    "AD_m:m0.999": {"target.centre_momentum": 0.999},
    "AD_tau:t0": {"target.temp": 0.0, "target.temp_start": 0.0, "target.temp_warmup_epochs": 0},
    "AD_tau:t0.08": {"target.temp": 0.08, "target.temp_start": 0.08},
    "AE_scale:s0.08": {"views.global_scale": (0.08, 1.0), "views.local_scale": (0.05, 0.08)},
    "AD_heads:h16": {"model.heads": 16, "model.dim": 384, "train.epochs": 300},
    "F7:both": {"head.prototypes": 4096, "train.epochs": 100},
    "T2:vits_dino": {"train.epochs": 800},
    "T2:rn50_dino": {
        "optim.name": OptimiserName.lars, "train.batch_size": 4080, "model.name": "resnet50",
    },
    "AD_fig_rn50:rn50": {
        "optim.name": OptimiserName.sgd, "optim.lr": 0.03, "optim.weight_decay": 1e-4,
        "optim.weight_decay_end": 1e-4, "views.global_scale": (0.14, 1.0),
        "views.local_scale": (0.05, 0.14), "train.epochs": 100,
    },
    "T2:x_dino_vitb16": {
        "train.epochs": 400, "optim.lr": 7.5e-4, "optim.min_lr": 2e-6, "optim.clip_norm": 0.3,
        "head.freeze_last_layer_epochs": 3, "head.norm_last_layer": True, "model.dim": 768,
        "target.temp_warmup_epochs": 50,
    },
    "T2:x_dino_vits8": {"model.patch_size": 8, "model.dim": 384},
}  # fmt: skip


@pytest.mark.parametrize("cell", PAPER)
def test_paper_scale_has_the_published_arguments(cell: str) -> None:
    found = config(cell)
    for key, value in PAPER[cell].items():
        section, name = key.split(".")
        assert getattr(getattr(found, section), name) == value, key


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("vanilla", {"epochs": 100, "batch_size": 512}),
        ("boosted", {"epochs": 300, "batch_size": 1024}),
        ("paper_300", {"epochs": 300, "batch_size": 1024}),
        ("paper_800", {"epochs": 800, "batch_size": 1024}),
        ("no_multicrop", {"epochs": 300, "batch_size": 1024}),
        ("resnet50", {"epochs": 100, "batch_size": 512}),
    ],
)
def test_presets_compose_on_their_own(preset: str, expected: dict[str, int]) -> None:
    found = compose(experiments_dir(), "paper", {"preset": preset})
    assert {name: getattr(found.train, name) for name in expected} == expected


def test_the_authors_vanilla_and_boosted_runs_differ_as_their_commands_do() -> None:
    vanilla, boosted = (
        compose(experiments_dir(), "paper", {"preset": name}) for name in ("vanilla", "boosted")
    )
    assert (vanilla.target.temp, vanilla.head.norm_last_layer) == (0.04, True)
    assert (boosted.target.temp, boosted.head.norm_last_layer) == (0.07, False)
    assert boosted.target.temp_warmup_epochs == 30
    assert vanilla.views == boosted.views
    assert vanilla.optim == boosted.optim
    assert (vanilla.optim.clip, vanilla.optim.clip_norm) == (ClipKind.per_tensor, 3.0)


def test_rows_quoted_from_other_papers_are_never_planned() -> None:
    quoted = [row.name for row in load("T2").rows if row.reported_only]
    assert len(quoted) == 17
    assert {"rn50_infomin", "rn50_barlow", "rn50_obow", "rn50_dcv2", "x_simclrv2"} <= set(quoted)
    assert all(load("T2").row(name).reported for name in quoted)
