"""Labels handed from frame to frame: against a plain loop, and on videos that stand still."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from repro.config.schema import Family, ModelConfig
from repro.data.videos import MadeClips, Video, make_clip
from repro.dino.backbones import build_backbone
from repro.dino.vit import DinoViT
from repro.errors import UserError
from repro.evals import video as module
from repro.evals.features.layers import last_blocks
from repro.evals.video import (
    DEVIATIONS,
    Context,
    _decide,
    _nearest,
    _pixels,
    _size,
    follow,
    propagate,
    video_protocol,
)

CPU = torch.device("cpu")


def backbone() -> DinoViT:
    torch.manual_seed(0)
    made = build_backbone(ModelConfig(dim=32, depth=2, heads=2, patch_size=8, drop_path=0.0), 32)
    assert isinstance(made, DinoViT)
    return made.eval()


def loop(
    target: Tensor, context: list[Context], grid: tuple[int, int], radius: int, k: int
) -> list[list[float]]:
    """A patch at a time: the k most similar patches nearby, weighted, in plain Python."""
    shares = []
    for place in range(len(target)):
        near = []
        for frame in context:
            for other in range(len(target)):
                rows = abs(place // grid[1] - other // grid[1])
                columns = abs(place % grid[1] - other % grid[1])
                if max(rows, columns) <= radius:
                    weight = math.exp(float(target[place] @ frame.features_PD[other]) / 0.1)
                    near.append((weight, frame.labels_PC[other].tolist()))
        best = sorted(near, key=lambda pair: -pair[0])[:k]
        total = sum(weight for weight, _ in best)
        classes = range(len(best[0][1]))
        shares.append([sum(w * labels[c] for w, labels in best) / total for c in classes])
    return shares


@pytest.mark.parametrize("targets", [3, 1024])
def test_propagation_is_that_of_a_plain_loop(monkeypatch: pytest.MonkeyPatch, targets: int) -> None:
    monkeypatch.setattr(module, "RADIUS", 1)
    monkeypatch.setattr(module, "TARGETS", targets)
    random = torch.Generator().manual_seed(0)
    grid, patches = (3, 4), 12

    def frame() -> Context:
        features = normalize(torch.randn(patches, 6, generator=random), dim=1)
        return Context(features, torch.rand(patches, 3, generator=random))

    target, context = frame().features_PD, [frame(), frame()]
    expected = torch.tensor(loop(target, context, grid, radius=1, k=5))
    torch.testing.assert_close(propagate(target, context, grid), expected)


def still(frames: int, size: int = 64) -> Video:
    random = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (3, size, size), dtype=torch.uint8, generator=random)
    marks = torch.zeros(size, size, dtype=torch.uint8)
    marks[16:40, 16:40] = 1
    return Video("still", [image] * frames, [marks] * frames)


class Some(list[Video]):
    """Videos in a list."""


def test_a_video_that_stands_still_keeps_its_masks() -> None:
    video = still(6)
    said = follow(backbone(), video, 0, (0.229, 0.224, 0.225), CPU)
    truth = video.marks[0].numpy()
    assert np.array_equal(said[0], truth)
    for marks in said[1:]:
        both, either = (marks & truth).sum(), (marks | truth).sum()
        assert both / either > 0.8  # to the accuracy of patches
    metrics, by_sequence = video_protocol(backbone(), Some([video]), 0, CPU, say=lambda _: None)
    assert metrics["j_mean"] == by_sequence["still"]["j_mean"] > 80
    assert {"jf_mean", "f_mean", "jf_mean_clean"} <= metrics.keys()


@pytest.mark.parametrize("level", [1.0, 1 - 1e-7])
def test_an_object_that_fills_the_frame_is_not_lost(level: float) -> None:
    """Shares that are the same everywhere cannot be stretched; the authors' code divides by 0."""
    shares_PC = torch.tensor([0.0, level]).repeat(16, 1)
    assert (_decide(shares_PC, (4, 4), 2, (8, 8)) == 1).all()
    shares_PC[3] = torch.tensor([0.4, 0.6])
    assert _decide(shares_PC, (4, 4), 2, (8, 8))[0, 7] == 0


