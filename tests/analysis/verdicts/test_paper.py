"""The paper as data: its numbers, each with where it was read, its contradictions, and others'."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from analysis.evidence.evidence import Evidence
from analysis.evidence.rows import PAPER
from analysis.verdicts.claims import check
from repro.errors import UserError
from repro.harness.experiments.experiment import Experiment, Row, experiment_ids, load
from repro.harness.experiments.paper import read_paper

# Counted on the paper's tables and on the digitised figures; 548 in all.
CELLS = {
    "T1": 27, "T2": 98, "T3": 20, "T4": 5, "T5": 27, "T6": 28, "T7": 18, "T8": 20, "T9": 5,
    "T10": 44, "T11": 7, "T12": 32, "T13": 16, "T14": 10, "T15": 6, "AC_K": 5, "AC_act": 2,
    "AC_bn": 2, "AC_l2": 7, "AD_attn": 7, "AD_fig_rn50": 6, "AD_heads": 12, "AD_len": 3, "AD_m": 4,
    "AD_tau": 6, "AE_fig_byol": 7, "AE_mc": 16, "AE_scale": 5, "AF_nlast": 8, "AF_pool": 4, "F4": 6,
    "F5": 10, "F6L": 27, "F6R": 4, "F7": 44,
}  # fmt: skip
PLATEAUS = {"F7": 4}  # values that stand at both ends of a stretch over which a curve is flat
# Results of the paper that stand in descriptive columns.
DESCRIBED = {
    "T1": ("blocks", "dim", "heads"),
    "AD_heads": ("dim",),
    "AF_nlast": ("dim",),
    "AF_pool": ("dim",),
}


def reported_in(experiment: Experiment, row: Row) -> int:
    """The paper's numbers in a row: points of curves, else its cells."""
    if row.reported_curve:
        curves = {k: v for k, v in row.reported_curve.items() if k != "epoch"}
        return sum(value is not None for values in curves.values() for value in values)
    described = (row.described.get(key) for key in DESCRIBED.get(experiment.id, ()))
    return len(row.reported) + sum(isinstance(value, int) for value in described)


def test_all_548_reported_numbers_are_there() -> None:
    found = {
        name: sum(reported_in(load(name), row) for row in load(name).rows)
        for name in experiment_ids()
    }
    assert found == {name: CELLS[name] + PLATEAUS.get(name, 0) for name in found}
    assert sum(CELLS.values()) == 548


@pytest.mark.parametrize("name", experiment_ids())
def test_every_number_says_where_it_was_read(name: str) -> None:
    known = read_paper().sources
    experiment = load(name)
    for row in experiment.rows:
        if row.reported or row.reported_curve:
            assert row.source, row.name
        assert set(row.source) <= set(known), row.name


def test_numbers_read_off_figures_say_how_far_off_they_may_be() -> None:
    for name in experiment_ids():
        experiment = load(name)
        digitised = [
            row for row in experiment.rows if set(row.source) <= {"S6-digitised", "S4-notes"}
        ]
        for row in digitised:
            read = {m.key for m in experiment.metrics if m.reading_error}
            assert set(row.reported) - {"im_s"} <= read, f"{name}.{row.name}"


def test_the_claims_hold_on_the_papers_numbers_as_noted() -> None:
    verdicts = check(experiment_ids(), None)
    words = Counter(str(v.verdict) for v in verdicts)
    assert words == {"holds": 101, "overclaim, as noted": 5, "nothing printed": 2}
    assert all(v.note for v in verdicts if v.on_paper == "overclaim")
    assert all(v.where for v in verdicts)


def test_what_others_measured_stands_at_cells_that_exist() -> None:
    evidence = Evidence(PAPER, {})
    paper = read_paper()
    addresses = [address for anchor in paper.anchors for address in anchor.cells]
    assert addresses
    for address in addresses:
        assert evidence.cell(address).reported is not None
    for one in paper.inconsistencies:
        assert set(one.concerns) <= set(experiment_ids()), one.id


def test_an_unknown_source_is_named_with_the_nearest(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(repository / "experiments" / "base", tmp_path / "experiments" / "base")
    file = tmp_path / "experiments" / "base" / "paper.yaml"
    file.write_text(file.read_text().replace("source: S12", "source: S13", 1))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"paper\.yaml: solo-learn.*no source 'S13'; nearest: S"):
        read_paper()
