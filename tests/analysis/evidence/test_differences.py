"""In what configs differ: the same for a file that this code does not know, and for old records."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from analysis.evidence.differences import (
    differences,
    flat_identity,
    in_words,
    set_apart,
    value_text,
)
from repro.config.compose import to_plain
from repro.config.identity import canonical, run_id
from tests.conftest import MakeConfig

configs = st.lists(st.fixed_dictionaries({"a": st.integers(0, 2), "b": st.integers(0, 2)}))


def test_a_file_and_a_record_of_one_run_have_the_same_settings(smoke: MakeConfig) -> None:
    for overrides in ({}, {"method": "byol"}, {"method": "mocov2"}):
        config = smoke(overrides)
        assert flat_identity(to_plain(config)) == flat_identity(canonical(config))


def test_settings_differ_exactly_where_ids_do(smoke: MakeConfig) -> None:
    plain = smoke()
    for overrides in (
        {"resources.data_workers": 3, "paths.data": "/x", "reporting.tensorboard": True},
        {"teacher.momentum": 0.25},
        {"head.activation": "relu"},
        {"method": "simclr"},
    ):
        other = smoke(overrides)
        apart = differences(flat_identity(to_plain(plain)), flat_identity(to_plain(other)))
        assert bool(apart) == (run_id(plain) != run_id(other)), overrides


def test_a_key_that_no_code_knows_is_a_difference_like_any(smoke: MakeConfig) -> None:
    plain = to_plain(smoke())
    odd = plain | {"loss": plain["loss"] | {"sharpness": 3}}
    assert differences(flat_identity(plain), flat_identity(odd)) == {"loss.sharpness": (None, 3)}


@given(configs)
def test_what_sets_runs_apart_is_their_own_value_and_never_that_of_most(
    several: list[dict[str, int]],
) -> None:
    for config, apart in zip(several, set_apart(several), strict=True):
        for key in ("a", "b"):
            same = sum(other[key] == config[key] for other in several)
            assert (key in apart) == (2 * same <= len(several)) or same == len(several)
            assert apart.get(key, config[key]) == config[key]


def test_two_runs_are_both_told_what_differs_and_the_seed_is_not() -> None:
    assert set_apart([{"a": 1, "seed": 0}, {"a": 2, "seed": 1}]) == [{"a": 1}, {"a": 2}]


def test_differences_are_words_with_the_rest_counted() -> None:
    settings = {"teacher.momentum": 0.9, "optim.lr": 1e-3, "views.flip": None, "a": [1, 0.5]}
    assert in_words(settings) == "momentum=0.9, lr=0.001, flip=none, a=[1,0.5]"
    assert in_words(settings, 1) == "momentum=0.9 and 3 more"
    assert value_text(True) == "True"
