"""Weights out: safetensors that `timm.create_model(..., checkpoint_path=...)` loads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from repro.config.schema import Family, ModelConfig


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
