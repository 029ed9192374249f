"""Self-attention maps against the weights of plain attention, masks and Jaccard against loops."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from repro.config.schema import CodePath, Family, ModelConfig
from repro.data.scenes import Scene
from repro.data.views.kinds import normalise
from repro.dino.backbones import build_backbone
from repro.dino.fast.kernels import REFERENCE, Kernels
from repro.dino.vit import DinoViT
from repro.errors import UserError
from repro.evals.attention import (
    attention_maps,
    best_jaccard,
    jaccard_protocol,
    keep_mass,
    to_image,
)

CPU = torch.device("cpu")
TINY = ModelConfig(dim=32, depth=3, heads=4, patch_size=8, drop_path=0.0)


def vit(kernels: Kernels = REFERENCE) -> DinoViT:
    torch.manual_seed(0)
    backbone = build_backbone(TINY, 32, kernels=kernels).eval()
    assert isinstance(backbone, DinoViT)
    return backbone


def plain_weights(backbone: DinoViT, images: Tensor) -> Tensor:
    """softmax(q k / sqrt(d)) of the last block, from timm's own modules, [B, A, tokens, tokens]."""
    seen: list[Tensor] = []
    last = backbone.blocks[-1].attn  # type: ignore[union-attr]
    hook = last.qkv.register_forward_hook(lambda _m, _i, out: seen.append(out))  # type: ignore[union-attr,operator]
    super(DinoViT, backbone).forward(images)
    hook.remove()
    batch, tokens, _ = seen[0].shape
    q, k, _ = seen[0].view(batch, tokens, 3, 4, 8).permute(2, 0, 3, 1, 4)
    return (q @ k.transpose(-1, -2) / math.sqrt(8)).softmax(dim=-1)


@pytest.mark.parametrize("path", CodePath)
@pytest.mark.parametrize("size", [(32, 32), (48, 80), (37, 44)])
def test_maps_are_the_cls_row_of_plain_attention_on_either_path(
    size: tuple[int, int], path: CodePath
) -> None:
    images = torch.randn(2, 3, *size)
    maps = attention_maps(vit(Kernels(path)), images)
    rows, columns = size[0] // 8, size[1] // 8
    expected = plain_weights(vit(), images[..., : rows * 8, : columns * 8])[:, :, 0, 1:]
    assert maps.shape == (2, 4, rows, columns)
    torch.testing.assert_close(maps.flatten(2), expected, rtol=1e-5, atol=1e-6)


def loop_mask(values: list[float], mass: float) -> list[bool]:
    """Walk from the largest patch down until the kept ones hold the mass."""
    order = sorted(range(len(values)), key=lambda place: (-values[place], -place))
    kept, total = [False] * len(values), sum(values)
    dropped = 1.0
    for place in order:
        if dropped <= 1 - mass:  # what is left of the mass may go
            break
        kept[place] = True
        dropped -= values[place] / total
    return kept


@settings(deadline=None)
@given(
    values=st.lists(st.integers(1, 1000), min_size=1, max_size=30),
    mass=st.sampled_from([0.6, 0.8, 0.3]),
)
def test_a_mask_keeps_the_fewest_patches_that_hold_the_mass(values: list[int], mass: float) -> None:
    maps = torch.tensor(values, dtype=torch.float64).view(1, 1, -1)
    kept = keep_mass(maps, mass).flatten().tolist()
    share = sum(v for v, k in zip(values, kept, strict=True) if k) / sum(values)
    assert share >= mass - 1e-9
    smallest = min(v for v, k in zip(values, kept, strict=True) if k)
    assert share - smallest / sum(values) <= mass + 1e-9
    assert kept == loop_mask([float(v) for v in values], mass) or abs(share - mass) < 1e-9


def test_the_jaccard_index_is_that_of_a_loop_over_pixels() -> None:
    random = torch.Generator().manual_seed(0)
    masks = torch.rand(3, 6, 7, generator=random) > 0.6
    objects = torch.rand(2, 6, 7, generator=random) > 0.5
    void = torch.rand(6, 7, generator=random) > 0.8
    expected = []
    for truth in objects:
        by_head = []
        for mask in masks:
            both = either = 0
            for y in range(6):
                for x in range(7):
                    if not void[y, x]:
                        both += int(mask[y, x] & truth[y, x])
                        either += int(mask[y, x] | truth[y, x])
            by_head.append(both / either)
        expected.append(max(by_head))
    torch.testing.assert_close(best_jaccard(masks, objects, void), torch.tensor(expected))


def test_masks_are_enlarged_without_smoothing_and_cut_edges_stay_empty() -> None:
    mask = torch.tensor([[True, False]])
    pixels = to_image(mask, 3, 5, 2)
    assert pixels.int().tolist() == [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]]


def scene(size: tuple[int, int], *objects: Tensor, void: Tensor | None = None) -> Scene:
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    none = torch.zeros(size, dtype=torch.bool)
    stacked = torch.stack(objects) if objects else torch.zeros(0, *size, dtype=torch.bool)
    return Scene(image, stacked, none if void is None else void)


def test_the_protocol_finds_the_very_mask_of_a_head() -> None:
    backbone, drawn = vit(), scene((32, 32))
    pixels = normalise(drawn.image_3HW[None].float() / 255)
    masks = to_image(keep_mass(attention_maps(backbone, pixels)[0]), 32, 32, 8)
    exact = Scene(drawn.image_3HW, masks[2][None], drawn.void_HW)
    found = jaccard_protocol(backbone, [exact], 0, CPU)
    assert found == {"jaccard": 100.0, "jaccard_clean": 100.0}


def test_void_counts_against_the_official_tier_only() -> None:
    backbone, full = vit(), torch.ones(32, 32, dtype=torch.bool)
    left = full.clone()
    left[:, 16:] = False
    found = jaccard_protocol(backbone, [scene((32, 32), left, void=~left)], 0, CPU)
    assert found["jaccard_clean"] > found["jaccard"] > 0


def test_images_without_objects_are_left_out_and_none_at_all_is_refused() -> None:
    backbone, full = vit(), torch.ones(32, 32, dtype=torch.bool)
    empty, one = scene((32, 32)), scene((32, 32), full)
    assert jaccard_protocol(backbone, [empty, one], 0, CPU) == jaccard_protocol(
        backbone, [one], 0, CPU
    )
    with pytest.raises(UserError, match="none of these images has an object"):
        jaccard_protocol(backbone, [empty], 0, CPU)


def test_the_official_tier_squeezes_images_and_the_clean_one_keeps_their_aspect() -> None:
    sizes: list[tuple[int, ...]] = []
    backbone = vit()
    plain = backbone.last_attention

    def watched(images: Tensor) -> Tensor:
        sizes.append(tuple(images.shape[-2:]))
        return plain(images)

    backbone.last_attention = watched  # type: ignore[method-assign]
    jaccard_protocol(backbone, [scene((30, 60), torch.ones(30, 60, dtype=torch.bool))], 40, CPU)
    assert sizes == [(40, 40), (40, 80)]


def test_what_has_no_attention_is_one_line() -> None:
    resnet = build_backbone(ModelConfig(family=Family.timm, name="resnet18"), 32)
    with pytest.raises(UserError, match="is no plain ViT and has none"):
        attention_maps(resnet, torch.zeros(1, 3, 32, 32))
    with pytest.raises(UserError, match="1 x 1 pixels is smaller than a patch"):
        attention_maps(vit(), torch.zeros(1, 3, 1, 1))
