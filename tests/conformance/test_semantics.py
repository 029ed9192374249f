"""F1 to F22: what the authors' code does in training, one test each, with oracles of our own.

Tests whose docstring says "departure" pin what is done here on purpose instead (deviation ledger).
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from timm.layers import DropPath
from torch import Tensor, nn
from torchvision import transforms as T

from repro.config.compose import compose
from repro.config.schema import (
    ClipKind,
    Family,
    HeadConfig,
    Precision,
    RunConfig,
    TargetConfig,
    ViewsConfig,
)
from repro.data.dataset import Dataset
from repro.data.views.kinds import view_kinds
from repro.data.views.reference import view_transform
from repro.dino import schedules
from repro.dino.backbones import build_backbone
from repro.dino.heads import DinoHead
from repro.dino.losses import log_student, pair_count, pairwise_cross_entropy
from repro.dino.networks import build_student, build_teacher
from repro.dino.optimiser import build_optimiser, clip_gradients
from repro.dino.targets import Centre, log_probabilities
from repro.dino.vit import resample_positions
from repro.harness.runs import checkpoint
from repro.randomness import derive, epoch_order
from repro.train import Diverged, Trainer

CPU = torch.device("cpu")
SMALL = HeadConfig(hidden_dim=20, bottleneck_dim=12, prototypes=7)


def steps(trainer: Trainer, count: int) -> list[float]:
    losses: list[float] = []
    for event in trainer.run():
        if event["kind"] == "step":
            losses.append(event["loss"])
            if len(losses) == count:
                break
    return losses


def copies(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def test_f01_the_head_has_three_gelu_layers_an_l2_bottleneck_and_prototypes_without_bias() -> None:
    head = DinoHead(384, HeadConfig(prototypes=64))
    assert [(m.in_features, m.out_features) for m in head.mlp if isinstance(m, nn.Linear)] == [
        (384, 2048), (2048, 2048), (2048, 256),
    ]  # fmt: skip
    assert sum(isinstance(m, nn.GELU) for m in head.mlp) == 2
    assert not isinstance(head.mlp[-1], nn.GELU)
    torch.testing.assert_close(head.project(torch.randn(5, 384)).norm(dim=1), torch.ones(5))
    assert {n for n, _ in head.last_layer.named_parameters()} == {"directions", "norms"}
    # Truncated normal of 0.02 and zero biases reach the MLP only; the prototypes keep U(+-1/16).
    assert head.mlp[2].weight.detach().std().item() == pytest.approx(0.02, rel=0.02)
    assert float(head.mlp[2].bias.detach().abs().max()) == 0
    directions = head.last_layer.directions.detach()
    assert 0.06 < float(directions.abs().max()) <= 1 / 16
    assert torch.equal(head.last_layer.norms, torch.ones(64, 1))


def test_f02_frozen_norms_make_logits_cosines_and_free_ones_are_trained_and_decayed() -> None:
    frozen, free = (
        DinoHead(8, HeadConfig(hidden_dim=8, bottleneck_dim=4, prototypes=9, norm_last_layer=n))
        for n in (True, False)
    )
    assert float(frozen(torch.randn(50, 8)).detach().abs().max()) <= 1 + 1e-6
    assert not frozen.last_layer.norms.requires_grad
    decayed = build_optimiser(free).param_groups[0]["params"]
    assert any(p is free.last_layer.norms for p in decayed)
    assert not any(
        p is frozen.last_layer.norms
        for g in build_optimiser(frozen).param_groups
        for p in g["params"]
    )


def test_f03_batch_norm_follows_the_first_two_linear_layers_only_and_is_off_by_default() -> None:
    head = DinoHead(8, HeadConfig(hidden_dim=6, bottleneck_dim=4, batch_norm=True))
    kinds = [type(layer).__name__ for layer in head.mlp]
    assert kinds == ["Linear", "BatchNorm1d", "GELU", "Linear", "BatchNorm1d", "GELU", "Linear"]
    assert not any(isinstance(m, nn.BatchNorm1d) for m in DinoHead(8, SMALL).modules())


def test_f04_the_teacher_loads_the_students_weights_has_no_drop_path_and_stays_in_training_mode(
    config: RunConfig, data: Dataset
) -> None:
    config.model.drop_path = 0.3
    trainer = Trainer(config, data, CPU)
    theirs = trainer.teacher.state_dict()
    assert theirs.keys() == trainer.student.state_dict().keys()
    assert all(torch.equal(theirs[n], t) for n, t in trainer.student.state_dict().items())
    steps(trainer, trainer.steps_per_epoch + 1)  # beyond an evaluation
    assert trainer.teacher.training
    assert not any(isinstance(m, DropPath) for m in trainer.teacher.modules())
    assert not any(p.requires_grad for p in trainer.teacher.parameters())


def test_f05_the_loss_is_the_mean_over_the_pairs_of_different_views() -> None:
    assert (pair_count(2, 2 + 8), pair_count(2, 2 + 10)) == (18, 22)
    targets, student = torch.randn(2, 3, 5).softmax(-1), torch.randn(4, 3, 5)
    terms = [
        -(targets[g, b] * (student[v, b] / 0.1).log_softmax(-1)).sum()
        for g in range(2) for v in range(4) for b in range(3) if g != v
    ]  # fmt: skip
    ours = pairwise_cross_entropy(targets, log_student(student, 0.1))
    torch.testing.assert_close(ours, torch.stack(terms).mean())
    uniform = torch.full((2, 3, 4096), 1 / 4096, dtype=torch.float64)
    student = torch.zeros(4, 3, 4096, dtype=torch.float64)
    loss = pairwise_cross_entropy(uniform, log_student(student, 0.1))
    assert float(loss) == pytest.approx(math.log(4096))


def test_f06_the_centre_in_use_is_the_one_before_this_steps_update_and_starts_at_zero() -> None:
    centre = Centre(3, TargetConfig(centre_momentum=0.9))
    teacher = torch.randn(2, 6, 3)
    expected = torch.zeros(3)
    for _ in range(4):
        target = log_probabilities(TargetConfig(), centre.subtract(teacher), 0.04)
        torch.testing.assert_close(target, ((teacher - expected) / 0.04).log_softmax(-1))
        centre.update(teacher)
        expected = 0.9 * expected + 0.1 * teacher.flatten(0, 1).mean(0)
    torch.testing.assert_close(centre.centre_K, (1 - 0.9**4) * teacher.flatten(0, 1).mean(0))


def test_f07_the_teacher_temperature_is_a_table_with_one_entry_an_epoch() -> None:
    c = RunConfig()
    c.target.temp_start, c.target.temp, c.target.temp_warmup_epochs = 0.04, 0.07, 4
    table = [schedules.teacher_temperature(c, epoch) for epoch in range(6)]
    assert table == pytest.approx([0.04, 0.05, 0.06, 0.07, 0.07, 0.07])


def test_f08_schedules_move_every_iteration_and_the_warm_up_includes_both_ends() -> None:
    c = RunConfig()
    c.train.epochs, c.train.batch_size, c.optim.warmup_epochs = 20, 256, 10
    spe = 7
    rates = [schedules.learning_rate(c, s, spe) for s in range(20 * spe)]
    assert rates[0] == 0
    assert rates[69:71] == pytest.approx([5e-4, 5e-4])  # the peak is used twice
    assert rates[71] < rates[70]
    assert c.optim.min_lr < rates[-1] < 5e-6  # the end is approached, never reached
    decays = [schedules.weight_decay(c, s, spe) for s in range(20 * spe)]
    momenta = [schedules.teacher_momentum(c, s, spe) for s in range(20 * spe)]
    assert (decays[0], momenta[0]) == pytest.approx((0.04, 0.996))  # no warm-up
    assert decays[70] == pytest.approx(0.22)
    assert momenta[70] == pytest.approx(0.998)
    assert decays[-1] < 0.4
    assert momenta[-1] < 1


def test_f09_the_learning_rate_scales_with_the_batch_and_its_minimum_does_not() -> None:
    c = RunConfig()
    c.optim.warmup_epochs = 0
    for batch in (128, 1024):
        c.train.batch_size = batch
        assert schedules.learning_rate(c, 0, 10) == pytest.approx(5e-4 * batch / 256)
        end = schedules.cosine(10**9 - 1, 10**9, c.optim.lr * batch / 256, c.optim.min_lr)
        assert end == pytest.approx(1e-6)


def test_f10_biases_and_1d_parameters_are_not_decayed_the_tokens_and_positions_are(
    config: RunConfig,
) -> None:
    student = build_student(config)
    groups = build_optimiser(student).param_groups
    names = {id(p): n for n, p in student.named_parameters()}
    decayed = {names[id(p)] for p in groups[0]["params"]}
    plain = {names[id(p)] for p in groups[1]["params"]}
    assert {"backbone.cls_token", "backbone.pos_embed", "head.last_layer.directions"} <= decayed
    assert all(n.endswith(".bias") or ".norm" in n for n in plain)
    assert not any(n.endswith(".bias") for n in decayed)
    assert groups[1]["weight_decay"] == 0


def test_f11_each_tensors_gradient_is_clipped_on_its_own() -> None:
    layer = nn.Linear(4, 4)
    layer.weight.grad, layer.bias.grad = torch.full((4, 4), 2.0), torch.full((4,), 1.0)
    clip_gradients(layer, ClipKind.per_tensor, 3.0)
    assert float(layer.weight.grad.norm()) == pytest.approx(3.0, abs=1e-5)  # was 8
    assert torch.equal(layer.bias.grad, torch.ones(4))  # was 2: untouched


def test_f12_a_frozen_last_layer_has_no_gradient_no_moments_and_no_decay(
    config: RunConfig, data: Dataset
) -> None:
    config.optim.warmup_epochs, config.optim.weight_decay = 0, 0.4
    trainer = Trainer(config, data, CPU)
    layer = trainer.student.head.last_layer.directions
    before = layer.detach().clone()
    steps(trainer, trainer.steps_per_epoch)
    assert torch.equal(layer, before)
    assert layer not in trainer.optimiser.state
    steps(trainer, 1)
    assert not torch.equal(layer, before)


def test_f13_the_teacher_averages_all_parameters_after_every_step_and_no_buffers(
    config: RunConfig, data: Dataset
) -> None:
    config.optim.warmup_epochs, config.head.freeze_last_layer_epochs = 0, 0
    config.head.norm_last_layer, config.head.batch_norm = False, True
    trainer = Trainer(config, data, CPU)
    teacher = copies(trainer.teacher)
    for step in range(3):
        steps(trainer, 1)
        m = schedules.teacher_momentum(config, step, trainer.steps_per_epoch)
        student = copies(trainer.student)
        teacher = {n: m * t + (1 - m) * student[n] for n, t in teacher.items()}
    for name, tensor in trainer.teacher.named_parameters():
        torch.testing.assert_close(tensor.detach(), teacher[name])
    buffers = dict(trainer.teacher.named_buffers())
    name = "head.mlp.1.running_mean"
    assert not torch.allclose(buffers[name], dict(trainer.student.named_buffers())[name])


def test_f14_views_of_one_resolution_share_a_backbone_pass_and_all_share_one_head_pass(
    config: RunConfig,
) -> None:
    student = build_student(config)
    passes: list[str] = []
    student.backbone.blocks[0].register_forward_hook(lambda *_: passes.append("backbone"))
    student.head.mlp.register_forward_hook(lambda *_: passes.append("head"))
    global_views, local_views = torch.randn(2 * 3, 3, 32, 32), torch.randn(4 * 3, 3, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        features, _, logits = student([global_views, local_views])
    assert passes == ["backbone", "backbone", "head"]
    assert features.dtype == torch.float32  # gathered in fp32, also under autocast
    assert logits.shape == (18, config.head.prototypes)


def cubic_weight(distance: float, a: float = -0.75) -> float:
    """Keys' cubic convolution kernel, without antialiasing."""
    d = abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0.0


