"""Weights in and out: whose file it is, which network it fills, and what does not fit.

In: the authors' released backbones and full checkpoints (`student`, `teacher`, with heads and the
prefixes `module.` and `backbone.`), our own checkpoints, timm's files. The network is read off the
tensors: width, depth, patch and position grid of a ViT, or a ResNet; every key must be accounted
for. Files are read with `weights_only`, so that none of them can run code.
Out: safetensors that `timm.create_model(..., checkpoint_path=...)` loads, with a model card.

The number of heads is the one thing that tensors do not tell. Our checkpoints and exports say it;
for other files it is 64 channels a head, as in Table 1, unless said otherwise.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isqrt
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from repro.config.schema import Family, ModelConfig, RunConfig
from repro.dino.backbones import build_backbone
from repro.dino.fast.kernels import REFERENCE, Kernels
from repro.errors import UserError, nearest

HEAD_WIDTH = 64
CONVNET_SIDE = 224  # which has no grid of positions to tell
NETWORKS = ("teacher", "student")  # of a full checkpoint, the one to evaluate first
CONTAINERS = ("state_dict", "model")  # in which timm and others wrap a backbone
PREFIXES = ("module.", "backbone.", "encoder.")
DROPPED = ("head.", "fc.", "classifier.")  # what sits on top of the features
HEADS = "heads"  # under which our files say how many
OURS = {"step", "student", "teacher", "method"}  # keys that our checkpoints have
TIMM = "timm:"  # before a name in place of a file
SHOWN = 3  # keys that an error names


@dataclass(frozen=True)
class Weights:
    """A backbone with its weights, and where they came from."""

    backbone: nn.Module
    model: ModelConfig
    image_size: int
    source: Path
    network: str  # teacher, student, or "" for a file that holds one backbone
    digest: str  # of the file: sha256, 12 hexadecimal digits
    step: int | None = None  # of a checkpoint of ours


def load_weights(path: Path, network: str = "", heads: int = 0) -> Weights:
    """The backbone of a file.

    Args:
        network: teacher or student of a full checkpoint; by default the teacher.
        heads: attention heads of a ViT; by default what the file says, or its width over 64.

    Raises:
        UserError: no checkpoint, or keys or shapes that fit no network; one line names them.
    """
    content = _read(path)
    heads = heads or _heads_said(content, path)
    state, network = _backbone_state(content, network, path)
    model, image_size = _architecture(state, heads, path)
    backbone = build_backbone(model, image_size)
    _fill(backbone, state, path)
    return Weights(backbone.eval(), model, image_size, path, network, digest(path))


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
    return Weights(
        backbone.eval(), shown, size, source, network, digest(source), int(state["step"])
    )


def named_weights(name: str, pretrained: bool = True) -> Weights:
    """A model of timm's by name, e.g. vit_small_patch16_224.dino, with its published weights.

    A plain ViT becomes ours, with attention maps and any resolution; others stay timm's.

    Raises:
        UserError: no such model, or weights that cannot be downloaded.
    """
    import timm

    source = Path(f"{TIMM}{name}")
    try:
        model = timm.create_model(name, pretrained=pretrained, num_classes=0)
    except RuntimeError as error:
        near = nearest(name, timm.list_models(pretrained=True))
        raise UserError(f"{source}: {_first_line(error)}; nearest: {near}") from None
    except Exception as error:  # noqa: BLE001 - whatever the network and its libraries raise
        raise UserError(f"{source}: cannot be downloaded ({_first_line(error)})") from None
    state: dict[str, Tensor] = dict(model.state_dict())
    summary = hashlib.sha256(name.encode())
    for tensor in state.values():
        summary.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    side = int(model.pretrained_cfg["input_size"][-1])  # type: ignore[index]
    config = ModelConfig(family=Family.timm, name=name)
    backbone: nn.Module = model
    if isinstance(model, VisionTransformer):
        blocks: Any = model.blocks
        try:
            config, side = _architecture(state, blocks[0].attn.num_heads, source)
            backbone = build_backbone(config, side)
            _fill(backbone, state, source)
        except UserError:  # a ViT with parts that ours lacks
            config, backbone = ModelConfig(family=Family.timm, name=name), model
    return Weights(backbone.eval(), config, side, source, "", summary.hexdigest()[:12])


def digest(path: Path) -> str:
    """The first 12 hexadecimal digits of the file's sha256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def save_weights(backbone: nn.Module, path: Path, card: Mapping[str, str]) -> None:
    """Write a backbone as safetensors, with `card` in the file's header.

    Raises:
        OSError: e.g. a full disk; an existing file is then untouched.
    """
    from safetensors.torch import save_file

    state = {name: tensor.contiguous().cpu() for name, tensor in backbone.state_dict().items()}
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        save_file(state, unfinished, metadata=dict(card))
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def timm_call(model: ModelConfig, image_size: int, file: str) -> str:
    """The line of Python with which timm makes this backbone from an exported file."""
    if model.family is Family.timm:
        return f'timm.create_model("{model.name}", num_classes=0, checkpoint_path="{file}")'
    return (
        f'timm.create_model("vit_small_patch16_224", num_classes=0, img_size={image_size}, '
        f"patch_size={model.patch_size}, embed_dim={model.dim}, depth={model.depth}, "
        f'num_heads={model.heads}, dynamic_img_size=True, checkpoint_path="{file}")'
    )


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        if path.suffix == ".safetensors":
            content: Any = _read_safetensors(path)
        else:
            # The authors' full checkpoints hold their command line.
            with torch.serialization.safe_globals([argparse.Namespace]):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        line = str(error).strip().splitlines()[0]
        raise UserError(f"{path}: not read, it holds more than weights ({line})") from None
    except Exception as error:  # noqa: BLE001 - whatever safetensors or zip make of garbage
        reason = f"{type(error).__name__}: {_first_line(error)}"
        raise UserError(f"{path}: not a checkpoint ({reason})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}, not a dictionary of weights")
    return content


