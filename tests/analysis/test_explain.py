"""A printed number, and a verdict on a claim, can be followed back to runs and config."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.evidence.evidence import load_evidence
from analysis.explain import asked_about, explain
from repro.errors import UserError

Record = dict[str, Any]


def test_explain_leads_from_a_number_to_its_runs_and_its_config(
    make: Callable[..., Record], published: Callable[..., Path]
) -> None:
    published([make("T7.r2", seed, knn=55.0 + seed) for seed in range(3)])
    found = explain("T7:r2:knn", load_evidence("laptop"))
    assert (found["reported"], found["mean"], found["n"]) == (0.1, 56.0, 3)
    low, high = found["interval"]
    assert low < 56 < high
    assert [run["value"] for run in found["runs"]] == [55.0, 56.0, 57.0]
    assert all(run["git_sha"] == "0123456789abcdef" for run in found["runs"])
    assert found["config_difference"]["train.epochs"] == {"ours": 10, "paper": 300}
    assert found["verdict"] == "n/a at this scale"


def test_explain_says_what_a_claim_rests_on_and_what_would_turn_it(
    make: Callable[..., Record], published: Callable[..., Path]
) -> None:
    gaps = {"T7.r1": (75.0, 75.5, 76.2), "T7.r4": (70.0, 70.4, 71.3)}
    published(
        [make(row, seed, knn=value) for row, own in gaps.items() for seed, value in enumerate(own)]
    )
    found = explain("C.T7.5", load_evidence("laptop"))
    assert found["verdict"] == "undecided at 3 seeds (in part)"  # no linear evaluation was made
    assert found["holds"] is None
    assert found["reported"]["verdict"] == "holds"
    measured = {one["cell"]: one["mean"] for one in found["cells"]}
    assert measured["T7:r4:knn"] == pytest.approx(70.5667, abs=1e-4)
    assert measured["T7:r4:linear"] is None
    assert "is shown above any limit up to" in found["flips"]
    loss = next(entry for entry in found["deviations"] if entry["id"] == "D3")
    assert (loss["at"], "twenty steps" in loss["effect"]) == ("Eq. 3, main_dino.py:402", True)
    assert sorted(run["seed"] for run in found["runs"]) == [0, 0, 1, 1, 2, 2]
    assert "D7" in [entry["id"] for entry in found["deviations"]]


def test_an_explained_interval_is_the_one_of_the_table(
    make: Callable[..., Record], published: Callable[..., Path]
) -> None:
    records = [make("T7.r1", seed) for seed in range(3)] + [make("T7.r4", 0, knn=70.0)]
    published(records)
    found = explain("T7:r4:knn", load_evidence("laptop"))
    low, high = found["interval"]
    assert low < 70 < high
    assert "pooled over 1 row" in found["spread"]
    assert explain("T7:r1:knn", load_evidence("laptop"))["spread"] == ""


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("T7", "write ID:ROW:METRIC"),
        ("T7:r2:kn", "nearest: knn"),
        ("T7:r22:knn", "nearest"),
        ("T77:r2:knn", "nearest"),
        ("T77.r2", "nearest: T7"),
        ("T7.r22", "nearest: r2"),
        ("T7:r22", "nearest: r2"),
        ("T7.r2.kn", "nearest: knn"),
        ("C.T7.44", "nearest: C.T7.4"),
    ],
)
def test_a_cell_that_does_not_exist_gets_the_nearest(
    address: str, message: str, results: Path
) -> None:
    with pytest.raises(UserError, match=message):
        explain(address, load_evidence("laptop"))


def test_an_address_may_be_typed_with_dots(
    make: Callable[..., Record], published: Callable[..., Path]
) -> None:
    published([make("T7.r2", seed) for seed in range(3)])
    evidence = load_evidence("laptop")
    assert explain("T7.r2.knn", evidence) == explain("T7:r2:knn", evidence)


@pytest.mark.parametrize(
    ("address", "key", "named"),
    [
        ("T7.r2", "row", "T7:r2"),
        ("T7:r2", "row", "T7:r2"),
        ("AD_m.m0.99", "row", "AD_m:m0.99"),
        ("AD_m:m0.99", "row", "AD_m:m0.99"),
        ("AD_m.m0.99.knn", "cell", "AD_m:m0.99:knn"),
        ("AD_m:m0.99:knn", "cell", "AD_m:m0.99:knn"),
    ],
)
def test_a_row_is_told_from_a_cell_though_its_name_holds_dots(
    address: str, key: str, named: str, results: Path
) -> None:
    assert explain(address, load_evidence("laptop"))[key] == named
    assert asked_about(address) == [named.partition(":")[0]]


def test_a_row_is_explained_by_its_cells_and_its_runs(
    make: Callable[..., Record], published: Callable[..., Path]
) -> None:
    published([make("T7.r2", seed, knn=55.0 + seed) for seed in range(3)])
    found = explain("T7:r2", load_evidence("laptop"))
    assert found["label"] == "DINO without momentum"
    assert [(one["cell"], one["mean"], one["n"]) for one in found["cells"]] == [
        ("T7:r2:knn", 56.0, 3), ("T7:r2:linear", None, 0),
    ]  # fmt: skip
    assert [run["seed"] for run in found["runs"]] == [0, 1, 2]
    assert "D7" in [entry["id"] for entry in found["deviations"]]
    quoted = explain("T2:rn50_swav", load_evidence("laptop"))
    assert quoted["missing"].startswith("reported only: ")
    assert (quoted["runs"], quoted["deviations"]) == ([], [])


def test_what_else_differs_between_the_rows_of_a_claim_stands_beside_its_verdict(
    results: Path,
) -> None:
    found = explain("C.T7.4", load_evidence("laptop"))["confounds"]
    assert json.loads(json.dumps(found)) == [
        {"runs": ["T7.r3", "T7.r9"], "key": "target.temp_start", "values": [0.04, 0.05]},
        {"runs": ["T7.r3", "T7.r9"], "key": "target.temp", "values": [0.04, 0.05]},
    ]
