"""Which images weights were trained to see: their size, resampling, mean and deviation.

Everything here normalises with ImageNet's mean and deviation. Weights that expect others get them:
of a ViT the first layer is rewritten, which is the same function, because patches are linear and
nothing is padded; other networks rescale their images first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from repro.config.schema import Interpolation
from repro.data.views.kinds import IMAGENET_MEAN, IMAGENET_STD
from repro.dino.vit import DinoViT
from repro.errors import UserError
from repro.files import read_json

RESIZE_RATIO = 256 / 224  # of the shorter side to the crop (App. F.1)
OF_HUB = ("model.safetensors", "pytorch_model.bin")  # timm's names, with config.json beside them
CHANNELS = 3


@dataclass(frozen=True)
class Preprocessing:
    """`resize`: the shorter side before the central crop of `side` pixels."""

    side: int
    resize: int
    interpolation: Interpolation = Interpolation.bicubic
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def at(self, side: int) -> Preprocessing:
        """The same share of the image, at another size."""
        resize = max(side, round(side * self.resize / self.side))
        return Preprocessing(side, resize, self.interpolation, self.mean, self.std)

    @property
    def said(self) -> dict[str, Any]:
        """As an evaluation records it."""
        return asdict(self) | {"interpolation": self.interpolation.value}


def usual(side: int) -> Preprocessing:
    """The paper's, in proportion."""
    return Preprocessing(side, round(side * RESIZE_RATIO))


def of_timm(said: Mapping[str, Any]) -> Preprocessing:
    """What timm's `pretrained_cfg` says."""
    side = int(said["input_size"][-1])
    bilinear = said.get("interpolation") == Interpolation.bilinear.value
    return Preprocessing(
        side,
        max(side, int(side / float(said.get("crop_pct") or 1))),
        Interpolation.bilinear if bilinear else Interpolation.bicubic,
        tuple(said.get("mean", IMAGENET_MEAN)),
        tuple(said.get("std", IMAGENET_STD)),
    )


def of_timm_beside(path: Path) -> Preprocessing | None:
    """What config.json says beside a file of timm's as its hub keeps it.

    Raises:
        UserError: it is damaged, or no preprocessing.
    """
    file = path.with_name("config.json")
    content = read_json(file) if path.name in OF_HUB else None
    if not isinstance(content, dict) or "architecture" not in content:
        return None
    said = content.get("pretrained_cfg", content)  # flat, as it was before timm 0.9
    try:
        seen = of_timm(said)
        numbers = [*seen.mean, *seen.std]
        plain = all(map(math.isfinite, numbers)) and min(seen.std) > 0
        plain &= float(said.get("crop_pct") or 1) > 0
        whole = 0 < seen.side <= seen.resize and len(seen.mean) == len(seen.std) == CHANNELS
    except (KeyError, TypeError, ValueError, ArithmeticError, IndexError):
        plain = whole = False
    if not (plain and whole):
        raise UserError(f"{file}: not the preprocessing of a model of timm's")
    return seen


def take_imagenet_s(backbone: nn.Module, seen: Preprocessing) -> nn.Module:
    """The network that gives for images normalised as ImageNet's what `backbone` gives for its own.

    With m, s of ImageNet and m', s' of the weights: (x s + m - m') / s' is what it expects.
    """
    if (seen.mean, seen.std) == (IMAGENET_MEAN, IMAGENET_STD):
        return backbone
    ours_mean, ours_std, mean, std = (
        torch.tensor(v, dtype=torch.float64)
        for v in (IMAGENET_MEAN, IMAGENET_STD, seen.mean, seen.std)
    )
    scale_3, shift_3 = ours_std / std, (ours_mean - mean) / std
    if not isinstance(backbone, DinoViT):
        return Rescaled(backbone, scale_3.float(), shift_3.float())
    first: Any = backbone.patch_embed.proj
    with torch.no_grad():
        weight = first.weight.double()
        first.bias.copy_(first.bias.double() + torch.einsum("dchw,c->d", weight, shift_3))
        first.weight.copy_(weight * scale_3.view(1, 3, 1, 1))
    return backbone


class Rescaled(nn.Module):
    """A network of timm's behind the change from ImageNet's normalisation to its own."""

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, scale_3: Tensor, shift_3: Tensor) -> None:
        super().__init__()
        self.network = network
        self.num_features = network.num_features
        self.register_buffer("scale", scale_3.view(1, 3, 1, 1))
        self.register_buffer("shift", shift_3.view(1, 3, 1, 1))

    @property
    def patch_embed(self) -> Any:
        """Of which others read the side of patches."""
        return getattr(self.network, "patch_embed", None)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network(images * self.scale + self.shift)
        return features
