"""Training that begins with weights: finetuning and continued pretraining (`model.weights=FILE`).

The student's backbone takes them, and the teacher begins as a copy of the student; heads begin
anew. Positions of a ViT are resampled to the grid of the run's global views, as for evaluations.
"""

from __future__ import annotations

from pathlib import Path

from torch import nn

from repro.config.schema import RunConfig
from repro.dino.vit import DinoViT, resample_positions
from repro.errors import UserError
from repro.evals.weights.files import read_checkpoint
from repro.evals.weights.layouts import backbone_state, heads_said
from repro.evals.weights.networks import grid_side, hold_to
from repro.files import file_digest


def start_from_weights(backbone: nn.Module, config: RunConfig) -> None:
    """Fill the backbone from the file of `model.weights`.

    Raises:
        UserError: no file, another content, or weights of another network.
    """
    path, wanted = Path(config.paths.weights), config.model.weights
    if not config.paths.weights or not path.is_file():
        where = f"{path} is not there" if config.paths.weights else "nothing says where it lies"
        raise UserError(
            f"model.weights: the run begins with a file of sha256 {wanted}..., {where}; "
            "set model.weights=FILE"
        )
    if (found := file_digest(path)) != wanted:
        raise UserError(f"{path}: has sha256 {found}..., the run begins with {wanted}...")
    content = read_checkpoint(path)
    heads = heads_said(content, path)
    state, _ = backbone_state(content, "", path)
    if isinstance(backbone, DinoViT):
        if heads not in (0, config.model.heads):
            raise UserError(f"{path}: has {heads} heads, model.heads={config.model.heads}")
        positions = state.get("pos_embed")
        rows, columns = backbone.patch_embed.grid_size
        if positions is not None and positions.dim() == 3:
            grid_side(positions, path)
            state["pos_embed"] = resample_positions(positions.float(), rows, columns)
    hold_to(backbone, state, path)
    backbone.load_state_dict(state)
