"""Views: geometry, colour operations and the distribution of their parameters (F17)."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch.nn.functional import grid_sample
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as tv

from repro.config.schema import ViewsConfig
from repro.data.views import batched as views
from repro.data.views import draws, kinds
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
    first, second, local = kinds.view_kinds(SMALL)[:3]
    assert (first.blur, second.blur, local.blur) == (1.0, 0.1, 0.5)
    assert (first.solarise, second.solarise, local.solarise) == (0.0, 0.2, 0.0)


@pytest.mark.parametrize("scale", [(0.4, 1.0), (0.05, 0.4), (0.95, 1.0)])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (40, 24)])
def test_crop_boxes_have_the_distribution_of_torchvisions(
    scale: tuple[float, float], height: int, width: int
) -> None:
    count = 3000
    kind = kinds.View(32, scale, blur=0.0, solarise=0.0)
    drawn = draws.draw([kind], count, height, width, SMALL, generator(0, "test", 0))
    ours = drawn.box_VB4[0].numpy()
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
    box = torch.tensor([0.0, 0.0, 32.0, 32.0]).repeat(2, 3, 1)
    flip = torch.tensor([False, True])[:, None].expand(2, 3)
    same, flipped = views.crop_and_resize(pixels, box, flip, 32).split(3)
    torch.testing.assert_close(same, pixels, atol=1e-5, rtol=0)
    torch.testing.assert_close(flipped, pixels.flip(-1), atol=1e-5, rtol=0)


def test_a_crop_is_the_box_resized_bicubically() -> None:
    pixels = photographs(1).float() / 255
    box = torch.tensor([[[5.0, 9.0, 12.0, 14.0]]])
    ours = views.crop_and_resize(pixels, box, torch.zeros(1, 1, dtype=torch.bool), 24)
    cut = pixels[:, :, 5:17, 9:23]
    theirs = torch.nn.functional.interpolate(cut, size=(24, 24), mode="bicubic").clamp(0, 1)
    # Away from the box's border, where a crop cannot see its neighbours.
    assert float((ours - theirs)[..., 4:-4, 4:-4].abs().max()) < 1e-4


@pytest.mark.parametrize(
    ("ends", "reference", "factor"),
    [
        ((4, 4, 4), tv.adjust_brightness, 1.3),
        ((0, 4, 4), tv.adjust_contrast, 0.7),
        ((0, 0, 4), tv.adjust_saturation, 1.2),
    ],
)
def test_colour_operations_equal_torchvisions(ends, reference, factor) -> None:  # noqa: ANN001
    pixels = photographs(4).float() / 255
    ours = pixels.clone()
    views.colour_round_(ours, ends, torch.full((4,), factor))
    torch.testing.assert_close(ours, reference(pixels, factor), atol=2e-3, rtol=0)


@pytest.mark.parametrize("turn", [-0.5, -0.1, 0.0, 0.1, 0.37, 0.5])
def test_a_turn_of_hue_equals_torchvisions(turn: float) -> None:
    coarse = torch.tensor([0, 1, 64, 127, 128, 254, 255]) / 255  # every order and tie of channels
    cube = torch.cartesian_prod(coarse, coarse, coarse).T.reshape(1, 3, 7, 49)
    for pixels in (photographs(4).float() / 255, cube):
        ours = pixels.clone()
        views.turn_hue_(ours, torch.full((len(pixels),), turn * 2 * math.pi))
        torch.testing.assert_close(ours, tv.adjust_hue(pixels, turn), atol=1e-5, rtol=0)


def test_a_blur_equals_torchvisions_with_its_own_width_for_each_picture() -> None:
    pixels = photographs(3).float() / 255
    sigma = torch.tensor([0.1, 0.7, 2.0])
    ours = views.blur(pixels, draws.kernels(sigma, 32, widest_sigma=2.0))
    for picture, blurred, width in zip(pixels, ours, sigma.tolist(), strict=True):
        theirs = tv.gaussian_blur(picture, [13, 13], [width, width])
        torch.testing.assert_close(blurred, theirs, atol=1e-5, rtol=0)


def test_solarise_and_grey_equal_pils() -> None:
    image = photographs(1)[0]
    pil = Image.fromarray(image.permute(1, 2, 0).numpy())
    solarised = image[None].float() / 255
    views.solarise_(solarised)
    ours = (solarised * 255).round().to(torch.uint8)[0]
    assert torch.equal(ours, tv.pil_to_tensor(tv.solarize(pil, 128)))
    grey = (views.grey(image[None].float() / 255) * 255)[0].expand(3, -1, -1)
    reference = tv.pil_to_tensor(tv.to_grayscale(pil, 3)).float()
    assert float((grey - reference).abs().max()) <= 1.01  # PIL rounds


def one_by_one(images: torch.Tensor, config: ViewsConfig, seed: int) -> list[torch.Tensor]:
    """Every view of every image alone, by torchvision, in the order in which it was drawn."""
    batch, _, height, width = images.shape
    random = generator(seed, "views", 0)
    made = []
    for same in filter(None, (kinds.view_kinds(config)[:2], kinds.view_kinds(config)[2:])):
        drawn = draws.draw(same, batch, height, width, config, random)
        jitters = iter(zip(drawn.order_J4.tolist(), drawn.factor_4J.T.tolist(), strict=True))
        sigmas, boxes = iter(drawn.sigma_S.tolist()), drawn.box_VB4.flatten(0, 1)
        for crop, box in enumerate(boxes):
            view = crop_alone(images[crop % batch].float() / 255, box, same[0].size)
            if drawn.flip_VB.flatten()[crop]:
                view = tv.hflip(view)
            if drawn.jittered_M[crop]:
                order, factors = next(jitters)
                for operation in order:
                    view = JITTER[operation](view, factors[operation])
            if drawn.grey_M[crop]:
                view = tv.rgb_to_grayscale(view, 3)
            if drawn.blurred_M[crop]:
                side = 2 * min(math.ceil(3 * config.blur_sigma[1]), same[0].size - 1) + 1
                view = tv.gaussian_blur(view, [side, side], [next(sigmas)] * 2)
            if drawn.solarised_M[crop]:
                view = tv.solarize(view, 128 / 255)
            made.append(kinds.normalise(view[None])[0])
    return made


JITTER = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)


def crop_alone(image: torch.Tensor, box: torch.Tensor, size: int) -> torch.Tensor:
    """The box enlarged bicubically; what lies beside it is seen at its borders."""
    top, left, height, width = box.tolist()
    centres = (torch.arange(size) + 0.5) / size
    rows = (top + centres * height) / image.shape[1] * 2 - 1
    columns = (left + centres * width) / image.shape[2] * 2 - 1
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)[None]
    made = grid_sample(image[None], grid, "bicubic", "border", align_corners=False)
    return made[0].clamp(0, 1)


@pytest.mark.parametrize(
    ("count", "changes"),
    [
        (6, {}),
        (1, {}),
        (5, {"jitter": 1.0, "grey": 0.5, "blur": (0.5, 1.0, 0.5), "solarise": 0.6}),
        (5, {"jitter": 0.0}),
        (5, {"grey": 0.0, "blur": (0.0, 0.0, 0.0), "solarise": 1.0}),
        (5, {"grey": 1.0, "blur": (0.0, 0.0, 0.0), "solarise": 0.0, "local_number": 0}),
        (3, {"jitter": 0.0, "grey": 0.0, "blur": (0.0, 0.0, 0.0), "solarise": 0.0}),
    ],
)
def test_views_made_together_equal_torchvisions_made_one_by_one(count: int, changes) -> None:  # noqa: ANN001
    images = photographs(count)
    config = replace(SMALL, **changes)
    for seed in range(4):
        together = views.make_views(images, config, generator(seed, "views", 0))
        alone = one_by_one(images, config, seed)
        ours = [view for batch in together for view in batch]
        for number, (view, expected) in enumerate(zip(ours, alone, strict=True)):
            # Solarising jumps where a level is within rounding of the threshold.
            off = ((view - expected).abs() > 1e-3).float().mean()
            assert float(off) < 2e-3, f"seed {seed}, view {number}"


def drawn_once(config: ViewsConfig, count: int) -> draws.Draws:
    first = kinds.view_kinds(config)[:1]
    return draws.draw(first, count, 32, 32, config, generator(0, "test"))


def test_each_image_has_its_own_order_of_colour_operations() -> None:
    drawn = drawn_once(replace(SMALL, jitter=1.0, brightness=0.0), 300)
    assert len({tuple(order) for order in drawn.order_J4.tolist()}) == 24
    assert (drawn.order_J4.sort(dim=1).values == torch.arange(4)).all()
    assert (drawn.factor_4J[0] == 1).all()
    assert len(drawn.factor_4J[1:].unique()) > 880


def test_a_jitter_without_strength_changes_nothing() -> None:
    still = replace(SMALL, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)
    alone = {"grey": 0.0, "blur": (0.0, 0.0, 0.0), "local_number": 0, "solarise": 0.0}
    pixels = photographs(9).float() / 255
    # A first view has all draws of its crops before those of its colours.
    jittered, plain = (
        views.render(pixels, draws.plan(drawn_once(config, 9), 32, widest_sigma=0.5))
        for config in (replace(still, jitter=1.0, **alone), replace(still, jitter=0.0, **alone))
    )
    torch.testing.assert_close(jittered, plain, atol=1e-4, rtol=0)


def test_more_views_take_no_more_operations_on_pixels() -> None:
    """On a GPU a step of small images waits for the launches of its operations."""

    def operations(config: ViewsConfig, images: torch.Tensor) -> int:
        with CountedOperations() as counted:
            views.make_views(images, config, generator(0, "views", 0))
        return counted.on_pixels

    few = operations(SMALL, photographs(16))
    assert few == operations(replace(SMALL, local_number=9), photographs(32))
    assert few < 300


class CountedOperations(TorchDispatchMode):
    """Counts what a GPU would be asked to do: operations that make or change pictures."""

    VIEWS = ("view", "slice", "unbind", "expand", "permute", "select", "unsqueeze", "transpose")

    def __init__(self) -> None:
        super().__init__()
        self.on_pixels = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # noqa: ANN001, ANN204
        result = function(*args, **(kwargs or {}))
        name = function._schema.name.split("::")[1]
        tensors = [t for t in (result, *args) if isinstance(t, torch.Tensor)]
        pictures = any(t.dim() > 2 and t.shape[-1] in (32, 16) for t in tensors)
        self.on_pixels += pictures and name not in self.VIEWS
        return result


def test_probabilities_hold_over_many_draws() -> None:
    drawn = drawn_once(replace(SMALL, flip=0.2, jitter=0.7, grey=0.4, blur=(0.9, 0, 0)), 20_000)
    shares = {0.2: drawn.flip_VB, 0.7: drawn.jittered_M, 0.4: drawn.grey_M, 0.9: drawn.blurred_M}
    for chance, chosen in shares.items():
        share = float(chosen.float().mean())
        assert abs(share - chance) < 4 * math.sqrt(chance * (1 - chance) / 20_000)


def test_views_of_a_real_photograph_stay_in_range() -> None:
    for batch in views.make_views(photographs(8), SMALL, generator(1, "views", 0)):
        assert torch.isfinite(batch).all()
        low = min((0 - m) / s for m, s in zip(kinds.IMAGENET_MEAN, kinds.IMAGENET_STD, strict=True))
        high = max(
            (1 - m) / s for m, s in zip(kinds.IMAGENET_MEAN, kinds.IMAGENET_STD, strict=True)
        )
        assert low - 1e-4 <= float(batch.min())
        assert float(batch.max()) <= high + 1e-4
