"""Addresses are read with dots and with colons, and written back as they were."""

from __future__ import annotations

import pytest

from repro.errors import UserError
from repro.harness.experiments.address import Address
from repro.harness.experiments.experiment import experiment_ids, load


@pytest.mark.parametrize("name", experiment_ids())
def test_every_row_and_cell_is_read_back_from_either_spelling(name: str) -> None:
    experiment = load(name)
    for row in experiment.rows:
        line = Address(name, row.name)
        assert Address.of_row(str(line)) == Address.of_row(line.typed) == line
        for metric in experiment.metrics:
            cell = Address(name, row.name, metric.key)
            assert Address.of_cell(str(cell)) == Address.of_cell(cell.typed) == cell
            assert cell.of_its_row == line


def test_names_of_rows_may_hold_dots() -> None:
    assert Address.of_cell("AD_m.m0.99.knn") == Address("AD_m", "m0.99", "knn")
    assert Address.of_row("AD_m.m0.99") == Address("AD_m", "m0.99")


@pytest.mark.parametrize("text", ["T7", "T7:r1", "T7.r1", "T7:r1:knn:x", "T7::knn", ".r1.knn", ""])
def test_what_is_no_cell_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UserError, match=r"write ID:ROW:METRIC, e\.g\. T7:r2:knn"):
        Address.of_cell(text)


@pytest.mark.parametrize("text", ["T7", "T7:", ":r1", "T7:r1:knn", ""])
def test_what_is_no_row_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UserError, match=r"write ID:ROW, e\.g\. T7:r2"):
        Address.of_row(text)
