"""The fast path against the reference path."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from repro.config.schema import CodePath, ModelConfig, RunConfig
from repro.data.dataset import Dataset
from repro.dino.backbones import build_backbone, features_of
from repro.dino.fast import kernels
from repro.dino.fast.blocks import first_tokens
from repro.dino.fast.kernels import REFERENCE, Kernels
from repro.dino.fast.scaled_rows import ScaledRows
from repro.dino.vit import DinoViT, patchify
from repro.train import Trainer

CPU = torch.device("cpu")
FAST = Kernels(CodePath.fast, "onednn", "onednn", {(torch.float32, 5): "plain"})


def gradients(call: Callable[..., Tensor], *inputs: Tensor | None) -> list[Tensor]:
    """Result and gradients of a random projection of it."""
    leaves = [None if t is None else t.detach().clone().requires_grad_() for t in inputs]
    result = call(*leaves)
    weights = torch.linspace(-1, 1, result.numel()).cos().view_as(result)
    (result * weights).sum().backward()
    found = [leaf.grad for leaf in leaves if leaf is not None]
    assert all(gradient is not None for gradient in found)
    return [result.detach(), *(gradient for gradient in found if gradient is not None)]


@pytest.mark.parametrize("shape", [(7, 12), (3, 5, 12)])
@pytest.mark.parametrize("bias", [True, False])
def test_onednns_linear_layer_has_torchs_values_and_gradients(
    shape: tuple[int, ...], bias: bool
) -> None:
    inputs = torch.randn(shape), torch.randn(6, 12), torch.randn(6) if bias else None
    ours = gradients(kernels.LINEAR["onednn"], *inputs)
    theirs = gradients(kernels.LINEAR["torch"], *inputs)
    torch.testing.assert_close(ours, theirs)


def test_onednns_linear_layer_under_autocast_is_torchs_to_the_rounding_of_sums() -> None:
    inputs = torch.randn(3, 40, 24), torch.randn(16, 24), torch.randn(16)
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = (gradients(kernels.LINEAR[name], *inputs) for name in ("onednn", "torch"))
    assert [t.dtype for t in ours] == [t.dtype for t in theirs]
    assert ours[0].dtype is torch.bfloat16
    torch.testing.assert_close(ours, theirs, rtol=2**-7, atol=2**-7)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("wide", [4, 24])
def test_onednns_gradients_do_not_depend_on_which_side_is_copied(wide: int, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        inputs = torch.randn(30, 12), torch.randn(wide, 12), torch.randn(wide)
        found = [gradients(kernels.LINEAR[name], *inputs) for name in ("onednn", "torch")]
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(*found)


def test_onednns_linear_layer_leaves_other_types_to_torch() -> None:
    x, weight = torch.randn(4, 8), torch.randn(3, 8)
    assert kernels.onednn_linear(x.double(), weight.double()).dtype is torch.float64
    with torch.autocast("cpu", torch.float16):
        assert kernels.onednn_linear(x, weight).dtype is torch.float16


def test_a_layer_runs_on_the_kernel_of_its_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    for name in ("torch", "onednn"):
        monkeypatch.setitem(kernels.LINEAR, name, lambda *_, name=name: ran.append(name))
    x, chosen = torch.randn(2, 4), Kernels(CodePath.fast, "torch", "onednn")
    chosen.linear(x, x, None)
    chosen.linear(x.bfloat16(), x.bfloat16(), None)
    with torch.autocast("cpu", torch.bfloat16):
        chosen.linear(x, x, None)
    assert ran == ["torch", "onednn", "onednn"]


@pytest.mark.parametrize("queries", [1, 6])
def test_plain_and_fused_attention_agree(queries: int) -> None:
    shapes = [(2, 3, queries, 4), (2, 3, 6, 4), (2, 3, 6, 4)]
    inputs = [torch.randn(shape) for shape in shapes]
    plain, fused = (gradients(kernels.ATTENTION[name], *inputs) for name in ("plain", "fused"))
    torch.testing.assert_close(plain, fused)


def networks(depth: int, drop_path: float = 0.0, fast: Kernels = FAST) -> tuple[DinoViT, DinoViT]:
    """One on the reference path, one on the fast path, of the same weights."""
    model = ModelConfig(patch_size=8, dim=16, depth=depth, heads=2)
    pair = [build_backbone(model, 32, drop_path, k) for k in (REFERENCE, fast)]
    pair[1].load_state_dict(pair[0].state_dict())
    reference, packed = pair
    assert isinstance(reference, DinoViT)
    assert isinstance(packed, DinoViT)
    return reference, packed


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("sides", [[32], [32, 16], [16, 32, 24]])
def test_all_views_at_once_give_the_features_and_gradients_of_one_after_another(
    depth: int, sides: list[int]
) -> None:
    views = [torch.randn(2 + i, 3, side, side) for i, side in enumerate(sides)]
    found = []
    for network in networks(depth):
        features = features_of(network, views)
        (features * torch.linspace(-1, 1, features.numel()).view_as(features)).sum().backward()
        found.append([features, *(p.grad for p in network.parameters())])
    for ours, theirs in zip(*found, strict=True):
        assert ours is not None
        assert theirs is not None
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_patches_are_what_a_convolution_with_their_side_as_stride_sees() -> None:
    images, weight = torch.randn(2, 3, 8, 12), torch.randn(5, 3, 4, 4)
    patches, rows, columns = patchify(images, 4)
    expected = torch.nn.functional.conv2d(images, weight, stride=4)
    ours = (patches @ weight.flatten(1).T).view(2, rows, columns, 5).permute(0, 3, 1, 2)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(AssertionError, match="9 x 12 pixels are no patches of 4"):
        patchify(torch.zeros(1, 3, 9, 12), 4)


def test_the_rows_of_the_class_tokens() -> None:
    rows_TD = torch.arange(16).view(16, 1)
    assert first_tokens(rows_TD, [(2, 5), (3, 2)]).flatten().tolist() == [0, 5, 10, 12, 14]


@pytest.mark.parametrize("choice", [{"recompute": True}, {"compiled": True}])
@pytest.mark.slow
def test_recomputed_and_compiled_blocks_change_nothing(
    choice: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = torch.compile
    traced = lambda call, **kw: compiler(call, backend="aot_eager", **kw)  # noqa: E731  no C++ here
    monkeypatch.setattr(torch, "compile", traced)
    _, eager = networks(3, 0.5)
    _, other = networks(3, 0.5, replace(FAST, **choice))
    other.load_state_dict(eager.state_dict())
    views = [torch.randn(4, 3, 32, 32), torch.randn(6, 3, 16, 16)]
    found = []
    for network in (eager, other):
        torch.manual_seed(3)  # of stochastic depth
        features = network.forward_views(views)
        features.square().sum().backward()
        found.append([features, *(p.grad for p in network.parameters())])
    torch.testing.assert_close(found[0], found[1])


def test_stochastic_depth_drops_branches_of_whole_samples_at_a_rising_rate() -> None:
    _, vit = networks(3, 0.5)
    torch.manual_seed(0)
    layout = [(4000, 2), (2000, 3)]
    first, second, last = vit._draw_kept(layout, torch.zeros(14000, 16))
    assert first is None
    for column in second:
        by_sample = column[:8000].view(4000, 2), column[8000:].view(2000, 3)
        assert all(torch.equal(s, s[:, :1].expand_as(s)) for s in by_sample)
        assert float(column.mean()) == pytest.approx(0.75, abs=0.02)
    assert [len(column) for column in last] == [6000, 6000]
    assert [float(column.mean()) for column in last] == pytest.approx([0.5, 0.5], abs=0.02)
    assert vit.eval()._draw_kept(layout, torch.zeros(1, 16)) == [None, None, None]


def test_a_kept_branch_is_scaled_up_for_the_dropped_ones_and_a_dropped_one_is_gone() -> None:
    from repro.dino.fast.blocks import _add

    x, branch, kept = torch.randn(3, 4), torch.randn(3, 4), torch.tensor([[1.0], [0.0], [1.0]])
    added = _add(x, branch, kept, 0.2)
    torch.testing.assert_close(added[[0, 2]], x[[0, 2]] + branch[[0, 2]] / 0.8)
    assert torch.equal(added[1], x[1])


@pytest.mark.slow
def test_both_paths_train_alike(smoke_config: RunConfig, smoke_data: Dataset) -> None:
    losses = []
    smoke_config.model.drop_path = 0.0  # the paths draw it in another order
    for path in CodePath:
        smoke_config.resources.path = path
        trainer = Trainer(smoke_config, smoke_data, CPU)
        assert trainer.kernels.path is path
        losses.append([e["loss"] for e in trainer.run() if e["kind"] == "step"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[0] != losses[1]


@pytest.mark.parametrize("frozen", [True, False])
def test_scaled_rows_are_normalised_and_differentiated_as_torch_does(frozen: bool) -> None:
    directions = torch.randn(9, 5, dtype=torch.float64)
    norms = torch.rand(9, 1, dtype=torch.float64) + 0.5
    upstream = torch.randn(9, 5, dtype=torch.float64)
    found = []
    for rows in (
        ScaledRows.apply,
        lambda d, n: n * torch.nn.functional.normalize(d, dim=1),
    ):
        d, n = directions.clone().requires_grad_(), norms.clone().requires_grad_(not frozen)
        result = rows(d, n)
        (result * upstream).sum().backward()
        found.append((result.detach(), d.grad, n.grad))
    torch.testing.assert_close(found[0], found[1])
