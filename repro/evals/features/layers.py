"""Frozen features (App. F): final-norm [CLS] of a ViT, pooled features of a ResNet.

Shapes: N images, B of a batch, P patches, D feature width, F width of what is taken of several
layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from repro import distributed
from repro.data.dataset import Split
from repro.dino.vit import DinoViT

FULL = 128 * 224 * 224  # pixels of a batch that keeps a GPU busy
TOKENS_IN_CACHE = (
    4096  # of a batch on a CPU; with four times as many a laptop ViT takes 1.7 as long
)
PIXEL_SIDE = 32  # raw pixels are compared at no more than 32 x 32


@dataclass(frozen=True)
class Layers:
    """What is taken of a ViT: the [CLS] tokens of the last `blocks` blocks, each through the final
    norm, with `pooled` their mean patch tokens, too. Of a ResNet, its pooled features always.
    """

    blocks: int = 1
    pooled: bool = False


@torch.no_grad()
def layer_features(backbone: nn.Module, images: Tensor, layers: Layers) -> Tensor:
    """Features of images [B, 3, H, W]: [B, F]; of a shallower ViT, all its blocks."""
    if not isinstance(backbone, DinoViT) or layers == Layers():
        return cast(Tensor, backbone(images)).float()
    count = min(layers.blocks, len(backbone.blocks))
    if backbone.kernels.fast and images.device.type == "cpu" and not layers.pooled:
        # In two fifths of the time, with other rounding (parity class B); measured on CPUs.
        tokens = backbone.patch_embed.num_patches + 1
        some = torch.split(images, max(1, TOKENS_IN_CACHE // tokens))
        parts = [torch.cat(backbone.last_class_tokens(part, count), dim=1) for part in some]
        return torch.cat(parts)
    blocks = last_blocks(backbone, images, count)
    parts = [cls_BD for cls_BD, _ in blocks]
    if layers.pooled:
        parts += [patches_BPD.mean(dim=1) for _, patches_BPD in blocks]
    return torch.cat(parts, dim=1)


@torch.no_grad()
def last_blocks(backbone: DinoViT, images: Tensor, count: int = 1) -> list[tuple[Tensor, Tensor]]:
    """[CLS] [B, D] and patch tokens [B, P, D] of the last blocks, each through the final norm."""
    backbone.hold_to_patches(images)
    blocks: Any = backbone.forward_intermediates(
        images, indices=count, return_prefix_tokens=True, norm=True, output_fmt="NLC",
        intermediates_only=True,
    )  # fmt: skip
    return [(prefix_B1D[:, 0].float(), patches_BPD.float()) for patches_BPD, prefix_B1D in blocks]


@torch.no_grad()
def extract_features(
    backbone: nn.Module, split: Split, batch_size: int, device: torch.device
) -> Tensor:
    """Features of all images in evaluation mode and fp32, [N, D] on `device`.

    Of several ranks every one extracts its share, and the first receives the others', into host
    memory; the others have none, [0, D].
    """
    was_training = backbone.training
    backbone.eval()
    part = (distributed.rank(), distributed.ranks())
    batches = for_device(split.evaluation_batches(batch_size, part), device)
    features = (backbone(images.to(device, non_blocking=True)).float() for images in batches)
    share_ND = _stacked(features, len(distributed.share(split.labels_N, part)))
    backbone.train(was_training)
    return distributed.gather_shares(share_ND, len(split.labels_N))


def _stacked(batches: Iterable[Tensor], rows: int) -> Tensor:
    """The rows of all batches. Pieces that are joined at the end would need twice the room."""
    whole, done = torch.empty(0), 0
    for batch in batches:
        if not done:  # only now is their width known
            whole = batch.new_empty(rows, *batch.shape[1:])
        whole[done : done + len(batch)] = batch
        done += len(batch)
    return whole


def for_device(batches: Iterable[Tensor], device: torch.device) -> Iterator[Tensor]:
    """The batches as they are; for a GPU small images in larger ones, see `joined`."""
    return joined(batches, FULL) if device.type == "cuda" else iter(batches)


def joined(batches: Iterable[Tensor], pixels: int) -> Iterator[Tensor]:
    """Batches [B, 3, H, W] joined until they have so many pixels: a GPU takes as long for a few
    small images as for thousands.
    """
    waiting: list[Tensor] = []
    for images in batches:
        waiting.append(images)
        if sum(some[:, 0].numel() for some in waiting) >= pixels:
            yield torch.cat(waiting) if len(waiting) > 1 else images
            waiting = []
    if waiting:
        yield torch.cat(waiting)


@torch.no_grad()
def pixel_features(split: Split, batch_size: int) -> Tensor:
    """Normalised pixels, averaged down to at most 32 x 32 and flattened, [N, 3 x side x side].

    Of several ranks the first has those of all, as in `extract_features`.
    """
    part = (distributed.rank(), distributed.ranks())
    pixels = (
        adaptive_avg_pool2d(images, min(PIXEL_SIDE, images.shape[-1])).flatten(1)
        for images in split.evaluation_batches(batch_size, part)
    )
    share_ND = _stacked(pixels, len(distributed.share(split.labels_N, part)))
    return distributed.gather_shares(share_ND, len(split.labels_N))