def test_f15_positions_are_sampled_at_the_authors_coordinates() -> None:
    # (6 + 0.1) / 14 as scale: 0.65, 2.94, ..., 12.12 where resampling by size has 0.67, ..., 12.33.
    ramp = torch.arange(14.0).view(1, 14, 1, 1).expand(1, 14, 14, 1).reshape(1, 196, 1)
    grid = resample_positions(torch.cat([torch.zeros(1, 1, 1), ramp], dim=1), 6, 6)
    rows = grid[0, 1:, 0].view(6, 6)[:, 3]
    expected = [(i + 0.5) * 14 / 6.1 - 0.5 for i in range(6)]
    assert expected[1] == pytest.approx(2.9426, abs=1e-4)
    cubic = [
        sum(
            cubic_weight(x - i) * min(max(i, 0), 13)
            for i in range(math.floor(x) - 1, math.floor(x) + 3)
        )
        for x in expected
    ]
    assert rows.tolist() == pytest.approx(cubic, abs=1e-4)


def test_f16_stochastic_depth_rises_to_its_rate_per_sample_and_twice_a_block() -> None:
    config = RunConfig().model
    vit = build_backbone(config, 224, 0.1)
    rates = [m.drop_prob for m in vit.modules() if isinstance(m, DropPath)]
    expected = [0.1 * block / 11 for block in range(1, 12) for _ in range(2)]
    assert rates == pytest.approx(expected)
    drop = DropPath(0.5).train()
    torch.manual_seed(0)
    out = drop(torch.ones(400, 3, 2))
    assert {tuple(row.unique().tolist()) for row in out} == {(0.0,), (2.0,)}  # whole samples
    assert float((out[:, 0, 0] == 0).float().mean()) == pytest.approx(0.5, abs=0.1)


