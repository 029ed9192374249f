"""The claims of every experiment file on the paper's own numbers."""

from __future__ import annotations

import pytest

from analysis.evidence.evidence import load_evidence
from analysis.verdicts.claims import check
from analysis.verdicts.comparisons import WeightedSum
from analysis.verdicts.outputs import at_chance
from repro.cli import main
from repro.cli.exit_codes import MISTAKE
from repro.errors import UserError
from repro.harness.experiments.experiment import experiment_ids

# Overclaims, e.g. 77.4 < 78.3 in k-NN of ViT-B/8; two claims have no printed number.
OTHERWISE = {
    "C.T2.4b": False, "C.T3.1": False, "C.T3.3": False, "C.T6.2": False, "C.T10.2": False,
    "C.F7.4": None, "C.F7.6": None,
}  # fmt: skip


@pytest.mark.parametrize("name", experiment_ids())
def test_every_claim_holds_on_the_numbers_that_the_paper_prints(name: str) -> None:
    verdicts = check([name], None)
    assert verdicts
    for verdict in verdicts:
        assert verdict.holds is OTHERWISE.get(verdict.id, True), verdict


def test_bounds_of_the_papers_own_wording_include_their_ends() -> None:
    exact = WeightedSum({"T14.r6.linear": 1, "T14.r5.linear": -1}, 2, 4)
    value = exact.value({"T14.r6.linear": 73.4, "T14.r5.linear": 71.4})
    assert value == pytest.approx(2.0)
    claim = next(v for v in check(["T14"], None) if v.id == "C.T14.6")
    assert claim.holds is True  # "2 to 4 points", of which one difference is 2.0


def test_a_collapsed_imagenet_accuracy_is_at_most_twice_chance() -> None:
    assert [at_chance(x) for x in (0.1, 0.2, 0.21, 52.6)] == [True, True, False, False]


@pytest.mark.parametrize("option", ["--on", "--evidence"])
def test_an_unknown_source_of_numbers_is_the_users_mistake(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "F7", option, "repotred"]) == MISTAKE
    assert f"argument {option}" in capsys.readouterr().err


def test_an_unknown_scale_names_the_nearest() -> None:
    with pytest.raises(UserError, match="nearest: laptop"):
        load_evidence("lptop")
