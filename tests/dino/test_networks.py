"""Backbones, heads, student and teacher against the authors' semantics (F1-F4, F14-F16)."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import gelu, linear, normalize

from repro.config.schema import Family, HeadConfig, ModelConfig, RunConfig
from repro.dino.backbones import build_backbone, feature_dim
from repro.dino.heads import DinoHead
from repro.dino.networks import build_student, build_teacher
from repro.dino.vit import DinoViT, positions_by_product, resample_positions

TINY = ModelConfig(dim=24, depth=2, heads=2, patch_size=8, drop_path=0.5)


def test_the_head_is_an_mlp_an_l2_bottleneck_and_weight_normalised_prototypes() -> None:
    head = DinoHead(24, HeadConfig(hidden_dim=20, bottleneck_dim=12, prototypes=7))
    x = torch.randn(5, 24)
    first, _, second, _, third = head.mlp
    hidden = gelu(linear(gelu(linear(x, first.weight)), second.weight))  # biases start at zero
    bottleneck = normalize(linear(hidden, third.weight), dim=1)
    rows = head.last_layer.directions
    cosines = torch.stack([bottleneck @ (row / row.norm()) for row in rows], dim=1)
    torch.testing.assert_close(head(x), cosines)
    assert float(head(x).detach().abs().max()) <= 1 + 1e-6


def test_the_head_is_initialised_as_the_authors_do() -> None:
    head = DinoHead(384, HeadConfig(hidden_dim=512, bottleneck_dim=256, prototypes=1024))
    assert float(head.mlp[0].weight.std()) == pytest.approx(0.02, rel=0.05)
    assert float(head.mlp[0].bias.abs().max()) == 0
    directions = head.last_layer.directions
    assert float(directions.abs().max()) <= 1 / 16  # U(+-1/sqrt(256)), untouched by the MLP's
    assert float(directions.std()) == pytest.approx(1 / 16 / math.sqrt(3), rel=0.02)
    assert torch.equal(head.last_layer.norms, torch.ones(1024, 1))


@pytest.mark.parametrize("frozen", [True, False])
def test_the_prototypes_norm_is_trained_only_when_it_is_free(frozen: bool) -> None:
    head = DinoHead(8, HeadConfig(hidden_dim=8, bottleneck_dim=4, norm_last_layer=frozen))
    assert head.last_layer.norms.requires_grad is not frozen
    assert head.last_layer.directions.requires_grad


def test_batch_norm_follows_the_first_two_layers_only_with_statistics_of_their_own() -> None:
    head = DinoHead(8, HeadConfig(hidden_dim=6, bottleneck_dim=4, batch_norm=True))
    kinds = [type(layer).__name__ for layer in head.mlp]
    assert kinds == ["Linear", "BatchNorm1d", "GELU", "Linear", "BatchNorm1d", "GELU", "Linear"]
    assert head.mlp[1] is not head.mlp[4]


def test_the_paper_sized_head_has_the_published_parameter_count() -> None:
    head = DinoHead(384, HeadConfig())
    trained = sum(p.numel() for p in head.parameters() if p.requires_grad)
    # 22.35 M at K = 65536: three linear layers with biases and 65536 directions of 256.
    expected = (384 * 2048 + 2048) + (2048 * 2048 + 2048) + (2048 * 256 + 256) + 65536 * 256
    assert trained == expected
    assert trained / 1e6 == pytest.approx(22.35, abs=0.1)


def cubic_weight(distance: float, a: float = -0.75) -> float:
    """Keys' cubic convolution kernel, without antialiasing."""
    d = abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0.0


def test_positions_are_sampled_where_the_authors_code_samples_them() -> None:
    # Scale (6 + 0.1)/14 for 96 px views of a 224 px model: 0.6475, 2.9426, ..., 12.1230, where
    # resampling by size would look at 0.67, 3.0, ..., 12.33.
    coordinates = [(i + 0.5) * 14 / 6.1 - 0.5 for i in range(6)]
    assert coordinates[0] == pytest.approx(0.6475, abs=1e-4)
    assert coordinates[5] == pytest.approx(12.1230, abs=1e-4)
    stored = torch.randn(14).tolist()
    grid = torch.tensor(stored).view(14, 1).expand(14, 14).reshape(1, 196, 1)
    positions = torch.cat([torch.full((1, 1, 1), -1.0), grid], dim=1)
    sampled = resample_positions(positions, 6, 6)
    assert sampled[0, 0, 0] == -1  # the class token's position is not resampled
    for i, x in enumerate(coordinates):
        taps = range(math.floor(x) - 1, math.floor(x) + 3)
        expected = sum(stored[min(max(t, 0), 13)] * cubic_weight(x - t) for t in taps)
        assert sampled[0, 1 + 6 * i].item() == pytest.approx(expected, abs=1e-5)
    assert torch.equal(resample_positions(positions, 14, 14), positions)


