"""The fast path's views against torchvision on PIL: the same draws, and pixels but for rounding."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms as T

from repro.config.schema import ViewsConfig
from repro.data.photographs import load_photograph
from repro.data.views import fast as fast_views
from repro.data.views.fast import Draw, Jitter, render
from repro.data.views.kinds import IMAGENET_MEAN, IMAGENET_STD, to_pixels, view_kinds
from repro.data.views.reference import view_transform

TRANSFORMS = [
    view_transform(kind, ViewsConfig(local_number=2)) for kind in view_kinds(ViewsConfig())
]
MEAN = torch.tensor(IMAGENET_MEAN).view(3, 1, 1)
STD = torch.tensor(IMAGENET_STD).view(3, 1, 1)


def jpeg(name: str = "coffee", size: tuple[int, int] = (500, 375)) -> Image.Image:
    """A photograph of ImageNet's usual size, still undecoded."""
    photograph = Image.fromarray(load_photograph(name).permute(1, 2, 0).numpy())
    content = io.BytesIO()
    photograph.resize(size, Image.Resampling.BICUBIC).save(content, "JPEG", quality=90)
    return Image.open(content)


def levels(normalised: Tensor) -> Tensor:
    return (normalised * STD + MEAN) * 255


def both_paths(seed: int, name: str) -> list[tuple[Draw, Tensor, Tensor]]:
    """Draw, view of the reference path and view of the fast path, in levels, of all ten views."""
    image = jpeg(name)
    torch.manual_seed(seed)
    plain = [levels(transform(image.convert("RGB"))) for transform in TRANSFORMS]
    torch.manual_seed(seed)
    draws = [fast_views.draw(transform, image) for transform in TRANSFORMS]
    torch.manual_seed(seed)
    fast = [view.float() for view in fast_views.make_views(jpeg(name), TRANSFORMS, reduced=False)]
    return list(zip(draws, plain, fast, strict=True))


@pytest.mark.parametrize("name", ["coffee", "astronaut", "brick"])
def test_the_same_seed_gives_the_same_views_on_both_paths(name: str) -> None:
    for seed in range(3):
        for drawn, plain, fast in both_paths(seed, name):
            difference = (plain - fast).abs()
            untouched = drawn.jitter is None and drawn.blur is None
            # Levels of 255. The same crop, flip and grey: one level, and seldom. Colours in eight
            # bits round at every operation; the blur is PIL's but for its three boxes.
            assert float(difference.mean()) < (0.05 if untouched else 2.0), drawn
            assert float(difference.max()) <= (1.01 if untouched else 64), drawn


def test_the_fast_views_are_no_brighter_and_no_duller_than_the_reference() -> None:
    """A bias would be another distribution; rounding must cancel over many views."""
    pairs = [pair for seed in range(6) for pair in both_paths(seed, "astronaut")]
    plain = torch.cat([p.flatten(1) for _, p, _ in pairs], dim=1)
    fast = torch.cat([f.flatten(1) for _, _, f in pairs], dim=1)
    torch.testing.assert_close(fast.mean(dim=1), plain.mean(dim=1), atol=0.5, rtol=0)
    torch.testing.assert_close(fast.std(dim=1), plain.std(dim=1), atol=0.5, rtol=0)


@pytest.mark.parametrize("factor", [0.6, 0.93, 1.0, 1.27, 1.4])
@pytest.mark.parametrize("operation", [0, 1, 2])
def test_brightness_contrast_and_saturation_are_pils(operation: int, factor: float) -> None:
    image = jpeg("retina").convert("RGB").resize((64, 64))
    names = ["adjust_brightness", "adjust_contrast", "adjust_saturation"]
    theirs = np.array(getattr(T.functional, names[operation])(image, factor)).astype(int)
    jitter = Jitter([operation], factor, factor, factor, 0.0)
    whole = Draw(64, (0, 0, 64, 64), False, jitter, False, None, False)
    ours = render(np.array(image), whole).astype(int)
    assert np.abs(ours - theirs).max() <= 1


@pytest.mark.parametrize("shift", [-0.1, -0.03, 0.0, 0.05, 0.1])
def test_the_hue_turns_by_the_same_angle(shift: float) -> None:
    image = jpeg("coffee").convert("RGB").resize((64, 64))
    theirs = np.array(T.functional.adjust_hue(image, shift)).astype(int)
    whole = Draw(64, (0, 0, 64, 64), False, Jitter([3], 1, 1, 1, shift), False, None, False)
    ours = render(np.array(image), whole).astype(int)
    assert np.abs(ours - theirs).mean() < 1.5
    unturned = np.abs(np.array(image).astype(int) - theirs).mean()
    assert shift == 0 or unturned > 3 * np.abs(ours - theirs).mean()


def test_a_large_photograph_may_be_decoded_at_reduced_size_and_gives_nearly_the_same_views() -> (
    None
):
    large = (3000, 2250)
    torch.manual_seed(0)
    whole = fast_views.make_views(jpeg("coffee", large), TRANSFORMS, reduced=False)
    torch.manual_seed(0)
    image = jpeg("coffee", large)
    reduced = fast_views.make_views(image, TRANSFORMS, reduced=True)
    assert image.size[0] in (1500, 750), "decoded at full size"
    for a, b in zip(whole, reduced, strict=True):
        assert float((a.float() - b.float()).abs().mean()) < 2.5


def test_an_image_of_usual_size_is_never_decoded_below_what_its_crops_need() -> None:
    for seed in range(5):
        torch.manual_seed(seed)
        image = jpeg()
        fast_views.make_views(image, TRANSFORMS, reduced=True)
        assert image.size == (500, 375)


def test_levels_become_the_reference_paths_floats() -> None:
    view = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(levels(to_pixels(view)[0]), view[0].float(), atol=1e-3, rtol=0)
    normalised = torch.randn(2, 3, 8, 8)
    assert to_pixels(normalised) is normalised
