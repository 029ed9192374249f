"""Triton's kernels on a GPU, as tests/dino/fast has them, and both attentions of fused blocks."""

from __future__ import annotations

import pytest
import torch

from repro.config.schema import CodePath, Precision
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
