"""Typed configs: typos, wrong types and impossible combinations are refused in one line."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest
import yaml

from repro.config.checks import check
from repro.config.compose import PACKAGES, compose, from_plain, parse_assignments, to_plain
from repro.config.keys import GROUPS, dotted_keys
from repro.config.schema import Paths, RunConfig, TeacherKind
from repro.errors import UserError, nearest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SCALES = ("smoke", "laptop", "gpu", "paper")


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_composes_to_a_run_that_can_train(scale: str) -> None:
    config = compose(EXPERIMENTS, scale)
    check(config)
    assert config.label.scale == scale


@pytest.mark.parametrize("scale", SCALES)
def test_a_composed_config_survives_its_own_file(scale: str) -> None:
    config = compose(EXPERIMENTS, scale, {"teacher.kind": "previous_epoch", "seed": 3})
    assert from_plain(to_plain(config), "config.yaml") == config
    assert config.teacher.kind is TeacherKind.previous_epoch


def test_the_paper_scale_holds_the_authors_published_arguments() -> None:
    config = compose(EXPERIMENTS, "paper")
    assert (config.model.dim, config.model.depth, config.model.heads) == (384, 12, 6)
    assert (config.train.epochs, config.train.batch_size) == (300, 1024)
    assert (config.head.prototypes, config.head.norm_last_layer) == (65536, False)
    assert (config.target.temp_start, config.target.temp) == (0.04, 0.07)
    assert config.target.temp_warmup_epochs == 30
    assert (config.teacher.momentum, config.teacher.momentum_end) == (0.996, 1.0)
    assert list(config.views.global_scale) == [0.25, 1.0]
    assert config.views.local_number == 10


def message(overrides: dict[str, Any], scale: str = "laptop") -> str:
    with pytest.raises(UserError) as raised:
        compose(EXPERIMENTS, scale, overrides, source="experiments/T7.yaml: row r2")
    text = str(raised.value)
    assert "\n" not in text
    assert text.startswith("experiments/T7.yaml: row r2: ")
    return text


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"teacher.knd": "momentum"}, "unknown key 'teacher.knd'; nearest valid key: teacher.kind"),
        ({"techer.kind": "momentum"}, "nearest valid key: teacher.kind"),
        ({"modl": "vit_small"}, "unknown key 'modl'; nearest valid key: model"),
        ({"model": "vit_smal"}, "no such file in experiments/base/model; nearest: vit_small"),
        ({"teacher.kind": "mean"}, "expected one of [momentum, student_copy"),
        ({"train.epochs": "many"}, "train.epochs=many: Value 'many' of type 'str'"),
        ({"views.local_size": 64}, "local crops must not exceed global ones"),
        ({"model.patch_size": 5}, "data.resolution=32 is not a multiple of model.patch_size=5"),
        ({"model.heads": 3}, "model.dim=128 is not a multiple of model.heads=3"),
        ({"optim.warmup_epochs": 99}, "optim.warmup_epochs=99 is longer than train.epochs=10"),
        ({"target.temp_warmup_epochs": 11}, "is longer than train.epochs=10"),
        ({"target.temp": 0}, "hard targets (0) need target.operation=softmax and the same"),
        ({"target.temp": -1}, "target.temp=-1.0 must be at least 0"),
        (
            {"target.operation": "sinkhorn_knopp", "target.centering": False, "loss.kind": "mse"},
            "sinkhorn_knopp makes probabilities, but loss.kind=mse compares vectors",
        ),
        ({"target.operation": "sinkhorn_knopp"}, "replaces centering (Table 15); set"),
        (
            {"method": "swav", "target.temp": 0, "target.temp_start": 0},
            "hard targets (0) need target.operation=softmax",
        ),
        ({"method": "supervised", "predictor.used": True}, "no teacher whose output it could"),
        ({"method": "supervised", "teacher.kind": "momentum"}, "set teacher.kind=student_copy"),
        ({"method": "supervised", "head.l2_bottleneck": True}, "classes, not prototypes"),
        ({"method": "simclr", "teacher.kind": "momentum"}, "loss.kind=nt_xent has no teacher"),
        ({"method": "mocov2", "queue.size": 5000}, "larger than the data set of 4096 images"),
        ({"queue.used": True}, "queue.used=true serves loss.kind=info_nce"),
        ({"head.prototypes": 1}, "head.prototypes=1 must be at least 2"),
        ({"method": "byol", "train.batch_size": 1}, "batch norm needs at least 2 images"),
        ({"head.batch_norm": True, "train.batch_size": 1}, "batch norm needs at least 2 images"),
        (
            {"method": "simclr", "head.batch_norm": False, "train.batch_size": 1},
            "loss.kind=nt_xent has no negatives",
        ),
        ({"method": "swav", "train.batch_size": 1}, "sinkhorn_knopp needs several images"),
        ({"method": "byol", "resources.accumulate": 2}, "batch norm would see a part of the"),
        (
            {"method": "simclr", "head.batch_norm": False, "resources.accumulate": 2},
            "its negatives are the batch itself",
        ),
        ({"resources.ranks": 3}, "train.batch_size=64 is not a multiple of resources.ranks=3"),
        ({"optim.name": "lars", "optim.weight_decay": 0}, "lars adapts decayed layers only"),
        ({"method": "byoll"}, "nearest: byol"),
        ({"train.precision": "fp16"}, "expected one of [fp32, bf16]"),
        (
            {"model": "resnet50", "model.name": "vit_small_patch16_224"},
            "model.name=vit_small_patch16_224 is no ResNet of timm's",
        ),
        ({"crops": "tow"}, "no such file in experiments/base/crops; nearest: two"),
        ({"views.flip": 1.5}, "views.flip=1.5 must be at most 1"),
        ({"views.global_scale": [0.9, 0.4]}, "must satisfy 0 < low <= high <= 1"),
        ({"views.global_scale": [0.9]}, "views.global_scale=[0.9] must have 2 values"),
        (
            {"head.norm_last_layer": False, "head.freeze_last_layer_epochs": 10},
            "frees the prototypes' norm, but head.freeze_last_layer_epochs=10 freezes them",
        ),
        (
            {"data": "folder", "data.eval_resize": 16, "data.resolution": 32},
            "the evaluation crop would not fit",
        ),
    ],
)
def test_a_mistake_is_one_line_with_file_key_and_fix(
    overrides: dict[str, Any], expected: str
) -> None:
    assert expected in message(overrides)


GROUP_FILES = sorted(
    (group, path.stem) for group in GROUPS for path in (EXPERIMENTS / "base" / group).glob("*.yaml")
)


def test_the_groups_are_the_folders_of_base() -> None:
    folders = {path.name for path in (EXPERIMENTS / "base").iterdir() if path.is_dir()}
    assert folders == set(GROUPS)


@pytest.mark.parametrize(("group", "choice"), GROUP_FILES, ids="=".join)
def test_every_file_of_every_group_composes(group: str, choice: str) -> None:
    config = compose(EXPERIMENTS, "paper", {group: choice})
    plain = to_plain(config)
    content = yaml.safe_load((EXPERIMENTS / "base" / group / f"{choice}.yaml").read_text()) or {}
    section = PACKAGES.get(group, "").rstrip(".")
    for name, value in ({section: content} if section else content).items():
        if name != "defaults":
            fixed = {key: one for key, one in value.items() if "${" not in str(one)}
            assert plain[name] | fixed == plain[name]


def test_two_crops_are_the_same_as_their_keys_at_every_scale() -> None:
    keys = {"views.local_number": 0, "views.global_scale": [0.14, 1.0]}
    for scale in SCALES:
        by_name, by_key = (compose(EXPERIMENTS, scale, one) for one in ({"crops": "two"}, keys))
        assert by_name == by_key
    # They follow a preset, and single keys follow them.
    preset = compose(EXPERIMENTS, "paper", {"preset": "resnet50_swav", "crops": "two"})
    assert (preset.views.local_number, preset.views.global_scale[0]) == (0, 0.14)
    key = compose(EXPERIMENTS, "paper", {"crops": "two", "views.local_number": 6})
    assert key.views.local_number == 6


def test_an_unknown_scale_gets_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown scale 'labtop'; nearest: laptop"):
        compose(EXPERIMENTS, "labtop")


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("scales/smoke.yaml", "\ntrain:\n  epoch: 3\n", "unknown key 'train.epoch'"),
        ("base/model/vit_laptop.yaml", "\ndephts: 3\n", "unknown key 'model.dephts'"),
        ("base/data/photographs.yaml", "\nresolution: big\n", "data.resolution=big"),
    ],
)
def test_a_typo_in_a_base_or_scale_file_names_that_file(
    file: str, text: str, expected: str, tmp_path: Path
) -> None:
    root = tmp_path / "experiments"
    shutil.copytree(EXPERIMENTS, root)
    content = (root / file).read_text()
    if file.startswith("scales"):
        content = content[: content.index("train:")]  # a key may not stand twice
    elif "resolution" in text:
        content = content.replace("resolution: 32\n", "")
    (root / file).write_text(content + text)
    with pytest.raises(UserError) as raised:
        compose(root, "smoke")
    assert str(root / file) in str(raised.value)
    assert expected in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_nearest_key_is_found_by_its_last_part_too() -> None:
    assert nearest("momentum", dotted_keys()).endswith("momentum")
    assert nearest("local_nmber", dotted_keys()) == "views.local_number"


def test_command_line_values_are_read_as_yaml() -> None:
    words = ["train.epochs=3", "optim.lr=1e-3", "views.global_scale=[0.2, 1]", "data.name=birds"]
    assert parse_assignments(words) == {
        "train.epochs": 3, "optim.lr": 0.001, "views.global_scale": [0.2, 1], "data.name": "birds"
    }  # fmt: skip
    with pytest.raises(UserError, match="write key=value"):
        parse_assignments(["train.epochs"])


def test_the_science_imports_nothing_of_the_harness() -> None:
    package = Path(__file__).parents[2] / "repro"
    science = (
        file for name in ("dino", "evals", "data") for file in (package / name).rglob("*.py")
    )
    for file in (package / "train.py", *science):
        text = file.read_text()
        assert "repro.harness" not in text, file
        assert "repro.config.compose" not in text, file
        assert "hydra" not in text, file


def test_every_default_is_valid() -> None:
    check(RunConfig())


def numbers_of(node: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of the config that holds a number, with its annotated type."""
    for name, kind in get_type_hints(node, include_extras=True).items():
        if is_dataclass(kind):
            yield from numbers_of(kind, f"{prefix}{name}.")
        for one in get_args(kind) if get_origin(kind) is tuple else (kind,):
            if one in (int, float) or get_origin(one) is Annotated:
                yield f"{prefix}{name}", one


