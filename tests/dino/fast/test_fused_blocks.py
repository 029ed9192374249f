"""Triton's kernels and the blocks made of them against plain torch in double precision.

Without a GPU they run in Triton's interpreter (tests/conftest.py), in half precision: its products
know no bfloat16.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, scaled_dot_product_attention

from repro.config.schema import CodePath, ModelConfig
from repro.dino.backbones import build_backbone, features_of
from repro.dino.fast.kernels import Kernels
from repro.dino.fast.loss import fused_cross_entropy
from repro.dino.vit import DinoViT

pytest.importorskip("triton")  # torch brings it on Linux alone
from repro.dino.fast import fused_blocks, triton_attention, triton_loss, triton_rows

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# Of the versions tried (3.6 with torch 2.11, 3.9 with 2.15) the first reads arrays of one number as
# Python's numbers, which numpy has refused since 2.4.
NUMPY, TRITON = (tuple(map(int, version(n).split(".")[:2])) for n in ("numpy", "triton"))
pytestmark = pytest.mark.skipif(
    DEVICE.type == "cpu" and TRITON < (3, 9) and NUMPY >= (2, 4),
    reason="Triton's interpreter of this version does not work with this numpy",
)

HALF = torch.bfloat16 if DEVICE.type == "cuda" else torch.float16
CLOSE = {"rtol": 1e-2, "atol": 1e-2} if DEVICE.type == "cuda" else {"rtol": 2e-3, "atol": 2e-3}


def close(ours: Tensor | None, theirs: Tensor | None) -> None:
    assert ours is not None
    assert theirs is not None
    torch.testing.assert_close(ours.double(), theirs.double(), **CLOSE)


def random(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, device=DEVICE).to(dtype)


def exact(x: Tensor) -> Tensor:
    return x.double().requires_grad_()


@pytest.mark.parametrize("branch", [True, False])
@pytest.mark.parametrize("drops", [True, False])
@pytest.mark.parametrize(("rows", "width"), [(21, 48), (5, 64)])
def test_a_sum_and_its_norm_are_torchs_with_their_gradients(
    branch: bool, drops: bool, rows: int, width: int
) -> None:
    torch.manual_seed(0)
    x, gamma, beta = random(rows, width), random(width), random(width)
    values, bias = random(rows, width, dtype=HALF), random(width)
    kept = (torch.rand(rows, device=DEVICE) > 0.3).float() if drops else None
    scale = 1.25 if drops else 1.0
    dy, dsum = random(rows, width, dtype=HALF), random(rows, width)

    leaves = {n: exact(t) for n, t in (("x", x), ("gamma", gamma), ("beta", beta))}
    leaves |= {"values": exact(values), "bias": exact(bias)}
    total = leaves["x"]
    if branch:
        share = scale if kept is None else scale * kept.double()[:, None]
        total = total + share * (leaves["values"] + leaves["bias"])
    y = layer_norm(total, (width,), leaves["gamma"], leaves["beta"], triton_rows.EPSILON)
    ((y * dy.double()).sum() + (total * dsum.double()).sum()).backward()

    added = (values, bias, kept) if branch else (None, None, None)
    sums, normed_y, normed, rstd = triton_rows.add_norm(x, *added, scale, gamma, beta, HALF, True)
    close(sums, total)
    close(normed_y, y)
    found = triton_rows.add_norm_backward(
        dy, dsum, normed, rstd, added[2], scale, gamma, beta, branch
    )
    close(found.y_TD, y)
    close(found.x_TD, leaves["x"].grad)
    close(found.gamma_D, leaves["gamma"].grad)
    close(found.beta_D, leaves["beta"].grad)
    if branch:
        close(found.branch_TD, leaves["values"].grad)
        close(found.bias_D, leaves["bias"].grad)


def test_gelu_is_torchs_with_its_gradients() -> None:
    torch.manual_seed(1)
    h, bias, dg = random(37, 96, dtype=HALF), random(96), random(37, 96, dtype=HALF)
    exact_h, exact_bias = exact(h), exact(bias)
    expected = gelu(exact_h + exact_bias)
    (expected * dg.double()).sum().backward()
    close(triton_rows.bias_gelu(h, bias), expected)
    dh, again, dbias = triton_rows.bias_gelu_backward(dg.clone(), h.clone(), bias)
    close(dh, exact_h.grad)
    close(again, expected)
    close(dbias, exact_bias.grad)


@pytest.mark.parametrize(
    ("samples", "tokens", "heads", "width"), [(2, 37, 2, 16), (1, 70, 2, 32), (3, 5, 1, 64)]
)
def test_attention_of_rows_is_torchs_with_its_gradients(
    samples: int, tokens: int, heads: int, width: int
) -> None:
    torch.manual_seed(2)
    rows, dim = samples * tokens, heads * width
    qkv, dout = random(rows, 3 * dim, dtype=HALF), random(rows, dim, dtype=HALF)
    leaf = exact(qkv)
    q, k, v = leaf.view(samples, tokens, 3, heads, width).permute(2, 0, 3, 1, 4).unbind()
    expected = scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(rows, dim)
    (expected * dout.double()).sum().backward()
    out, gradient = torch.empty_like(dout), torch.full_like(qkv, torch.nan)
    logs = triton_attention.attend(qkv, out, samples, heads)
    close(out, expected)
    triton_attention.attend_backward(qkv, out, dout, logs, gradient, samples)
    close(gradient, leaf.grad)


@pytest.mark.parametrize(("views", "images", "outputs"), [(4, 3, 100), (2, 2, 64), (12, 2, 70)])
def test_the_loss_of_one_pass_is_that_of_the_walk_over_blocks(
    views: int, images: int, outputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_loss, "ROW", 64)
    monkeypatch.setattr(triton_loss, "CHUNK", 32)
    torch.manual_seed(3)
    student = random(views, images, outputs).requires_grad_()
    logs = (3 * random(2, images, outputs)).log_softmax(dim=-1)
    monkeypatch.setattr("repro.dino.fast.loss._has_kernel", lambda *_: False)
    loss, statistics = fused_cross_entropy(student, logs.exp(), logs, 0.1)
    loss.backward()  # type: ignore[no-untyped-call]
    expected = student.grad
    student.grad = None
    monkeypatch.setattr("repro.dino.fast.loss._has_kernel", lambda *_: True)
    once, same = fused_cross_entropy(student, logs.exp(), logs, 0.1)
    once.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(once, loss)
    torch.testing.assert_close(same, statistics)
    torch.testing.assert_close(student.grad, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture
def halves(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Autocast to what the interpreter knows, and fused blocks where it is on."""
    monkeypatch.setattr(fused_blocks, "HALF", HALF)
    with torch.autocast(DEVICE.type, HALF):
        yield


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("drop_path", [0.0, 0.4])
@pytest.mark.usefixtures("halves")
def test_fused_blocks_have_the_features_and_gradients_of_plain_ones(
    depth: int, drop_path: float
) -> None:
    model = ModelConfig(patch_size=8, dim=32, depth=depth, heads=2)
    rows = {17: "rows", 5: "rows"}
    plain, fused = (
        build_backbone(model, 32, drop_path, Kernels(CodePath.fast, row_attention=names)).to(DEVICE)
        for names in ({}, rows)
    )
    assert isinstance(fused, DinoViT)
    fused.load_state_dict(plain.state_dict())
    torch.manual_seed(4)
    views = [random(2, 3, 32, 32), random(3, 3, 16, 16)]
    found = []
    for network in (plain, fused):
        torch.manual_seed(5)  # of stochastic depth
        features = features_of(network, views)
        weights = torch.linspace(-1, 1, features.numel(), device=DEVICE).cos().view_as(features)
        (features * weights).sum().backward()
        found.append((features.detach(), {n: p.grad for n, p in network.named_parameters()}))
    with mock.patch.object(fused_blocks, "add_norm", side_effect=AssertionError("it ran")):
        with torch.no_grad(), pytest.raises(AssertionError, match="it ran"):
            features_of(fused, views)
        with torch.no_grad():
            features_of(plain, views)
    (features, gradients), (fused_features, fused_gradients) = found
    torch.testing.assert_close(fused_features, features, rtol=3e-2, atol=3e-2)
    for name, gradient in gradients.items():
        ours = fused_gradients[name]
        assert gradient is not None, name
        assert ours is not None, name
        distance = float((ours - gradient).norm() / gradient.norm().clamp(min=1e-6))
        assert distance < 3e-2 or name.endswith("qkv.bias"), f"{name}: {distance}"


@pytest.mark.usefixtures("halves")
def test_without_gradients_fused_blocks_keep_nothing_and_say_the_same() -> None:
    model = ModelConfig(patch_size=8, dim=32, depth=3, heads=2)
    network = build_backbone(model, 32, 0.0, Kernels(CodePath.fast, row_attention={17: "rows"}))
    views = [random(2, 3, 32, 32)]
    network.to(DEVICE)
    taught = features_of(network, views).detach()
    with torch.no_grad():
        torch.testing.assert_close(features_of(network, views), taught)
