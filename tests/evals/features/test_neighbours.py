"""Exact nearest neighbours against a full sort, with ties, blocks and databases of any size."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from repro.errors import UserError
from repro.evals.features import neighbours
from repro.evals.features.neighbours import nearest


def full_sort(
    queries: torch.Tensor, database: torch.Tensor, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    similarity = normalize(queries, dim=1) @ normalize(database, dim=1).T
    values, places = similarity.sort(dim=1, descending=True, stable=True)
    return values[:, :k], places[:, :k]


@settings(deadline=None, max_examples=80)
@given(
    n=st.integers(1, 300), m=st.integers(1, 12), k=st.integers(1, 40), levels=st.integers(2, 4),
    block=st.sampled_from([7, 64, 1000]), group=st.sampled_from([1, 2, 5]),
    chunk=st.sampled_from([3, 100]), seed=st.integers(0, 10_000),
)  # fmt: skip
def test_neighbours_are_those_of_a_full_stable_sort(
    n: int, m: int, k: int, levels: int, block: int, group: int, chunk: int, seed: int
) -> None:
    # Few different vectors of small whole numbers: similarities are exact, ties everywhere.
    random = torch.Generator().manual_seed(seed)
    axes = torch.eye(4, dtype=torch.float64)
    database = axes[torch.randint(levels, (n,), generator=random)]
    queries = axes[torch.randint(levels, (m,), generator=random)]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("BLOCK", block), ("GROUP", group), ("CHUNK", chunk)):
            patch.setattr(neighbours, name, value)
        values, places = nearest(queries, database, k)
    expected_values, expected_places = full_sort(queries, database, k)
    assert torch.equal(values, expected_values)
    assert torch.equal(places, expected_places)


@pytest.mark.parametrize("k", [1, 20, 200])
def test_a_large_database_in_several_blocks_loses_nothing(k: int) -> None:
    random = torch.Generator().manual_seed(0)
    database = torch.randn(150_000, 8, generator=random)
    queries = torch.randn(5, 8, generator=random)
    values, places = nearest(queries, database, k)
    expected_values, expected_places = full_sort(queries, database, k)
    torch.testing.assert_close(values, expected_values)
    assert (places == expected_places).float().mean() > 0.99  # rounding may swap two that are equal


def test_a_collapsed_network_has_the_first_images_as_neighbours() -> None:
    same = torch.ones(90_000, 3)
    _, places = nearest(same[:2], same, 10)
    assert places.tolist() == [list(range(10))] * 2


def test_features_that_are_not_finite_are_refused() -> None:
    broken = torch.tensor([[1.0, float("nan")]])
    with pytest.raises(UserError, match="not finite"):
        nearest(broken, torch.ones(3, 2), 1)
    with pytest.raises(UserError, match="not finite"):
        nearest(torch.ones(3, 2), broken, 1)
