"""Views: geometry, colour operations and the distribution of their parameters (F17)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as tv

from repro.config.schema import ViewsConfig
from repro.data.views import batched as views
from repro.data.views import kinds
from repro.randomness import generator

SMALL = ViewsConfig(global_size=32, local_size=16, local_number=3, blur_sigma=(0.1, 0.5))


def photographs(count: int, side: int = 32) -> torch.Tensor:
    """Smooth coloured images, uint8 [count, 3, side, side]."""
    random = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, 3, 4, 4, generator=random)
    fine = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic")
    return (fine.clamp(0, 1) * 255).to(torch.uint8)


def test_two_global_and_n_local_views_are_laid_out_view_by_view() -> None:
    batches = views.make_views(photographs(5), SMALL, generator(0, "views", 0))
    assert [tuple(batch.shape) for batch in batches] == [(10, 3, 32, 32), (15, 3, 16, 16)]
    only_global = ViewsConfig(global_size=32, local_number=0)
    batches = views.make_views(photographs(5), only_global, generator(0, "views", 0))
    assert [tuple(batch.shape) for batch in batches] == [(10, 3, 32, 32)]


def test_views_depend_on_seed_and_step_alone() -> None:
    images = photographs(4)
    first = views.make_views(images, SMALL, generator(3, "views", 7))
    torch.manual_seed(99)
    again = views.make_views(images, SMALL, generator(3, "views", 7))
    other = views.make_views(images, SMALL, generator(3, "views", 8))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_blur_and_solarise_follow_the_authors_asymmetric_probabilities() -> None:
    first, second, local = views.view_kinds(SMALL)[:3]
    assert (first.blur, second.blur, local.blur) == (1.0, 0.1, 0.5)
    assert (first.solarise, second.solarise, local.solarise) == (0.0, 0.2, 0.0)


@pytest.mark.parametrize("scale", [(0.4, 1.0), (0.05, 0.4), (0.95, 1.0)])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (40, 24)])
def test_crop_boxes_have_the_distribution_of_torchvisions(
    scale: tuple[float, float], height: int, width: int
) -> None:
    count = 3000
    ours = views.draw_crops(count, height, width, scale, generator(0, "test", 0)).numpy()
    image = torch.empty(3, height, width)
    torch.manual_seed(0)
    params = [
        RandomResizedCrop.get_params(image, list(scale), [3 / 4, 4 / 3]) for _ in range(count)
    ]
    theirs = np.array(params)
    assert (ours[:, 0] + ours[:, 2] <= height).all()
    assert (ours[:, 1] + ours[:, 3] <= width).all()
    for column in range(4):
        assert stats.ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-4
    areas = [(box[:, 2] * box[:, 3]) for box in (ours, theirs)]
    assert stats.ks_2samp(*areas).pvalue > 1e-4


def test_an_unflipped_full_box_of_the_same_size_is_the_image_itself() -> None:
    pixels = photographs(3).float() / 255
    box = torch.tensor([[0.0, 0.0, 32.0, 32.0]]).repeat(3, 1)
    same = views.crop_and_resize(pixels, box, torch.zeros(3, dtype=torch.bool), 32)
    torch.testing.assert_close(same, pixels, atol=1e-5, rtol=0)
    flipped = views.crop_and_resize(pixels, box, torch.ones(3, dtype=torch.bool), 32)
    torch.testing.assert_close(flipped, pixels.flip(-1), atol=1e-5, rtol=0)


def test_a_crop_is_the_box_resized_bicubically() -> None:
    pixels = photographs(1).float() / 255
    box = torch.tensor([[5.0, 9.0, 12.0, 14.0]])
    ours = views.crop_and_resize(pixels, box, torch.zeros(1, dtype=torch.bool), 24)
    cut = pixels[:, :, 5:17, 9:23]
    theirs = torch.nn.functional.interpolate(cut, size=(24, 24), mode="bicubic").clamp(0, 1)
    # Away from the box's border, where a crop cannot see its neighbours.
    assert float((ours - theirs)[..., 4:-4, 4:-4].abs().max()) < 1e-4


@pytest.mark.parametrize(
    ("operation", "reference", "factor"),
    [
        (views._brightness, tv.adjust_brightness, 1.3),
        (views._contrast, tv.adjust_contrast, 0.7),
        (views._saturation, tv.adjust_saturation, 1.2),
        (views._hue, tv.adjust_hue, -0.1),
    ],
)
def test_colour_operations_equal_torchvisions(operation, reference, factor) -> None:  # noqa: ANN001
    pixels = photographs(4).float() / 255
    ours = operation(pixels, torch.full((4, 1, 1, 1), factor))
    torch.testing.assert_close(ours, reference(pixels, factor), atol=2e-3, rtol=0)


def test_solarise_and_grey_equal_pils() -> None:
    image = photographs(1)[0]
    pil = Image.fromarray(image.permute(1, 2, 0).numpy())
    ours = (views._solarise(image[None].float() / 255) * 255).round().to(torch.uint8)[0]
    assert torch.equal(ours, tv.pil_to_tensor(tv.solarize(pil, 128)))
    grey = (views._grey(image[None].float() / 255) * 255)[0]
    reference = tv.pil_to_tensor(tv.to_grayscale(pil, 3)).float()
    assert float((grey - reference).abs().max()) <= 1.01  # PIL rounds


def test_each_image_has_its_own_order_of_colour_operations() -> None:
    same = photographs(1).repeat(64, 1, 1, 1).float() / 255
    config = ViewsConfig(brightness=0.0, contrast=0.4, saturation=0.2, hue=0.1)
    jittered = views._jitter(config, generator(0, "test", 1))(same)
    assert len({tuple(image.flatten()[:6].tolist()) for image in jittered}) > 60
    still = ViewsConfig(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)
    unchanged = views._jitter(still, generator(0, "test", 1))(same)
    torch.testing.assert_close(unchanged, same, atol=1e-5, rtol=0)


def test_an_operation_reaches_the_chosen_images_only() -> None:
    pixels = photographs(6).float() / 255
    chosen = torch.tensor([True, False, True, False, False, True])
    result = views._apply(pixels, chosen, lambda x: x * 0)
    assert torch.equal(result[~chosen], pixels[~chosen])
    assert float(result[chosen].abs().max()) == 0
    assert views._apply(pixels, torch.zeros(6, dtype=torch.bool), lambda x: x * 0) is pixels


def test_probabilities_hold_over_many_draws() -> None:
    random = generator(0, "test", 2)
    share = float(views._happens(20_000, 0.2, random).float().mean())
    assert abs(share - 0.2) < 4 * math.sqrt(0.2 * 0.8 / 20_000)


def test_views_of_a_real_photograph_stay_in_range() -> None:
    for batch in views.make_views(photographs(8), SMALL, generator(1, "views", 0)):
        assert torch.isfinite(batch).all()
        low = min((0 - m) / s for m, s in zip(kinds.IMAGENET_MEAN, kinds.IMAGENET_STD, strict=True))
        high = max(
            (1 - m) / s for m, s in zip(kinds.IMAGENET_MEAN, kinds.IMAGENET_STD, strict=True)
        )
        assert low - 1e-4 <= float(batch.min())
        assert float(batch.max()) <= high + 1e-4
