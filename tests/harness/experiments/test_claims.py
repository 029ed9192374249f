"""Every kind of claim as a type: what a file may say of it, and what it names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from repro.errors import UserError
from repro.harness.experiments.claims import SHAPES, AllOf, Body, OfRows, SmallerGap, read_claim
from repro.harness.experiments.experiment import experiment_ids, load

CLAIM = {"id": "C.T7.9", "statement": "It does", "portability": "M"}


def of(**body: Any) -> dict[str, Any]:
    return CLAIM | body


def test_every_kind_is_claimed_somewhere_and_there_are_21() -> None:
    parts = [
        part
        for name in experiment_ids()
        for claim in load(name).claims
        for part in (claim.body, *claim.body.parts())
    ]
    assert {part.kind for part in parts} == set(SHAPES)
    assert len(SHAPES) == 21
    assert all(SHAPES[kind].__name__.lower() == kind.replace("_", "") for kind in SHAPES)


def test_a_claim_stands_where_its_table_does_unless_it_says_so() -> None:
    body = {"kind": "healthy", "rows": ["T7.r1"]}
    assert read_claim(of(**body), "Table 7", "T7.yaml").where == "Table 7"
    assert read_claim(of(**body, where="Sec. 5.3"), "Table 7", "T7.yaml").where == "Sec. 5.3"


def test_a_claim_is_about_what_its_table_is_unless_it_says_so() -> None:
    body = {"kind": "greater", "better": "T7.r1.knn", "worse": "T7.r2.knn"}
    table = ("method",)
    assert read_claim(of(**body), "Table 7", "T7.yaml", table).about == table
    own = of(**body, about=["teacher.kind"])
    assert read_claim(own, "Table 7", "T7.yaml", table).about == ("teacher.kind",)


def test_a_claim_names_its_rows_and_its_cells() -> None:
    gap = SmallerGap(rows=("T2.a",), than=("T2.b",), high="linear", low="knn")
    assert isinstance(gap, OfRows)
    assert gap.row_addresses() == ("T2.a", "T2.b")
    assert gap.cell_addresses() == ("T2.a.linear", "T2.a.knn", "T2.b.linear", "T2.b.knn")
    both = AllOf(claims=(AllOf(claims=(gap,)), gap))
    assert both.parts() == (gap, gap)
    assert both.cell_addresses() == gap.cell_addresses() * 2


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "the key 'kind' is missing"),
        ({"kind": "order", "order": "T7.r1.knn"}, "order: 'T7.r1.knn' must be a list"),
        (
            {"kind": "close", "a": "T7.a.x", "b": "T7.b.x", "margin": True},
            "margin: True must be a number",
        ),
        (
            {"kind": "collapse", "rows": ["T7.r1"], "form": "flat"},
            "form: 'flat' is not one of .*; nearest: ",
        ),
        ({"kind": "ratio", "over": "T7.a.x", "under": "T7.b.x"}, "ratio needs a bound: above"),
        ({"kind": "healthy", "rows": ["r1"]}, "'r1' is not an address such as T7.r1"),
        ({"kind": "healthy", "rwos": ["T7.r1"]}, "unknown key 'rwos'; nearest valid key: rows"),
        ({"kind": "healthy", "rows": [], "noet": ""}, "unknown key 'noet'; nearest valid key: no"),
        ({"kind": "all_of", "claims": [{"kind": "gretaer"}]}, "'gretaer'; nearest: greater"),
        ({"kind": "all_of", "claims": [{"kind": "fails", "id": "C.1"}]}, "unknown key 'id'"),
        ({"kind": "all_of", "claims": [5]}, "5 must be a mapping"),
        ({"kind": "all_of", "claims": [{"kind": "fails"}]}, "the key 'rows' is missing"),
    ],
)
def test_a_mistake_is_one_line_with_file_claim_key_and_nearest(
    body: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_claim(of(**body), "Table 7", "T7.yaml")
    assert str(caught.value).startswith("T7.yaml: claim C.T7.9: ")
    assert "\n" not in str(caught.value)


def test_shapes_are_frozen() -> None:
    claim = read_claim(of(kind="healthy", rows=["T7.r1"]), "Table 7", "T7.yaml")
    assert isinstance(claim.body, Body)
    with pytest.raises(AttributeError):
        claim.body.rows = ()  # type: ignore[misc, union-attr]
