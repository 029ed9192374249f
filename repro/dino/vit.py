"""The ViT of Sec. 3.2 and Table 1: timm's, with the authors' details, images in, [CLS] out.

Where timm's ViT differs from the authors' (`vision_transformer.py`), theirs is restored:
- the class token starts from a truncated normal of 0.02 (timm: a normal of 1e-6);
- position embeddings are resampled bicubically without antialiasing, with scale factor
  (side + 0.1) / stored side used for the coordinates (timm: by size, antialiased).
The parameters' names are timm's, which are also those of the released checkpoints.

The reference path runs timm's blocks, one resolution after the other. The fast path (parity class
B) takes the tokens of all views through each block together, in rows, and only attention looks at
sequences; and since DINO uses the [CLS] token alone, the last block computes keys and values of all
tokens, but queries, projection and MLP of [CLS] only: a fifth of the work of a ViT of four blocks,
a fifteenth of twelve.

Shapes: M samples of a resolution, N tokens of each, T tokens of all samples, S samples of all
resolutions, D width, P pixels of a patch and its channels, A heads, W width of a head.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, cast

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.utils.checkpoint import checkpoint

from repro.config.schema import ModelConfig
from repro.dino.fast.blocks import Layout, first_tokens, run_block, run_last_block
from repro.dino.fast.kernels import REFERENCE, Kernels
from repro.errors import UserError


class DinoViT(VisionTransformer):
    """timm's ViT with the authors' class token and position resampling."""

    rates_L: Tensor  # of stochastic depth, by block

    def __init__(
        self,
        config: ModelConfig,
        image_size: int,
        drop_path: float,
        kernels: Kernels = REFERENCE,
    ) -> None:
        super().__init__(
            img_size=image_size,
            patch_size=config.patch_size,
            embed_dim=config.dim,
            depth=config.depth,
            num_heads=config.heads,
            num_classes=0,
            drop_path_rate=drop_path,
            dynamic_img_size=True,
        )
        assert self.cls_token is not None
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        self._compute_by(kernels, kernels.fast)
        self.drop_rates = [drop_path * i / max(1, config.depth - 1) for i in range(config.depth)]
        # On the device from the start: made anew it would have to wait for it.
        self.register_buffer("rates_L", torch.tensor(self.drop_rates), persistent=False)
        self._block: Callable[..., Tensor] = run_block
        if kernels.compiled:
            self._block = torch.compile(run_block, dynamic=False)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]  # no masks here
        """[M, 3, H, W] -> [M, D]."""
        return self.forward_views([x])

    def forward_views(self, views: list[Tensor]) -> Tensor:
        """The final-norm [CLS] of all samples of all resolutions, in order, [S, D]."""
        for view in views:
            self.hold_to_patches(view)
        if not self.kernels.fast:
            return torch.cat([super(DinoViT, self).forward(view).float() for view in views])
        tokens = [self._tokens(view) for view in views]
        layout = [(t.shape[0], t.shape[1]) for t in tokens]
        x_TD = torch.cat([t.flatten(0, 1) for t in tokens])
        kept = self._draw_kept(layout, x_TD)
        if self.kernels.fuses(x_TD, [n for _, n in layout]):
            # Imported here: only CUDA machines have Triton.
            from repro.dino.fast.fused_blocks import run_fused_blocks

            x_SD = run_fused_blocks(
                x_TD.float(), list(self.blocks), kept, self.drop_rates, layout, self.kernels
            )
            return cast(Tensor, self.norm(x_SD)).float()
        for index, block in enumerate(self.blocks[:-1]):
            arguments = (x_TD, block, kept[index], self.drop_rates[index], layout, self.kernels)
            if self.kernels.recompute and torch.is_grad_enabled():
                x_TD = checkpoint(self._block, *arguments, use_reentrant=False)
            else:
                x_TD = self._block(*arguments)
        last, rate = self.blocks[-1], self.drop_rates[-1]
        x_SD = run_last_block(x_TD, last, kept[-1], rate, layout, self.kernels)
        return cast(Tensor, self.norm(x_SD)).float()

    def last_class_tokens(self, images: Tensor, count: int) -> list[Tensor]:
        """[CLS] after each of the last blocks, through the final norm, [M, D] each (fast path)."""
        tokens = self._tokens(images)
        layout = [(tokens.shape[0], tokens.shape[1])]
        x_TD, cls_MD = tokens.flatten(0, 1), []
        for block in self.blocks[:-1]:
            x_TD = self._block(x_TD, block, None, 0.0, layout, self.kernels)
            cls_MD.append(first_tokens(x_TD, layout))
        cls_MD.append(run_last_block(x_TD, self.blocks[-1], None, 0.0, layout, self.kernels))
        return [cast(Tensor, self.norm(some)).float() for some in cls_MD[-count:]]

    def last_attention(self, images: Tensor) -> Tensor:
        """How much the [CLS] token attends to each token in the last layer, by head, [M, A, N].

        [CLS] itself comes first. Kernels keep no weights, so these are computed here.
        """
        tokens = self._tokens(images)
        m, n = tokens.shape[:2]
        x_TD = tokens.flatten(0, 1)
        for block in self.blocks[:-1]:
            x_TD = self._block(x_TD, block, None, 0.0, [(m, n)], self.kernels)
        last: Any = self.blocks[-1]
        qkv = last.attn.qkv(last.norm1(x_TD)).view(m, n, 3, last.attn.num_heads, -1)
        q_MAW, k_MNAW = qkv[:, 0, 0], qkv[:, :, 1]
        logits_MAN: Tensor = torch.einsum("maw,mnaw->man", q_MAW, k_MNAW) * last.attn.scale
        return logits_MAN.float().softmax(dim=-1)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Within it every token goes through every block, one after the other; attention is fused,
        which takes no memory for its weights.
        """
        kernels = self.kernels
        self._compute_by(REFERENCE, fused=True)
        try:
            yield
        finally:
            self._compute_by(kernels, kernels.fast)

    def _compute_by(self, kernels: Kernels, fused: bool) -> None:
        self.kernels = kernels
        for block in self.blocks:
            block.attn.fused_attn = fused  # type: ignore[union-attr]

    def hold_to_patches(self, images: Tensor) -> None:
        """Raises: UserError, where images are no whole patches."""
        side = int(self.patch_embed.patch_size[0])
        high, wide = images.shape[-2:]
        if high % side or wide % side:
            raise UserError(
                f"images of {high} x {wide} pixels are no whole patches of {side}; "
                f"the nearest side is {max(1, round(wide / side)) * side}"
            )

    def _tokens(self, images: Tensor) -> Tensor:
        """[M, 3, H, W] -> [M, N, D]: [CLS] and patches with their positions."""
        embed = cast(nn.Conv2d, self.patch_embed.proj)
        side = embed.kernel_size[0]
        patches_MNP, height, width = patchify(images, side)
        patches_MND = self.kernels.linear(patches_MNP, embed.weight.flatten(1), embed.bias)
        return self._pos_embed(patches_MND.view(len(images), height, width, -1))

    def _pos_embed(self, x: Tensor) -> Tensor:
        batch, height, width, dim = x.shape  # patches as a grid, because of dynamic_img_size
        assert self.cls_token is not None
        assert self.pos_embed is not None
        training = self.kernels.fast and torch.is_grad_enabled()
        resample = positions_by_product if training else resample_positions
        positions = resample(self.pos_embed, height, width)
        patches = x.reshape(batch, height * width, dim)
        tokens = torch.cat([self.cls_token.expand(batch, -1, -1), patches], dim=1)
        return cast(Tensor, self.pos_drop(tokens + positions))

    def _draw_kept(self, layout: Layout, x_TD: Tensor) -> list[Any]:
        """Stochastic depth: for every block, which samples keep its two branches; None for all.

        A pair of columns of ones and zeros: [T, 1] for tokens, [S, 1] for the last block.
        """
        if not self.training or self.drop_rates[-1] == 0:
            return [None] * len(self.blocks)
        rates = self.rates_L.view(-1, 1, 1)
        samples = sum(m for m, _ in layout)
        uniform = torch.rand(len(self.blocks), 2, samples, device=x_TD.device)
        kept = (uniform >= rates).to(x_TD.dtype).unsqueeze(-1)
        pieces = torch.split(kept, [m for m, _ in layout], dim=2)
        by_token = torch.cat(
            [p.repeat_interleave(n, dim=2) for p, (_, n) in zip(pieces, layout, strict=True)], dim=2
        )
        pairs: list[Any] = [
            tuple(pair.unbind()) if rate else None
            for pair, rate in zip(by_token[:-1], self.drop_rates, strict=False)
        ]
        return [*pairs, tuple(kept[-1].unbind())]


