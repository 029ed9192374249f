"""What each test item contributes to a number, whatever the protocol."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from repro.dino.backbones import build_backbone
from repro.harness.evaluation.answers import Frozen
from repro.harness.evaluation.any_checkpoint import ChosenWeights
from repro.harness.evaluation.chosen_data import chosen_data
from repro.harness.evaluation.names import PROTOCOLS, numbers
from tests.conftest import SMALL
from tests.data.test_folders import write_tree

LABELLED = [name for name, p in PROTOCOLS.items() if p.over and not p.benchmarks]
MADE_HERE = {"attention": "composites", "retrieval": "crops", "copies": "copies", "video": "clips"}
Ask = Callable[[str, str], Frozen]


def test_every_protocol_but_speed_says_how_each_item_did() -> None:
    assert {*LABELLED, *MADE_HERE} == set(PROTOCOLS) - {"throughput"}


@pytest.mark.parametrize("protocol", [*LABELLED, *MADE_HERE])
def test_a_number_is_the_mean_of_what_each_item_contributes(
    small: str, tmp_path: Path, protocol: str
) -> None:
    data = MADE_HERE.get(protocol) or f"few={write_tree(tmp_path / 'few', images=9)}"
    images = chosen_data(data, protocol, epochs=2)
    made = Frozen(ChosenWeights(Path(small)), tmp_path / "results").answer(images).evaluation
    ending = f"@{data}" if protocol in MADE_HERE else ""
    deeper = ("linear_l4", "linear_l6")  # than two blocks
    expected = {f"{n}{ending}" for n in numbers(protocol) if not n.startswith(deeper)}
    assert set(made.judged) == expected
    for name, items in made.judged.items():
        assert made.metrics[name] == pytest.approx(100 * items.values().mean(), abs=1e-4)
        assert items.count == len(items.values())
    if protocol in LABELLED:
        assert {items.count for items in made.judged.values()} == {18}
    assert made.items


def test_the_items_are_those_of_the_images_and_not_of_the_network_or_its_side(
    small: str, tmp_path: Path
) -> None:
    torch.manual_seed(5)
    torch.save(build_backbone(SMALL, 32).state_dict(), tmp_path / "other.pth")
    roots = [write_tree(tmp_path / name, images=n) for name, n in (("a", 3), ("b", 4))]

    def items(weights: str, root: Path, side: int = 0) -> str:
        frozen = Frozen(ChosenWeights(Path(weights)), tmp_path / "results", side)
        return frozen.answer(chosen_data(f"few={root}", "knn")).evaluation.items

    other = str(tmp_path / "other.pth")
    same = {items(small, roots[0]), items(other, roots[0]), items(small, roots[0], side=16)}
    assert len(same) == 1
    assert items(small, roots[1]) not in same