def test_f17_augmentations_are_byols_with_blur_and_solarisation_by_view() -> None:
    kinds = view_kinds(ViewsConfig())
    assert [k.blur for k in kinds] == [1.0, 0.1] + [0.5] * 8
    assert [k.solarise for k in kinds] == [0.0, 0.2] + [0.0] * 8
    for kind in kinds[:3]:
        crop, flip, jitter, grey, blur, solarise, _ = view_transform(kind, ViewsConfig()).transforms
        assert (crop.interpolation, crop.scale) == (T.InterpolationMode.BICUBIC, kind.scale)
        assert crop.size == (kind.size, kind.size)
        assert (flip.p, jitter.p, grey.p, blur.p) == (0.5, 0.8, 0.2, kind.blur)
        colours = jitter.transforms[0]
        assert colours.brightness == pytest.approx((0.6, 1.4))
        assert colours.contrast == pytest.approx((0.6, 1.4))
        assert colours.saturation == pytest.approx((0.8, 1.2))
        assert colours.hue == pytest.approx((-0.1, 0.1))
        assert (blur.transforms[0].low, blur.transforms[0].high) == (0.1, 2.0)
        assert (solarise.threshold, solarise.p) == (128, kind.solarise)


def test_f18_there_is_no_loss_scaler_hence_no_skipped_step(
    config: RunConfig, data: Dataset
) -> None:
    """Departure: bfloat16 needs none; a loss that is not finite ends the run, weights kept."""
    config.train.precision = Precision.bf16
    trainer = Trainer(config, data, CPU)
    steps(trainer, 2)
    assert all(p.dtype == torch.float32 for p in trainer.student.parameters())
    with torch.no_grad():
        trainer.student.head.mlp[0].bias.fill_(float("inf"))
    before = copies(trainer.teacher)
    with pytest.raises(Diverged):
        steps(trainer, 1)
    assert trainer.step == 2
    assert all(torch.equal(before[n], p) for n, p in trainer.teacher.named_parameters())


