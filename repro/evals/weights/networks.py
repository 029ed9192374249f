"""The network that a file of weights fills.

In: the authors' released backbones and full checkpoints (`student`, `teacher`, with heads), our own
checkpoints, timm's files and most that wrap them (`layouts.py`). The network is read off the
tensors: width, depth, patch and position grid of a ViT, or a ResNet; every key must be accounted
for.

The number of heads is the one thing that tensors do not tell. Our checkpoints and exports say it;
for other files it is 64 channels a head, as in Table 1, unless said otherwise.

Shapes: N positions, D width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from repro.config.schema import Family, ModelConfig, RunConfig
from repro.dino.backbones import build_backbone
from repro.dino.fast.kernels import REFERENCE, Kernels
from repro.errors import UserError, nearest
from repro.evals.weights.files import first_line, read_checkpoint, some
from repro.evals.weights.layouts import NETWORKS, backbone_state, heads_said
from repro.evals.weights.preprocessing import (
    Preprocessing,
    of_timm,
    of_timm_beside,
    take_imagenet_s,
    usual,
)
from repro.files import file_digest

HEAD_WIDTH = 64
CONVNET_SIDE = 224  # which has no grid of positions to tell
TIMM = "timm:"  # before a name in place of a file
DEEPEST = 512  # blocks of a ViT, far beyond any that there is
SMOOTHER = 0.5  # a grid is another one if its neighbours then differ by less than this share
MOST_OBLONG = 8  # times the shorter side of a grid


@dataclass(frozen=True)
class Weights:
    """A backbone with its weights, where they came from, and which images it was trained to see."""

    backbone: nn.Module
    model: ModelConfig
    image_size: int  # for which positions are stored
    source: Path
    network: str  # teacher, student, or "" for a file that holds one backbone
    digest: str  # of the file: sha256, 12 hexadecimal digits
    seen: Preprocessing
    step: int | None = None  # of a checkpoint of ours


def load_weights(path: Path, network: str = "", heads: int = 0) -> Weights:
    """The backbone of a file.

    Args:
        network: teacher or student of a full checkpoint; by default the teacher.
        heads: attention heads of a ViT; by default what the file says, or its width over 64.

    Raises:
        UserError: no checkpoint, or keys or shapes that fit no network; one line names them.
    """
    content = read_checkpoint(path)
    heads = heads or heads_said(content, path)
    state, network = backbone_state(content, network, path)
    model, image_size = architecture(state, heads, path)
    backbone = _filled(model, image_size, state, path)
    seen = of_timm_beside(path) or usual(image_size)
    backbone = take_imagenet_s(backbone, seen)
    return Weights(backbone.eval(), model, image_size, path, network, file_digest(path), seen)


def our_weights(
    state: Mapping[str, Any],
    config: RunConfig,
    source: Path,
    network: str = NETWORKS[0],
    kernels: Kernels = REFERENCE,
) -> Weights:
    """The backbone of a checkpoint of ours, whose run says which network it is.

    Raises:
        UserError: tensors that do not fill it.
    """
    model, size = config.model, config.views.global_size
    backbone = build_backbone(model, size, kernels=kernels)
    prefix = "backbone."
    tensors = {
        name.removeprefix(prefix): tensor
        for name, tensor in state[network].items()
        if name.startswith(prefix)
    }
    _fill(backbone, tensors, source)
    if model.family is Family.vit:
        shown = replace(model, name="vit", drop_path=0.0)
    else:
        shown, size = ModelConfig(family=model.family, name=model.name), CONVNET_SIDE
    data = config.data
    own = usual(data.resolution)
    seen = own if data.made_here else replace(own, resize=data.eval_resize)
    step = int(state["step"])
    return Weights(backbone.eval(), shown, size, source, network, file_digest(source), seen, step)


def named_weights(name: str, pretrained: bool = True) -> Weights:
    """A model of timm's by name, e.g. vit_small_patch16_224.dino, with its published weights.

    A plain ViT becomes ours, with attention maps and any resolution; others stay timm's.

    Raises:
        UserError: no such model, or weights that cannot be downloaded.
    """
    import timm

    source = Path(f"{TIMM}{name}")
    try:
        model = _of_timm(name, pretrained)
    except RuntimeError as error:
        near = nearest(name, timm.list_models(pretrained=True))
        raise UserError(f"{source}: {first_line(error)}; nearest: {near}") from None
    except Exception as error:  # noqa: BLE001 - whatever the network and its libraries raise
        raise UserError(f"{source}: cannot be downloaded ({first_line(error)})") from None
    state: dict[str, Tensor] = dict(model.state_dict())
    summary = hashlib.sha256(name.encode())
    for tensor in state.values():
        summary.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    said: Any = model.pretrained_cfg
    seen = of_timm(said)
    side, config = seen.side, ModelConfig(family=Family.timm, name=name)
    backbone: nn.Module = model
    if isinstance(model, VisionTransformer):
        blocks: Any = model.blocks
        try:
            config, side = architecture(state, blocks[0].attn.num_heads, source)
            backbone = _filled(config, side, state, source)
        except UserError:  # a ViT with parts that ours lacks
            config, backbone = ModelConfig(family=Family.timm, name=name), model
    backbone = take_imagenet_s(backbone.eval(), seen)
    return Weights(backbone.eval(), config, side, source, "", summary.hexdigest()[:12], seen)


def architecture(state: Mapping[str, Tensor], heads: int, path: Path) -> tuple[ModelConfig, int]:
    """The network that has these tensors, and the image side of its position grid.

    Raises:
        UserError: tensors of no network, or heads that are not said or do not divide the width.
    """
    if "layer1.0.conv1.weight" in state:
        return _resnet(state, path), CONVNET_SIDE
    needed = {"cls_token": 3, "pos_embed": 3, "patch_embed.proj.weight": 4}
    missing = [name for name in needed if name not in state]
    if missing:
        raise UserError(
            f"{path}: neither a ViT (no {', '.join(missing)}) nor a ResNet (no "
            f"layer1.0.conv1.weight); it begins with {some(state)}"
        )
    for name, dimensions in needed.items():
        if state[name].dim() != dimensions:
            raise UserError(f"{path}: {name} is {list(state[name].shape)}, of no ViT")
    dim = state["cls_token"].shape[-1]
    patch = state["patch_embed.proj.weight"].shape[-1]
    depth = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
    if not (dim and patch and 0 < depth <= DEEPEST):
        what = f"tensors of width {dim}" if not dim else f"{depth:,} blocks, patches of {patch}"
        raise UserError(f"{path}: {what}, which is no network")
    if not heads and dim % HEAD_WIDTH:
        raise UserError(f"{path}: a ViT of width {dim}: say how many heads it has (--heads)")
    model = ModelConfig(
        family=Family.vit, name="vit", dim=dim, depth=depth, heads=heads or dim // HEAD_WIDTH,
        patch_size=patch, drop_path=0.0,
    )  # fmt: skip
    if model.heads < 0 or dim % model.heads:
        raise UserError(f"{path}: --heads {heads} does not divide the width {dim}")
    return model, patch * grid_side(state["pos_embed"], path)


def _of_timm(name: str, pretrained: bool) -> Any:
    """A ViT takes images of any size that its patches divide, where timm can make it so."""
    import timm

    try:
        return timm.create_model(name, pretrained, num_classes=0, dynamic_img_size=True)
    except TypeError:  # no argument of this network
        return timm.create_model(name, pretrained, num_classes=0)


def grid_side(positions_1ND: Tensor, path: Path) -> int:
    """Patches at a side of the square for which positions are stored.

    A count tells nothing of the shape: 7 x 28 are 14 x 14. But positions of neighbours are alike,
    so where they are far more so in an oblong grid, the grid is that one.

    Raises:
        UserError: a grid that is no square.
    """
    count = positions_1ND.shape[1] - 1
    side = isqrt(max(0, count))
    if count < 1 or side * side != count:
        raise UserError(f"{path}: {count} positions beside [CLS], which are no square of patches")
    patches_ND = positions_1ND[0, 1:].float()
    differences = {
        width: float((patches_ND[width:] - patches_ND[:-width]).square().mean())
        for width in range(2, count // 2 + 1)
        if count % width == 0 and max(width**2, count) <= MOST_OBLONG * min(width**2, count)
    }
    if not differences or side not in differences:
        return side
    closest = min(differences, key=differences.__getitem__)
    if differences[closest] < SMOOTHER * differences[side]:
        raise UserError(
            f"{path}: its positions are those of {count // closest} x {closest} patches; only "
            "square grids are read"
        )
    return side


def _resnet(state: Mapping[str, Tensor], path: Path) -> ModelConfig:
    blocks = tuple(
        len({name.split(".")[1] for name in state if name.startswith(f"layer{stage}.")})
        for stage in range(1, 5)
    )
    bottleneck = "layer1.0.conv3.weight" in state
    names: dict[tuple[bool, tuple[int, ...]], str] = {
        (True, (3, 4, 6, 3)): "resnet50",
        (True, (3, 4, 23, 3)): "resnet101",
        (False, (2, 2, 2, 2)): "resnet18",
        (False, (3, 4, 6, 3)): "resnet34",
    }
    if (bottleneck, blocks) not in names:
        raise UserError(f"{path}: a ResNet of {blocks} blocks, which is none of timm's plain ones")
    return ModelConfig(family=Family.timm, name=names[bottleneck, blocks])


def _filled(model: ModelConfig, side: int, state: Mapping[str, Tensor], path: Path) -> nn.Module:
    """The network with these weights; held to their shapes before it takes any memory."""
    with torch.device("meta"):
        hold_to(build_backbone(model, side), state, path)
    backbone = build_backbone(model, side)
    backbone.load_state_dict(dict(state))
    return backbone


def _fill(backbone: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    hold_to(backbone, state, path)
    backbone.load_state_dict(dict(state))


def hold_to(backbone: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Raises: UserError, where names or shapes are not the network's."""
    expected = backbone.state_dict()
    other = [
        f"{name} is {list(state[name].shape)}, not {list(expected[name].shape)}"
        for name in expected
        if name in state and state[name].shape != expected[name].shape
    ]
    problems = {
        "missing": [name for name in expected if name not in state],
        "unknown": [name for name in state if name not in expected],
        "of another shape": other,
    }
    if any(problems.values()):
        counts = [
            f"{len(names)} {what} ({some(names)})" for what, names in problems.items() if names
        ]
        raise UserError(f"{path}: weights of another network: {'; '.join(counts)}")
