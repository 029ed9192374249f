"""How ranks fill nodes: evenly, on as few as that allows, or not at all."""

from __future__ import annotations

import pytest
from msgspec import structs

from repro.errors import UserError
from repro.harness.experiments.clusters import SlurmCluster
from repro.harness.slurm.requirements import Shape, most_a_node, shape_of

CLUSTER = SlurmCluster(name="mine", gpus=1, cpus=4, memory_gb=16, minutes=90)


def on(gpus_per_node: int, gpus: int = 1) -> SlurmCluster:
    return structs.replace(CLUSTER, gpus=gpus, gpus_per_node=gpus_per_node)


@pytest.mark.parametrize(
    ("ranks", "a_node", "shape"),
    [
        (1, 8, Shape(1, 1)), (8, 8, Shape(1, 8)), (16, 8, Shape(2, 8)), (3, 4, Shape(1, 3)),
        (12, 8, Shape(2, 6)), (16, 6, Shape(4, 4)), (3, 2, Shape(3, 1)), (10, 4, Shape(5, 2)),
    ],
)  # fmt: skip
def test_ranks_fill_nodes_evenly(ranks: int, a_node: int, shape: Shape) -> None:
    assert shape_of(ranks, on(a_node)) == shape


@pytest.mark.parametrize(
    ("ranks", "a_node", "batch", "nearest"),
    [
        (13, 8, None, r"12 \(6 on each of 2 nodes\) or 14 \(7 on each of 2 nodes\)"),
        (13, 8, 1024, r"8 \(8 on one node\) or 16 \(8 on each of 2 nodes\)"),
        (5, 4, None, r"4 \(4 on one node\) or 6 \(3 on each of 2 nodes\)"),
    ],
)
def test_ranks_that_cannot_are_refused_with_the_nearest_that_can(
    ranks: int, a_node: int, batch: int | None, nearest: str
) -> None:
    with pytest.raises(UserError, match=rf"cluster mine: resources.ranks={ranks} .*: {nearest}"):
        shape_of(ranks, on(a_node), batch)


def test_every_shape_has_exactly_its_ranks_and_fits_its_nodes() -> None:
    refused = 0
    for a_node in range(1, 17):
        for gpus in (1, 2):
            cluster = on(a_node, gpus)
            for ranks in range(1, 65) if gpus <= a_node else ():
                try:
                    shape = shape_of(ranks, cluster)
                except UserError:
                    refused += 1
                    continue
                assert shape.nodes * shape.ranks_a_node == ranks
                assert shape.ranks_a_node * gpus <= a_node
                assert 2 * shape.ranks_a_node >= min(ranks, most_a_node(cluster))
    assert refused > 0