def test_f19_a_convnets_teacher_normalises_by_its_own_batch(
    config: RunConfig, data: Dataset
) -> None:
    config.model.family, config.model.name = Family.timm, "resnet10t"
    student = build_student(config)
    teacher = build_teacher(config, student)
    norms = [m for m in teacher.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(m.training for m in norms)
    assert all(bool((m.weight == 1).all()) for m in norms)  # torchvision's start, not zero
    before = norms[0].running_mean.clone()
    teacher([torch.randn(8, 3, 32, 32) + 1])
    assert not torch.equal(norms[0].running_mean, before)


def test_f20_random_streams_depend_on_the_rank_and_an_epoch_drops_its_last_batch(
    config: RunConfig, data: Dataset
) -> None:
    """Departure: the authors' ranks share one seed, hence crops and drop path masks."""
    assert len({derive(0, "drop path", 5, rank) for rank in range(8)}) == 8
    assert derive(0, "drop path", 5, 1) != derive(0, "drop path", 6, 0)
    assert sorted(epoch_order(0, 3, 10).tolist()) == list(range(10))
    assert not torch.equal(epoch_order(0, 3, 10), epoch_order(0, 4, 10))
    config.train.batch_size = 50
    assert Trainer(config, data, CPU).steps_per_epoch == 128 // 50


def test_f21_a_run_resumes_within_an_epoch_exactly(
    config: RunConfig, data: Dataset, tmp_path: Path
) -> None:
    """Departure: theirs resumes at epochs and replays the first epoch's augmentations."""
    whole = steps(Trainer(config, data, CPU), 6)
    first = Trainer(config, data, CPU)
    begun = steps(first, 3)
    checkpoint.save(tmp_path, first.state_dict())
    second = Trainer(config, data, CPU)
    state = checkpoint.load(tmp_path)
    assert state is not None
    second.load_state_dict(state)
    assert begun + steps(second, 3) == whole


def test_f22_a_checkpoint_holds_both_networks_the_optimiser_and_the_centre(
    config: RunConfig, data: Dataset
) -> None:
    trainer = Trainer(config, data, CPU)
    steps(trainer, 1)
    state = trainer.state_dict()
    assert {"student", "teacher", "optimiser", "method", "step"} <= state.keys()
    assert torch.equal(state["method"]["centre.centre_K"], trainer.method.centre.centre_K)
    paper = compose(Path(__file__).parents[2] / "experiments", "paper")
    with torch.device("meta"):
        head = DinoHead(384, paper.head)
    trained = sum(p.numel() for n, p in head.named_parameters() if "norms" not in n)
    assert trained / 1e6 == pytest.approx(22.35, abs=0.1)  # more than ViT-S has