def test_clips_are_followed_better_than_by_their_first_mask() -> None:
    clips = MadeClips(count=4, frames=6, side=96)
    metrics, _ = video_protocol(backbone(), clips, 0, CPU, say=lambda _: None)
    assert 20 < metrics["jf_mean"] < 100


def test_frames_take_the_size_of_the_authors() -> None:
    assert _size(1080, 1920, 480) == (480, 832)
    assert _size(854, 480, 480) == (832, 480)
    assert _size(100, 100, 0) == (100, 100)


@pytest.mark.parametrize(
    ("small", "large", "ties"), [(832, 854, {640: 623}), (128, 112, {3: 3, 10: 11, 80: 91})]
)
def test_where_two_pixels_are_as_near_marks_are_of_the_one_that_the_authors_script_takes(
    small: int, large: int, ties: dict[int, int]
) -> None:
    """Column 640 of DAVIS's frames is one, of which torch takes the other."""
    for shift in (0, 2):  # marks are bytes: two pictures tell a thousand places apart
        numbers = (np.arange(small) >> 4 * shift) & 255
        marks = numbers.astype(np.uint8)[None].repeat(2, axis=0)
        resized = _nearest(marks, (2, large))
        for place in range(large):
            exact = (2 * place + 1) * small / (2 * large)
            near = {math.floor(exact), math.floor(exact) - (exact == math.floor(exact))}
            taken = {ties[place]} if place in ties else near
            assert set(resized[:, place].tolist()) <= {int(numbers[i]) for i in taken}


def test_the_official_tier_divides_red_by_the_authors_0_228() -> None:
    white = torch.full((3, 8, 8), 255, dtype=torch.uint8)
    red, green, blue = _pixels(white, (8, 8), DEVIATIONS[""])[0, :, 0, 0].tolist()
    assert red == pytest.approx((1 - 0.485) / 0.228)
    clean = _pixels(white, (8, 8), DEVIATIONS["_clean"])[0, :, 0, 0].tolist()
    assert clean == pytest.approx([(1 - 0.485) / 0.229, green, blue])


def test_tokens_are_those_of_the_last_norm() -> None:
    network, images = backbone(), torch.randn(2, 3, 32, 48)
    with torch.no_grad():
        expected = network.forward_features(images)
    ((cls, patches),) = last_blocks(network, images)
    torch.testing.assert_close(cls, expected[:, 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(patches, expected[:, 1:], rtol=1e-4, atol=1e-5)


def test_what_cannot_be_followed_is_one_line() -> None:
    resnet = build_backbone(ModelConfig(family=Family.timm, name="resnet18"), 32)
    with pytest.raises(UserError, match="no patch tokens"):
        follow(resnet, still(3), 0, (1.0, 1.0, 1.0), CPU)
    with pytest.raises(UserError, match="video still: frames of 4 x 4, less than a patch"):
        follow(backbone(), still(3, size=4), 0, (1.0, 1.0, 1.0), CPU)
    with pytest.raises(UserError, match="it takes three"):
        video_protocol(backbone(), Some([still(1)]), 0, CPU)


@pytest.mark.parametrize("what", ["frame", "mask"])
def test_frames_and_masks_of_several_sizes_are_named(what: str) -> None:
    video = still(3)
    frames, marks = list(video.frames), list(video.marks)
    changed = frames if what == "frame" else marks
    changed[1] = changed[1][..., :-1]
    with pytest.raises(UserError, match=rf"{what} 1 is \[64, 63\], the first mask \[64, 64\]"):
        video_protocol(backbone(), [Video("odd", frames, marks)], 0, CPU)


def test_made_clips_move_and_are_the_same_every_time() -> None:
    frames, marks = make_clip(1, 4, 64)
    again, _ = make_clip(1, 4, 64)
    assert torch.equal(frames, again)
    assert set(torch.unique(marks[0]).tolist()) == {0, 1, 2}
    assert not torch.equal(marks[0], marks[-1])
    assert set(torch.unique(make_clip(0, 2, 64)[1]).tolist()) == {0, 1}