def _read_safetensors(path: Path) -> dict[str, Any]:
    """The tensors, and the heads that an export of ours names in its header."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        content: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        heads = (file.metadata() or {}).get(HEADS, "")
    return {**content, HEADS: int(heads)} if heads.isdecimal() else content


def _heads_said(content: dict[str, Any], path: Path) -> int:
    """What a file of ours says, and takes along in `content`; 0 for files of others."""
    heads = content.pop(HEADS, 0)
    if not heads and content.keys() >= OURS and "backbone.cls_token" in content["teacher"]:
        # a checkpoint from before they said it
        raise UserError(
            f"{path}: a checkpoint outside its run folder does not say how many heads its network "
            "has (--heads)"
        )
    return heads if isinstance(heads, int) else 0


def _backbone_state(
    content: dict[str, Any], network: str, path: Path
) -> tuple[dict[str, Tensor], str]:
    """The tensors of the backbone under plain names, and which network of the file it is."""
    networks = [name for name in NETWORKS if isinstance(content.get(name), dict)]
    if network and network not in networks:
        there = ", ".join(networks) or "one network without a name"
        raise UserError(f"{path}: has no '{network}'; it holds {there}")
    chosen = network or (networks[0] if networks else "")
    if chosen:
        content = content[chosen]
    else:
        content = next(
            (content[c] for c in CONTAINERS if isinstance(content.get(c), dict)), content
        )
    state = {}
    for name, tensor in content.items():
        if not isinstance(tensor, Tensor):
            raise UserError(f"{path}: '{name}' is a {type(tensor).__name__}, not a tensor")
        for prefix in PREFIXES:
            name = name.removeprefix(prefix)  # noqa: PLW2901 - peeled in this order
        if not name.startswith(DROPPED):
            state[name] = tensor
    return state, chosen


def _architecture(state: Mapping[str, Tensor], heads: int, path: Path) -> tuple[ModelConfig, int]:
    """The network that has these tensors, and the image side of its position grid."""
    if "layer1.0.conv1.weight" in state:
        return _resnet(state, path), CONVNET_SIDE
    needed = ("cls_token", "pos_embed", "patch_embed.proj.weight")
    missing = [name for name in needed if name not in state]
    if missing:
        raise UserError(
            f"{path}: neither a ViT (no {', '.join(missing)}) nor a ResNet (no "
            f"layer1.0.conv1.weight); it begins with {_some(state)}"
        )
    dim = state["cls_token"].shape[-1]
    patch = state["patch_embed.proj.weight"].shape[-1]
    depth = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
    if not heads and dim % HEAD_WIDTH:
        raise UserError(f"{path}: a ViT of width {dim}: say how many heads it has (--heads)")
    side = isqrt(state["pos_embed"].shape[1] - 1)
    model = ModelConfig(
        family=Family.vit, name="vit", dim=dim, depth=depth, heads=heads or dim // HEAD_WIDTH,
        patch_size=patch, drop_path=0.0,
    )  # fmt: skip
    if not model.heads:
        raise UserError(f"{path}: tensors of width 0, which is no network")
    if model.heads < 0 or dim % model.heads:
        raise UserError(f"{path}: --heads {heads} does not divide the width {dim}")
    return model, side * patch


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


def _fill(backbone: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
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
            f"{len(names)} {what} ({_some(names)})" for what, names in problems.items() if names
        ]
        raise UserError(f"{path}: weights of another network: {'; '.join(counts)}")
    backbone.load_state_dict(dict(state))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _some(names: Any) -> str:
    listed = list(names)
    return ", ".join(listed[:SHOWN]) + (", ..." if len(listed) > SHOWN else "") or "nothing"
