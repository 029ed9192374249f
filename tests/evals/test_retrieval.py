"""Average precision against a plain loop and by hand; queries whole or cut; scales."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import normalize

from repro.config.schema import ModelConfig
from repro.data.landmarks import Landmarks, Truth
from repro.data.views.kinds import normalise
from repro.dino.backbones import build_backbone
from repro.errors import UserError
from repro.evals.retrieval import (
    ONE_SCALE,
    THREE_SCALES,
    Setting,
    average_precision,
    describe,
    fitted,
    mean_average_precision,
    retrieval_protocol,
)

CPU = torch.device("cpu")
WHOLE = (0.0, 0.0, 8.0, 8.0)


def loop(ranking: list[int], positive: set[int], junk: set[int]) -> float:
    """Walk down the ranking, image by image, and add up trapezoids."""
    area, seen, found = 0.0, 0, 0
    for place in ranking:
        if place in junk:
            continue
        if place in positive:
            before = 1.0 if seen == 0 else found / seen
            found += 1
            area += (before + found / (seen + 1)) / 2 / len(positive)
        seen += 1
    return area


@given(
    size=st.integers(1, 40), seed=st.integers(0, 10_000), positives=st.integers(1, 10),
    junk=st.integers(0, 10),
)  # fmt: skip
def test_average_precision_is_that_of_a_plain_loop(
    size: int, seed: int, positives: int, junk: int
) -> None:
    random = np.random.default_rng(seed)
    ranking = random.permutation(size).tolist()
    shuffled = random.permutation(size).tolist()
    wanted, ignored = set(shuffled[:positives]), set(shuffled[positives : positives + junk])
    expected = loop(ranking, wanted, ignored)
    assert average_precision(ranking, wanted, ignored) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("ranking", "positive", "junk", "expected"),
    [
        ([0, 1, 2, 3], {0, 1}, set(), 1.0),
        ([3, 0], {0}, set(), 0.25),  # precision 0 before, 1/2 with it
        ([3, 0], {0}, {3}, 1.0),  # junk in front does not count
        ([0, 3, 1], {0, 1}, set(), (1 + (1 / 2 + 2 / 3) / 2) / 2),
        ([2, 3], {0}, set(), 0.0),  # a shortened ranking may miss all of them
    ],
)
def test_average_precision_by_hand(
    ranking: list[int], positive: set[int], junk: set[int], expected: float
) -> None:
    assert average_precision(ranking, positive, junk) == pytest.approx(expected)


def test_hard_takes_easy_images_for_junk_and_queries_without_positives_are_left_out() -> None:
    truths = [
        Truth((0,), (1,), (2,), WHOLE),
        Truth((), (), (0,), WHOLE),
        Truth((3,), (), (), WHOLE),
    ]
    rankings = np.array([[2, 0, 3, 1]] * 3)
    # Query 1: without the junk 2: 0, 3, 1. Query 3 has an easy image only.
    medium = ((1 + (1 / 2 + 2 / 3) / 2) / 2 + (0 / 2 + 1 / 3) / 2) / 2
    assert mean_average_precision(rankings, truths, hard=False) == pytest.approx(100 * medium)
    assert mean_average_precision(rankings, truths, hard=True) == pytest.approx(100 * 0.25)
    with pytest.raises(UserError, match="no query has an image that is hard"):
        mean_average_precision(rankings[:1], [Truth((0,), (), (), WHOLE)], hard=True)


class Mean(nn.Module):
    """The mean colour of an image, as if it were a feature."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))


def paint(red: int, green: int, width: int = 8) -> Tensor:
    image = torch.zeros(3, 8, width, dtype=torch.uint8)
    image[0], image[1] = red, green
    return image


def test_the_clean_tier_looks_into_the_box_only() -> None:
    query = paint(0, 250, width=32)
    query[:, :, :4] = paint(250, 0, width=4)
    truth = Truth(easy=(0,), hard=(0,), junk=(), box=(0.0, 0.0, 4.0, 8.0))
    landmarks = Landmarks([paint(250, 0), paint(0, 250)], [query], ["a query"], [truth])
    found = retrieval_protocol(Mean(), landmarks, Setting(0, ONE_SCALE), CPU)
    assert found["map_medium_clean"] == 100
    assert found["map_medium"] == 25


def test_several_scales_are_summed_and_normalised() -> None:
    torch.manual_seed(0)
    config = ModelConfig(dim=32, depth=2, heads=2, patch_size=8, drop_path=0.0)
    backbone = build_backbone(config, 32).eval()
    image = torch.randint(0, 256, (3, 48, 40), dtype=torch.uint8)
    pixels = normalise(image[None].float() / 255)
    with torch.no_grad():
        parts = [backbone(pixels)]
        for scale in THREE_SCALES[1:]:
            small = nn.functional.interpolate(
                pixels, scale_factor=scale, mode="bilinear", align_corners=False
            )
            height, width = (side // 8 * 8 for side in small.shape[-2:])
            parts.append(backbone(small[..., :height, :width]))
    expected = normalize(torch.stack(parts).sum(dim=0), dim=1)[0]
    found = describe(backbone, image, Setting(0, THREE_SCALES), CPU)
    torch.testing.assert_close(found, expected)
    assert float(found.norm()) == pytest.approx(1.0)
    assert describe(backbone, image[:, :1, :1], Setting(0, THREE_SCALES), CPU).shape == (32,)


def test_images_are_shrunk_to_fit_and_never_enlarged() -> None:
    image = torch.zeros(3, 100, 50, dtype=torch.uint8)
    assert fitted(image, 40).shape == (3, 40, 20)
    assert fitted(image, 200) is image
    assert fitted(image, 0) is image
    assert math.isclose(THREE_SCALES[1] ** 2, THREE_SCALES[2])
