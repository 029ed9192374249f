"""Triton's kernels on a GPU, as tests/dino/fast has them, and both attentions of fused blocks."""

from __future__ import annotations

import pytest
import torch

from repro.config.schema import CodePath, Precision
from repro.data.views import batched
from repro.dino.fast import checked, loss
from repro.dino.fast.choice import ROW_ATTENTION
from repro.dino.fast.kernels import Kernels
from tests.dino.fast import test_fused_blocks
from tests.dino.fast.test_fused_blocks import (  # noqa: F401  tests and their fixture
    halves,
    test_a_sum_and_its_norm_are_torchs_with_their_gradients,
    test_attention_of_rows_is_torchs_with_its_gradients,
    test_fused_blocks_have_the_features_and_gradients_of_plain_ones,
    test_gelu_is_torchs_with_its_gradients,
    test_the_loss_of_one_pass_is_that_of_the_walk_over_blocks,
    test_without_gradients_fused_blocks_keep_nothing_and_say_the_same,
)
from tests.gpu.correctness.conftest import Figures
from tests.gpu.correctness.test_parts import (
    assert_close,
    crops,
    distances,
    features_and_gradients,
    small_vit,
)

pytestmark = [pytest.mark.gpu, test_fused_blocks.pytestmark]


SHAPES = {  # width, heads and tokens of the scales
    "paper, ViT-B": (768, 12, (197, 37)),
    "paper, ViT-S": (384, 6, (197, 37)),
    "gpu": (192, 3, (65, 17)),
    "smoke": (32, 2, (17, 5)),
}


@pytest.mark.parametrize("name", ROW_ATTENTION)
@pytest.mark.parametrize("scale", SHAPES)
def test_fused_blocks_are_believed_here(scale: str, name: str, cuda: torch.device) -> None:
    width, heads, tokens = SHAPES[scale]
    assert checked.why_not_fused(width, heads, dict.fromkeys(tokens, name), cuda) == ""


def test_the_kernel_of_the_loss_is_believed_here(cuda: torch.device) -> None:
    assert checked.why_losses_differ(loss.block_by_block, loss.on_gpu, cuda) == ""


@pytest.mark.parametrize(("size", "widest_sigma"), [(64, 1.0), (32, 1.0), (32, 0.5), (16, 0.5)])
def test_views_of_small_images_are_believed_here(
    size: int, widest_sigma: float, cuda: torch.device
) -> None:
    assert batched.why_not_fused(cuda, size, widest_sigma) == ""


def test_a_run_in_half_precision_has_fused_blocks(cuda: torch.device, figures: Figures) -> None:
    chosen = small_vit(CodePath.fast, Precision.bf16, cuda, 0.0).kernels
    figures |= chosen.words()
    assert set(chosen.row_attention) == {197, 37}


@pytest.mark.parametrize("drop_path", [0.0, 0.5])
@pytest.mark.parametrize("name", ROW_ATTENTION)
def test_fused_blocks_of_the_papers_heads_and_tokens(
    name: str, drop_path: float, cuda: torch.device, figures: Figures
) -> None:
    single, half = Precision.fp32, Precision.bf16
    plain = small_vit(CodePath.fast, single, cuda, drop_path)
    fused = small_vit(CodePath.fast, half, cuda, drop_path)
    fused.kernels = Kernels(CodePath.fast, row_attention={197: name, 37: name})
    truth = features_and_gradients(plain, crops(), single, cuda)
    figures |= distances(features_and_gradients(fused, crops(), half, cuda), truth)
    assert_close(figures, half)