def test_every_number_of_a_config_has_its_bounds_beside_it() -> None:
    numbers = list(numbers_of(RunConfig))
    assert len(numbers) > 60
    assert [key for key, kind in numbers if kind in (int, float)] == []


@pytest.mark.parametrize("key", sorted({key for key, _ in numbers_of(RunConfig)}))
def test_a_number_out_of_its_bounds_is_refused_with_key_value_and_bound(key: str) -> None:
    section, _, name = key.rpartition(".")
    config = RunConfig()
    holder = getattr(config, section) if section else config
    several = isinstance(getattr(holder, name), tuple)
    setattr(holder, name, (-3,) * len(getattr(holder, name)) if several else -3)
    with pytest.raises(UserError) as raised:
        check(config)
    at = rf"{re.escape(key)}(\[\d\])?=-3 must be (at least|greater than) \d"
    assert re.fullmatch(rf"{at}(; {at})*", str(raised.value))


def test_all_that_is_out_of_bounds_is_named_at_once() -> None:
    config = RunConfig()
    config.train.epochs, config.views.hue, config.optim.lr = 0, 0.6, float("nan")
    with pytest.raises(UserError) as raised:
        check(config)
    assert str(raised.value) == (
        "views.hue=0.6 must be at most 0.5; optim.lr=nan must be at least 0; "
        "train.epochs=0 must be at least 1"
    )


def test_paths_of_a_run_are_whole_but_for_variables_of_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    paths = Paths("cats", "~/dogs", "", {"a": "$SLURM_TMPDIR/a", "b": "~b/c", "c": "~"}).absolute()
    assert (paths.data, paths.labelled) == (f"{tmp_path}/cats", "/home/me/dogs")
    assert paths.benchmarks == {"a": "$SLURM_TMPDIR/a", "b": f"{tmp_path}/~b/c", "c": "/home/me"}
    assert paths.absolute() == paths