@pytest.mark.parametrize("grid", [(6, 6), (3, 5), (14, 14), (14, 20)])
def test_positions_by_a_product_have_torchs_values_and_gradients(grid: tuple[int, int]) -> None:
    found = []
    for resample in (resample_positions, positions_by_product):
        positions = torch.randn(1, 197, 8, generator=torch.Generator().manual_seed(0))
        made = resample(positions.requires_grad_(), *grid)
        (made * torch.linspace(-1, 1, made.numel()).view_as(made)).sum().backward()
        found.append((made.detach(), positions.grad))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


def test_positions_keep_single_precision_where_products_do_not() -> None:
    positions = torch.randn(1, 197, 8)
    with torch.autocast("cpu", torch.bfloat16):
        made = positions_by_product(positions, 6, 6)
    assert made.dtype is torch.float32
    torch.testing.assert_close(made, resample_positions(positions, 6, 6), rtol=1e-4, atol=1e-5)


def test_the_class_token_starts_from_a_truncated_normal() -> None:
    torch.manual_seed(0)
    vit = build_backbone(ModelConfig(), 224)
    assert isinstance(vit, DinoViT)
    assert vit.cls_token is not None
    assert float(vit.cls_token.std()) == pytest.approx(0.02, rel=0.15)


def test_a_vit_returns_the_final_norms_class_token_at_any_resolution() -> None:
    vit = build_backbone(TINY, 32).eval()
    for side in (16, 32, 48):
        images = torch.randn(2, 3, side, side)
        tokens = vit.forward_features(images)
        assert tokens.shape == (2, (side // 8) ** 2 + 1, 24)
        torch.testing.assert_close(vit(images), tokens[:, 0])


def test_parameter_counts_match_table_1() -> None:
    def millions(model: ModelConfig) -> float:
        return sum(p.numel() for p in build_backbone(model, 224).parameters()) / 1e6

    assert millions(ModelConfig()) == pytest.approx(21.67, abs=0.01)
    assert millions(ModelConfig(patch_size=8)) == pytest.approx(21.67, abs=0.05)
    resnet = ModelConfig(family=Family.timm, name="resnet50")
    assert millions(resnet) == pytest.approx(23.5, abs=0.1)
    assert feature_dim(build_backbone(resnet, 224)) == 2048


def small_run() -> RunConfig:
    config = RunConfig(model=TINY, head=HeadConfig(hidden_dim=16, bottleneck_dim=8, prototypes=12))
    config.views.global_size, config.views.local_size = 32, 16
    return config


def test_the_teacher_starts_as_the_student_but_is_a_network_of_its_own() -> None:
    config = small_run()
    student = build_student(config)
    teacher = build_teacher(config, student)
    for (name, ours), theirs in zip(
        student.state_dict().items(), teacher.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name
        assert ours.data_ptr() != theirs.data_ptr(), name
    assert not any(p.requires_grad for p in teacher.parameters())


def test_drop_path_belongs_to_the_student_alone_and_both_stay_in_training_mode() -> None:
    config = small_run()
    student = build_student(config)
    teacher = build_teacher(config, student)
    images = [torch.randn(4, 3, 32, 32)]
    assert student.training
    assert teacher.training
    assert not torch.equal(student(images)[0], student(images)[0])
    assert torch.equal(teacher(images)[0], teacher(images)[0])


def test_grouping_views_by_resolution_equals_one_pass_per_crop() -> None:
    config = small_run()
    network = build_student(config).eval()
    global_views, local_views = torch.randn(4, 3, 32, 32), torch.randn(6, 3, 16, 16)
    features, _, logits = network([global_views, local_views])
    apart = [network.backbone(crop[None]) for crop in [*global_views, *local_views]]
    torch.testing.assert_close(features, torch.cat(apart), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits, network.head(torch.cat(apart)), atol=1e-5, rtol=1e-5)