def patchify(images: Tensor, side: int) -> tuple[Tensor, int, int]:
    """[M, 3, H, W] -> ([M, N, P], rows of patches, columns of patches)."""
    m, channels, high, wide = images.shape
    assert high % side == wide % side == 0, f"{high} x {wide} pixels are no patches of {side}"
    height, width = high // side, wide // side
    blocks = images.reshape(m, channels, height, side, width, side).permute(0, 2, 4, 1, 3, 5)
    return blocks.reshape(m, height * width, channels * side * side), height, width


def resample_positions(positions_1ND: Tensor, height: int, width: int) -> Tensor:
    """Position embeddings ([CLS] first) for a grid of height x width patches, [1, 1+N', D]."""
    stored = positions_1ND.shape[1] - 1
    if height * width == stored and height == width:
        return positions_1ND
    side = math.isqrt(stored)
    grid = positions_1ND[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    factors = ((height + 0.1) / side, (width + 0.1) / side)
    grid = interpolate(grid, scale_factor=factors, mode="bicubic")
    assert grid.shape[-2:] == (height, width), f"{tuple(grid.shape)} is not {height}x{width}"
    patches = grid.permute(0, 2, 3, 1).reshape(1, height * width, -1)
    return torch.cat([positions_1ND[:, :1], patches], dim=1)


def positions_by_product(positions_1ND: Tensor, height: int, width: int) -> Tensor:
    """`resample_positions` as the matrix that it is (parity class B): on a GPU the gradient of
    torch's own scatters by atomic additions, in another order, hence other floats, every time.
    """
    stored = positions_1ND.shape[1] - 1
    if height * width == stored and height == width:
        return positions_1ND
    matrix_PN = _resampling(stored, height, width, positions_1ND.device)
    with torch.autocast(positions_1ND.device.type, enabled=False):
        patches = matrix_PN @ positions_1ND[:, 1:]
    return torch.cat([positions_1ND[:, :1], patches], dim=1)


@lru_cache(maxsize=8)
@torch.no_grad()
def _resampling(stored: int, height: int, width: int, device: torch.device) -> Tensor:
    """What each stored position gives to each of height x width, [height x width, stored]."""
    each_1NN = torch.eye(stored + 1)[None, :, 1:]
    return resample_positions(each_1NN, height, width)[0, 1:].to(device)
