"""The run id: what changes it, what must not, and how it stays valid when the config grows."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from dataclasses import fields, replace
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repro.config import identity
from repro.config.compose import from_plain, to_plain
from repro.config.identity import SCHEMA, canonical, run_id, run_ids, slug
from repro.config.keys import dotted_keys
from repro.config.schema import (
    Family,
    ModelConfig,
    NotIdentity,
    Part,
    PredictorConfig,
    QueueConfig,
    RunConfig,
    TeacherKind,
)

SECTIONS = {f.name: getattr(RunConfig(), f.name) for f in fields(RunConfig)}
EXCLUDED = [name for name, section in SECTIONS.items() if isinstance(section, NotIdentity)]


PARTS = [name for name, section in SECTIONS.items() if isinstance(section, Part)]


def changed(key: str, config: RunConfig) -> RunConfig:
    """The config with another value of the same type at one key."""
    config = copy.deepcopy(config)
    *sections, name = key.split(".")
    node: Any = config
    for section in sections:
        node = getattr(node, section)
    value = getattr(node, name)
    if isinstance(value, bool):
        other: Any = not value
    elif isinstance(value, Enum):
        other = next(member for member in type(value) if member is not value)
    elif isinstance(value, tuple):
        other = (*value[:-1], value[-1] / 2)
    elif isinstance(value, str):
        other = value + "x"
    elif isinstance(value, dict):
        other = value | {"x": "y"}
    else:
        other = value + 1
    setattr(node, name, other)
    return config


@pytest.mark.parametrize("key", dotted_keys())
def test_a_key_changes_the_id_exactly_if_its_section_can_change_a_number(key: str) -> None:
    config = RunConfig(predictor=PredictorConfig(used=True), queue=QueueConfig(used=True))
    assert (run_id(changed(key, config)) == run_id(config)) == (key.partition(".")[0] in EXCLUDED)


@pytest.mark.parametrize("key", [k for k in dotted_keys() if k.partition(".")[0] in PARTS])
def test_the_settings_of_a_part_that_is_not_used_do_not_change_the_id(key: str) -> None:
    same = run_id(changed(key, RunConfig())) == run_id(RunConfig())
    assert same == (not key.endswith(".used"))


def test_the_id_is_the_hash_of_the_resolved_config_without_the_excluded_sections() -> None:
    left_out = [*EXCLUDED, *PARTS]
    plain = {name: value for name, value in to_plain(RunConfig()).items() if name not in left_out}
    for key in identity.ADDED:  # all at the value that old records had
        section, name = key.split(".")
        del plain[section][name]
    text = json.dumps({"schema": SCHEMA, "config": plain}, sort_keys=True, separators=(",", ":"))
    text = re.sub(r"(\d)\.0(?=[,\]}])", r"\1", text)  # whole floats as integers
    assert run_id(RunConfig()) == hashlib.sha256(text.encode()).hexdigest()[:10]


def test_whole_floats_and_integers_lists_and_tuples_are_one_value() -> None:
    a, b = RunConfig(), RunConfig()
    a.teacher.momentum_end, b.teacher.momentum_end = 1.0, 1
    a.views.global_scale = (0.5, 1.0)
    b.views.global_scale = [0.5, 1]  # type: ignore[assignment]
    assert run_id(a) == run_id(b)


def test_the_ids_of_many_seeds_are_those_of_each() -> None:
    config = RunConfig()
    each = [run_id(replace(config, seed=seed)) for seed in (3, 0, 7)]
    assert run_ids(config, (3, 0, 7)) == each
    assert len(set(each)) == 3


def test_the_canonical_form_survives_json() -> None:
    assert json.loads(json.dumps(canonical(RunConfig()))) == canonical(RunConfig())


@given(st.floats(1e-6, 1e3), st.integers(0, 2**31), st.sampled_from(list(TeacherKind)))
def test_equal_configs_have_equal_ids_and_different_seeds_different_ones(
    lr: float, seed: int, kind: TeacherKind
) -> None:
    config = RunConfig(seed=seed)
    config.optim.lr, config.teacher.kind = lr, kind
    other = copy.deepcopy(config)
    assert run_id(config) == run_id(other)
    other.seed += 1
    assert run_id(config) != run_id(other)


def test_an_added_key_keeps_old_ids_at_its_old_value_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As if `optim.clip_norm` had joined the config after records were published."""
    config = RunConfig()
    monkeypatch.setattr(identity, "ADDED", {"optim.clip_norm": 3})
    assert "clip_norm" not in canonical(config)["optim"]
    before = run_id(config)
    config.optim.clip_norm = 2.0
    assert canonical(config)["optim"]["clip_norm"] == 2
    assert run_id(config) != before


@given(st.text(), st.text())
def test_a_slug_is_one_safe_path_component(experiment: str, row: str) -> None:
    name = slug(RunConfig(), experiment, row)
    assert re.fullmatch(r"[A-Za-z0-9_.-]+-s0", name)
    assert name.count("/") == 0


def test_a_slug_tells_experiment_row_scale_and_seed() -> None:
    config = RunConfig(seed=2)
    config.label.scale = "laptop"
    assert slug(config, "F7", "both") == "F7-both-laptop-s2"
    assert slug(config, "train", "") == "train-laptop-s2"
    assert slug(config, "F7", "no centre/ï 2") == "F7-no_centre_2-laptop-s2"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_has_no_id(value: float) -> None:
    config = RunConfig()
    config.optim.lr = value
    with pytest.raises(ValueError, match="not JSON compliant"):
        run_id(config)


def test_a_model_of_timms_is_stored_under_the_word_of_earlier_configs() -> None:
    config = RunConfig()
    config.model = ModelConfig(family=Family.timm, name="resnet50")
    assert canonical(config)["model"]["family"] == "resnet"
    assert to_plain(config)["model"]["family"] == "resnet"
    for word in ("resnet", "timm"):
        plain = to_plain(config)
        plain["model"]["family"] = word
        read = from_plain(plain, "config.yaml")
        assert read.model.family is Family.timm
        assert run_id(read) == run_id(config)
