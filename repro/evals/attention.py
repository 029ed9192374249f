"""Self-attention of the last layer (Figures 1, 3, 4; App. D): maps by head, masks, Jaccard index.

The [CLS] query of the last layer looks at the patches, head by head. A mask keeps the patches that
hold 60 % of a head's attention, enlarged to pixels without smoothing; per object the best head
counts, the mean over the objects of an image, then over images (issue 54 of the authors' code).

Two tiers. `official` as the authors' snippet and visualiser: images as stored, squeezed to squares
bilinearly, and void pixels, which PASCAL VOC leaves unlabelled around objects, count as background.
`clean`: images upright, in their aspect, bicubic, and void pixels count neither way.

Fused kernels return no attention weights: they are computed for the last layer alone, and all
layers before it run on whichever kernels the backbone has.

Shapes: B images, A heads, H x W pixels, h x w patches, N patches, O objects.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from repro.data.disk.masks import VOID_ALONE
from repro.data.scenes import Scene, looked_at, resized, squeezed
from repro.data.views.kinds import normalise
from repro.dino.vit import DinoViT
from repro.errors import UserError
from repro.evals.judged import Keep, forget

MASS = 0.6  # App. D's text says 80 %, Figure 4 and the code 60 %; the numbers are the same


@torch.no_grad()
def attention_maps(backbone: nn.Module, images: Tensor) -> Tensor:
    """The last layer's attention of [CLS] to the patches, [B, A, h, w]; with [CLS] it sums to 1.

    Args:
        images: normalised, [B, 3, H, W]; what is no whole patch is cut off at the right and below.

    Raises:
        UserError: a backbone without attention, or images smaller than a patch.
    """
    if not isinstance(backbone, DinoViT):
        raise UserError("self-attention: this backbone is no plain ViT and has none")
    patch = patch_of(backbone)
    rows, columns = images.shape[-2] // patch, images.shape[-1] // patch
    if not rows or not columns:
        size = f"{images.shape[-2]} x {images.shape[-1]}"
        raise UserError(f"self-attention: an image of {size} pixels is smaller than a patch")
    whole = images[..., : rows * patch, : columns * patch]
    weights_BAN = backbone.last_attention(whole)[:, :, 1:]
    return weights_BAN.reshape(*weights_BAN.shape[:2], rows, columns)


def keep_mass(maps: Tensor, mass: float = MASS) -> Tensor:
    """The fewest patches of each head that hold this share of its attention, bool, same shape.

    As in the authors' code: patches in ascending order, of which those are kept where the running
    sum exceeds 1 - mass. Equal patches may be told apart by their order.
    """
    flat_N = maps.flatten(-2)
    ascending_N, order_N = flat_N.sort(dim=-1, stable=True)
    running_N = (ascending_N / ascending_N.sum(dim=-1, keepdim=True)).cumsum(dim=-1)
    kept_N = torch.zeros_like(flat_N, dtype=torch.bool)
    return kept_N.scatter(-1, order_N, running_N > 1 - mass).view(maps.shape)


def to_image(maps: Tensor, height: int, width: int, patch: int) -> Tensor:
    """Maps or masks [..., h, w] in the pixels of the image, [..., H, W]; zeros where it was cut."""
    pixels = maps.repeat_interleave(patch, dim=-2).repeat_interleave(patch, dim=-1)
    padding = (0, width - pixels.shape[-1], 0, height - pixels.shape[-2])
    return pad(pixels, padding)


def best_jaccard(masks_AHW: Tensor, objects_OHW: Tensor, void_HW: Tensor) -> Tensor:
    """The Jaccard index of each object with the head that suits it best, in [0, 1], [O]."""
    seen = (~void_HW).flatten()
    masks_AP = masks_AHW.flatten(1)[:, seen].float()
    objects_OP = objects_OHW.flatten(1)[:, seen].float()
    both_OA = objects_OP @ masks_AP.T
    either_OA = objects_OP.sum(dim=1)[:, None] + masks_AP.sum(dim=1)[None] - both_OA
    return (both_OA / either_OA.clamp(min=1)).amax(dim=1)


def jaccard_protocol(
    backbone: nn.Module,
    scenes: Iterable[Scene],
    size: int,
    device: torch.device,
    keep: Keep = forget,
) -> dict[str, float]:
    """{"jaccard": official, "jaccard_clean": clean}, percent: means over images with an object.

    Args:
        size: images are resized to squares of this side (official), or so that their shorter side
            has it (clean); 0: as they are.
        keep: takes the index of each image with an object, by number.

    Raises:
        UserError: a backbone without attention, or no object in any image.
    """
    backbone.eval()
    official, clean, void = [], [], False
    for scene in scenes:
        square = squeezed(scene, size) if size else scene
        masks_AHW = _masks(backbone, square, device)
        official += _best_of_scene(masks_AHW, square, torch.zeros_like(square.void_HW))
        void |= bool(scene.void_HW.any())
        seen = looked_at(scene)
        kept = resized(seen, _shorter(seen, size)) if size else seen
        if not torch.equal(kept.image_3HW, square.image_3HW):
            masks_AHW = _masks(backbone, kept, device)
        clean += _best_of_scene(masks_AHW, kept, kept.void_HW)
    if not official or not clean:
        hint = f"; their masks hold {VOID_ALONE}" if void else ""
        raise UserError(f"self-attention: none of these images has an object{hint}")
    means = {"jaccard": official, "jaccard_clean": clean}
    for name, values in means.items():
        keep(name, values)
    return {name: 100 * sum(values) / len(values) for name, values in means.items()}


def _masks(backbone: nn.Module, scene: Scene, device: torch.device) -> Tensor:
    """Every head's mask in pixels, [A, H, W]."""
    pixels = normalise(scene.image_3HW[None].to(device).float() / 255)
    maps_Ahw = attention_maps(backbone, pixels)[0].cpu()
    height, width = scene.void_HW.shape
    return to_image(keep_mass(maps_Ahw), height, width, patch_of(backbone))


def _best_of_scene(masks_AHW: Tensor, scene: Scene, void_HW: Tensor) -> list[float]:
    """The mean over the objects of an image; nothing where no object is to be seen."""
    objects_OHW = scene.objects_OHW & ~void_HW
    objects_OHW = objects_OHW[objects_OHW.flatten(1).any(dim=1)]
    if not len(objects_OHW):
        return []
    return [float(best_jaccard(masks_AHW, objects_OHW, void_HW).mean())]


def patch_of(backbone: nn.Module) -> int:
    """The side of a ViT's patches, in pixels."""
    assert isinstance(backbone, DinoViT)
    return int(backbone.patch_embed.patch_size[0])


def _shorter(scene: Scene, size: int) -> tuple[int, int]:
    """Height and width of the image when its shorter side is `size`."""
    height, width = scene.void_HW.shape
    scale = size / min(height, width)
    return round(scale * height), round(scale * width)
