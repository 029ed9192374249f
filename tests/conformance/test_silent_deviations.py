"""S1 to S24: deviations that crept into other implementations, one test each that ours has not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from repro.config.compose import compose
from repro.config.schema import ClipKind, HeadConfig, RunConfig, TargetConfig, ViewsConfig
from repro.data.dataset import Dataset
from repro.data.views.batched import make_views
from repro.data.views.kinds import view_kinds
from repro.data.views.reference import view_transform
from repro.dino import schedules
from repro.dino.backbones import build_backbone
from repro.dino.heads import DinoHead
from repro.dino.optimiser import build_optimiser, clip_gradients
from repro.dino.targets import Centre
from repro.dino.vit import resample_positions
from repro.evals.attention import best_jaccard
from repro.randomness import epoch_order
from repro.train import Trainer

CPU = torch.device("cpu")
EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def train(trainer: Trainer, count: int) -> list[float]:
    losses: list[float] = []
    for event in trainer.run():
        if event["kind"] == "step":
            losses.append(event["loss"])
            if len(losses) == count:
                break
    return losses


def copies(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


@pytest.fixture
def moving(config: RunConfig) -> RunConfig:
    """A run whose first step moves everything."""
    config.optim.warmup_epochs, config.head.freeze_last_layer_epochs = 0, 0
    return config


def test_s01_the_teacher_is_no_alias_of_the_student(config: RunConfig, data: Dataset) -> None:
    trainer = Trainer(config, data, CPU)
    students = {p.data_ptr() for p in trainer.student.parameters()}
    assert not students & {p.data_ptr() for p in trainer.teacher.parameters()}
    with torch.no_grad():
        trainer.student.head.last_layer.directions.add_(1)
    assert not torch.equal(
        trainer.student.head.last_layer.directions, trainer.teacher.head.last_layer.directions
    )


def test_s02_heads_and_backbones_of_teacher_and_student_start_equal(
    config: RunConfig, data: Dataset
) -> None:
    trainer = Trainer(config, data, CPU)
    for part in ("backbone", "head"):
        ours, theirs = (copies(getattr(n, part)) for n in (trainer.student, trainer.teacher))
        assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items()), part


def test_s03_the_last_layer_is_frozen_in_the_student(config: RunConfig, data: Dataset) -> None:
    config.optim.warmup_epochs = 0
    trainer = Trainer(config, data, CPU)
    before = copies(trainer.student.head.last_layer)
    train(trainer, trainer.steps_per_epoch)
    assert torch.equal(trainer.student.head.last_layer.directions, before["directions"])
    assert not torch.equal(trainer.student.head.mlp[0].weight, trainer.teacher.head.mlp[0].weight)


def test_s04_the_heads_mlp_starts_with_a_standard_deviation_of_0_02_not_0_2() -> None:
    weight = DinoHead(256, HeadConfig(hidden_dim=512, prototypes=8)).mlp[0].weight.detach()
    assert float(weight.std()) == pytest.approx(0.02, rel=0.03)


def test_s05_batch_norms_of_the_head_are_two() -> None:
    head = DinoHead(8, HeadConfig(hidden_dim=6, bottleneck_dim=4, prototypes=5, batch_norm=True))
    first, second = (m for m in head.mlp if isinstance(m, nn.BatchNorm1d))
    assert first is not second
    assert first.weight.data_ptr() != second.weight.data_ptr()


def test_s06_positions_are_learned_from_a_truncated_normal_and_linear_layers_are_not_xavier(
    config: RunConfig,
) -> None:
    vit = build_backbone(RunConfig().model, 224)
    assert vit.pos_embed.requires_grad
    assert float(vit.pos_embed.detach().std()) == pytest.approx(0.02, rel=0.02)
    assert float(vit.blocks[0].mlp.fc1.weight.detach().std()) == pytest.approx(0.02, rel=0.02)
    assert float(vit.cls_token.detach().std()) == pytest.approx(0.02, rel=0.2)


def test_s07_prototypes_are_normalised_their_length_does_not_matter() -> None:
    head = DinoHead(8, HeadConfig(hidden_dim=8, bottleneck_dim=4, prototypes=6))
    x = torch.randn(3, 8)
    before = head(x)
    with torch.no_grad():
        head.last_layer.directions.mul_(torch.rand(6, 1) * 5 + 0.1)
    torch.testing.assert_close(head(x), before)


def test_s08_the_centre_is_a_buffer_and_its_first_update_averages_with_zero() -> None:
    centre = Centre(2, TargetConfig(centre_momentum=0.9))
    assert "centre_K" in centre.state_dict()
    centre.update(torch.tensor([[[10.0, -10.0]]]))
    torch.testing.assert_close(centre.centre_K, torch.tensor([1.0, -1.0]))


def test_s09_the_centre_survives_a_checkpoint(config: RunConfig, data: Dataset) -> None:
    trainer = Trainer(config, data, CPU)
    train(trainer, 3)
    other = Trainer(config, data, CPU)
    other.load_state_dict(trainer.state_dict())
    assert float(other.method.centre.centre_K.abs().max()) > 0
    assert torch.equal(other.method.centre.centre_K, trainer.method.centre.centre_K)


def test_s10_the_teacher_follows_the_updated_student_with_this_iterations_momentum(
    moving: RunConfig, data: Dataset
) -> None:
    trainer = Trainer(moving, data, CPU)
    start = copies(trainer.teacher)
    train(trainer, 1)
    m = schedules.teacher_momentum(moving, 0, trainer.steps_per_epoch)
    for name, new in trainer.student.named_parameters():
        expected = m * start[name] + (1 - m) * new.detach()
        torch.testing.assert_close(dict(trainer.teacher.named_parameters())[name], expected)
    assert m != schedules.teacher_momentum(moving, 1, trainer.steps_per_epoch)


def test_s11_teacher_and_centre_move_once_a_step_however_a_batch_is_divided(
    moving: RunConfig, data: Dataset
) -> None:
    whole = Trainer(moving, data, CPU)
    train(whole, 2)
    moving.resources.accumulate = 4
    parts = Trainer(moving, data, CPU)
    train(parts, 2)
    torch.testing.assert_close(parts.method.centre.centre_K, whole.method.centre.centre_K)
    ours, theirs = copies(parts.teacher), copies(whole.teacher)
    name = "head.mlp.0.weight"
    torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-6)


def test_s12_local_crops_take_part_in_the_loss(moving: RunConfig, data: Dataset) -> None:
    with_locals = Trainer(moving, data, CPU)
    gradients: list[int] = []
    with_locals.replica.register_forward_pre_hook(
        lambda _, inputs: gradients.extend(len(view) for view in inputs[0])
    )
    both = train(with_locals, 1)
    batch = moving.train.batch_size
    assert gradients == [2 * batch, moving.views.local_number * batch]
    moving.views.local_number = 0
    assert train(Trainer(moving, data, CPU), 1) != both


def test_s13_clipping_reaches_backbone_and_head_and_sees_true_gradients(
    moving: RunConfig, data: Dataset
) -> None:
    moving.optim.clip_norm = 1e-3
    trainer = Trainer(moving, data, CPU)
    train(trainer, 1)
    norms = {
        n: float(p.grad.norm()) for n, p in trainer.student.named_parameters() if p.grad is not None
    }
    assert max(norms.values()) <= 1e-3 * (1 + 1e-4)
    clipped = {n.partition(".")[0] for n, v in norms.items() if v > 0.99e-3}
    assert clipped == {"backbone", "head"}


def test_s14_clip_3_is_a_bound_for_each_tensor_not_for_all_together() -> None:
    layer = nn.Linear(1, 1)
    layer.weight.grad, layer.bias.grad = torch.tensor([[2.9]]), torch.tensor([2.9])
    clip_gradients(layer, ClipKind.per_tensor, 3.0)
    assert float(layer.weight.grad) == float(layer.bias.grad) == pytest.approx(2.9)
    clip_gradients(layer, ClipKind.global_norm, 3.0)
    assert float(layer.weight.grad) < 2.2


def test_s15_views_are_asymmetric_and_the_recipe_is_adamws_with_moving_decay() -> None:
    first, second, local = view_kinds(ViewsConfig())[:3]
    assert (first.solarise, second.solarise, local.solarise) == (0.0, 0.2, 0.0)
    assert (first.blur, second.blur, local.blur) == (1.0, 0.1, 0.5)
    images = torch.full((64, 3, 32, 32), 250, dtype=torch.uint8)
    only_solarise = ViewsConfig(
        global_size=32, local_size=16, local_number=1, jitter=0, grey=0, blur=(0, 0, 0), solarise=1
    )
    global_views, local_views = make_views(images, only_solarise, torch.Generator().manual_seed(0))
    bright, inverted = global_views.chunk(2)
    assert float(bright.min()) > 0 > float(inverted.max())
    assert float(local_views.min()) > 0
    group = build_optimiser(nn.Linear(2, 2)).param_groups[0]
    assert group["betas"] == (0.9, 0.999)
    c = RunConfig()
    assert schedules.weight_decay(c, 0, 10) != schedules.weight_decay(c, 500, 10)


def test_s16_saturation_is_jittered_by_0_2_and_the_rate_moves_every_iteration() -> None:
    assert ViewsConfig().saturation == 0.2
    c = RunConfig()
    rates = [schedules.learning_rate(c, s, 100) for s in range(2000, 2100)]
    assert len(set(rates)) == 100


def test_s17_the_second_global_view_has_the_same_colour_jitter() -> None:
    colours = ViewsConfig(brightness=0.1, contrast=0.2, saturation=0.3, hue=0.05)
    jitters = [view_transform(k, colours).transforms[2].transforms[0] for k in view_kinds(colours)]
    wanted = {(0.9, 1.1, 0.8, 1.2, 0.7, 1.3)}
    found = {
        tuple(round(x, 6) for x in (*j.brightness, *j.contrast, *j.saturation)) for j in jitters
    }
    assert found == wanted


def test_s18_the_papers_recipe_is_the_papers() -> None:
    c = compose(EXPERIMENTS, "paper")
    assert schedules.learning_rate(c, 10 * 1251, 1251) == pytest.approx(2e-3)  # batch 1024
    assert (c.teacher.momentum, c.teacher.momentum_end) == (0.996, 1.0)
    assert (c.optim.weight_decay, c.optim.weight_decay_end) == (0.04, 0.4)
    assert c.head.freeze_last_layer_epochs == 1
    code = compose(EXPERIMENTS, "paper", {"preset": "vanilla"})
    assert (code.optim.clip, code.optim.clip_norm) == (ClipKind.per_tensor, 3.0)


def test_s19_positions_are_not_resampled_by_size_or_with_antialiasing() -> None:
    positions = torch.randn(1, 197, 8, generator=torch.Generator().manual_seed(0)) * 0.02
    ours = resample_positions(positions, 6, 6)
    timms = resample_abs_pos_embed(positions, [6, 6], num_prefix_tokens=1)
    assert float(ours[:, 1:].std()) == pytest.approx(0.0171, abs=0.001)
    assert float(timms[:, 1:].std()) == pytest.approx(0.0072, abs=0.001)


def test_s20_a_frozen_layer_gathers_no_moments(config: RunConfig, data: Dataset) -> None:
    trainer = Trainer(config, data, CPU)
    train(trainer, trainer.steps_per_epoch)
    state = trainer.optimiser.state
    assert trainer.student.head.last_layer.directions not in state
    assert trainer.student.head.mlp[0].weight in state


def test_s21_the_temperature_is_constant_within_an_epoch(config: RunConfig, data: Dataset) -> None:
    config.target.temp_start, config.target.temp, config.target.temp_warmup_epochs = 0.04, 0.07, 2
    events = [e for e in Trainer(config, data, CPU).run() if e["kind"] == "step"]
    half = len(events) // 2
    assert [e["teacher_temp"] for e in events] == [0.04] * half + [0.07] * half


def test_s22_a_resumed_run_sees_the_images_it_would_have_seen(
    config: RunConfig, data: Dataset
) -> None:
    seen: list[list[int]] = []

    class Watched:
        labels_N = data.train.labels_N
        evaluation_batches = data.train.evaluation_batches

        def view_batches(self, batches: list[Tensor], *arguments: Any) -> Iterator[list[Tensor]]:
            seen.append(torch.cat(batches).tolist())
            return data.train.view_batches(batches, *arguments)

    watched = Dataset(data.name, data.classes, Watched(), data.test)
    first = Trainer(config, watched, CPU)
    train(first, 2)
    second = Trainer(config, watched, CPU)
    second.load_state_dict(first.state_dict())
    train(second, 1)
    size = config.train.batch_size
    order = epoch_order(config.seed, 0, len(data.train.labels_N)).tolist()
    assert seen[0] == order
    assert seen[1] == order[2 * size :]


def test_s23_weights_that_do_not_fit_are_refused(config: RunConfig, data: Dataset) -> None:
    trainer = Trainer(config, data, CPU)
    for part, missing in (("student", "backbone.cls_token"), ("method", "centre.centre_K")):
        state = trainer.state_dict()
        del state[part][missing]
        with pytest.raises(RuntimeError, match="Missing key"):
            Trainer(config, data, CPU).load_state_dict(state)


def test_s24_void_pixels_belong_to_no_mask() -> None:
    truth = torch.tensor([[1, 1, 0, 0, 0, 0]]).bool()
    void = torch.tensor([[0, 0, 1, 1, 0, 0]]).bool()
    exact_outside = torch.tensor([[1, 1, 1, 1, 0, 0]]).bool()
    assert best_jaccard(exact_outside[None], truth[None], void).tolist() == [1]
    assert best_jaccard(exact_outside[None], truth[None], torch.zeros_like(void)).tolist() == [0.5]
    other = torch.tensor([[0, 0, 0, 0, 1, 1]]).bool()
    masks, objects = torch.stack([exact_outside, other]), torch.stack([truth, other])
    assert best_jaccard(masks, objects, void).tolist() == [1, 1]  # each object has its own head
    assert best_jaccard(masks[:1], objects, void).tolist() == [1, 0]
