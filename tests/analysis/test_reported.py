"""The claims of every experiment file on the paper's own numbers."""

from __future__ import annotations

import pytest

from analysis.claims import check
from analysis.predicates import at_chance
from repro.errors import UserError
from repro.harness.spec import experiment_ids

WITHOUT_NUMBERS = {"C.F7.4", "C.F7.6"}


@pytest.mark.parametrize("name", experiment_ids())
def test_every_claim_holds_on_the_numbers_that_the_paper_prints(name: str) -> None:
    verdicts = check([name], "paper", on="reported")
    assert verdicts
    for verdict in verdicts:
        expected = None if verdict.id in WITHOUT_NUMBERS else True
        assert verdict.holds is expected, verdict


def test_a_collapsed_imagenet_accuracy_is_at_most_twice_chance() -> None:
    assert [at_chance(x) for x in (0.1, 0.2, 0.21, 52.6)] == [True, True, False, False]


def test_an_unknown_source_of_numbers_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="choose ours or reported"):
        check(["F7"], "paper", on="repotred")


def test_an_unknown_scale_names_the_nearest() -> None:
    with pytest.raises(UserError, match="nearest: laptop"):
        check(["F7"], "lptop")
