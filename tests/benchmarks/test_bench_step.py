"""The training step against Algorithm 1 written plainly, and against its bare matrix products."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from repro.config.schema import Precision, RunConfig
from repro.data.dataset import Dataset
from repro.data.datasets import open_dataset
from repro.data.in_memory import MemorySplit
from repro.data.views.batched import make_views
from repro.dino.diagnostics import feature_statistics, to_floats
from repro.dino.teachers import relative_distance
from repro.harness.plan.cost import work_of_an_image
from repro.train import Trainer
from tests.benchmarks.measure import (
    DEVICE,
    FULL,
    Against,
    compare,
    config_of,
    fastest,
    matrix_rate,
    use_threads,
)
from tests.benchmarks.plain_step import PlainStep
from tests.benchmarks.products import BareProducts, model_operations

GPU = DEVICE.type == "cuda"
MODELS = {"vit_small": "ViT-S/16", "vit_base": "ViT-B/16"}
EPOCH = 2  # past the warm-up of the last layer
SMALL = {"model.dim": 32, "model.depth": 2, "model.heads": 2, "head.prototypes": 64,
         "head.hidden_dim": 32, "head.bottleneck_dim": 16, "train.batch_size": 2}  # fmt: skip
# Batch 8 and 8 local crops on a CPU; 64 and 10, as the authors train, on a GPU: gpu/.
FULL_CPU = {"train.batch_size": 8, "head.prototypes": 16384, "views.local_number": 8}
FULL_GPU = {"train.batch_size": 64, "head.prototypes": 65536, "views.local_number": 10}


def vit_config(model: str, precision: str) -> RunConfig:
    full = {"model": model, **(FULL_GPU if GPU else FULL_CPU)}
    return config_of(
        "paper", {**SMALL, "train.precision": precision}, {**full, "train.precision": precision}
    )


def trainer_of(config: RunConfig) -> Trainer:
    """A trainer whose data set is never looked at; an epoch is longer than any measurement."""
    images = torch.zeros(64 * config.train.batch_size, 3, 8, 8, dtype=torch.uint8)
    split = MemorySplit(images, torch.zeros(len(images), dtype=torch.long))
    return Trainer(config, Dataset("none", ["a"], split, split), DEVICE)


def random_views(config: RunConfig) -> list[Tensor]:
    views, batch = config.views, config.train.batch_size
    shapes = [(2, views.global_size), (views.local_number, views.local_size)]
    return [torch.randn(n * batch, 3, side, side, device=DEVICE) for n, side in shapes if n]


def stepper(trainer: Trainer, views: list[Tensor]) -> Callable[[], object]:
    labels = torch.zeros(trainer.config.train.batch_size, dtype=torch.long)
    return lambda: trainer._step(views, labels, EPOCH)


def work_rate(config: RunConfig, seconds: float, scale: str) -> dict[str, Any]:
    """For `repro plan`: operations a second, of a core or a GPU, as its estimates count them."""
    processors = 1 if GPU else torch.get_num_threads()
    done = config.train.batch_size * work_of_an_image(config)
    return {"scale": scale, "work_rate": done / seconds / processors}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_vit_step(benchmark: BenchmarkFixture, precision: str) -> None:
    use_threads()
    config = vit_config("vit_small", precision)
    views = random_views(config)
    trainer = trainer_of(config)
    ours = stepper(trainer, views)
    plainly = copy.deepcopy(config)
    plainly.train.precision = Precision.fp32  # the authors' mixed precision is CUDA's alone
    plain_step = PlainStep(plainly, DEVICE)
    bare = BareProducts(config, DEVICE)
    seconds = compare(
        benchmark,
        f"training step, ViT-S/16, {precision}",
        ours,
        baseline=Against("Algorithm 1 written plainly, fp32", lambda: plain_step(views)),
        limit=Against("its bare matrix products", bare),
        rounds=3,
        operations=bare.operations,
        bytes=bare.bytes,
    )
    rate = matrix_rate(torch.bfloat16 if precision == "bf16" else torch.float32)
    batch = config.train.batch_size
    benchmark.extra_info.update(
        images_per_second=batch / seconds["ours"],
        rate=bare.operations / seconds["ours"],
        share_of_matrix_rate=bare.operations / seconds["ours"] / rate,
        model_share=model_operations(config) / seconds["ours"] / rate,
        **work_rate(config, seconds["ours"], "paper"),
    )


def laptop() -> tuple[Trainer, RunConfig]:
    config = config_of("laptop", {**SMALL, "data.train_tiles": 4, "data.test_tiles": 2}, {})
    return Trainer(config, open_dataset(config.data, "", device=DEVICE), DEVICE), config


def test_laptop_step(benchmark: BenchmarkFixture) -> None:
    use_threads(1)
    trainer, config = laptop()
    split, batch = trainer.dataset.train, config.train.batch_size
    plain_step = PlainStep(config, DEVICE)
    order = torch.arange(batch)

    def views() -> list[Tensor]:
        (made,) = split.view_batches([order], config.views, 0, 0)
        return made

    fixed = [view.to(DEVICE) for view in views()]
    labels = torch.zeros(batch, dtype=torch.long)
    bare = BareProducts(config, DEVICE)
    seconds = compare(
        benchmark,
        "laptop scale: views and training step, one core",
        lambda: trainer._step(views(), labels, EPOCH),
        baseline=Against(
            "the same views, Algorithm 1 written plainly", lambda: plain_step(views())
        ),
        limit=Against("its bare matrix products", bare),
        operations=bare.operations,
        bytes=bare.bytes,
    )
    parts = fastest({"views": views, "step": stepper(trainer, fixed)}, 5)
    benchmark.extra_info.update(
        images_per_second=batch / seconds["ours"],
        rate=bare.operations / seconds["ours"],
        views_share=parts["views"] / seconds["ours"],
        **work_rate(config, seconds["ours"], "laptop"),
    )


def test_views_of_images_in_memory(benchmark: BenchmarkFixture) -> None:
    """Their share of a step; on a GPU they are made there."""
    use_threads(0 if GPU else 1)
    config = config_of("gpu", {**SMALL, "data.resolution": 32, "data.tile": 32}, {})
    images = torch.randint(0, 256, (config.train.batch_size, 3, 64, 64), dtype=torch.uint8).to(
        DEVICE
    )
    step = stepper(trainer_of(config), random_views(config))
    random = torch.Generator().manual_seed(0)
    seconds = compare(
        benchmark,
        "views of 64 px images in memory",
        lambda: make_views(images, config.views, random),
        rounds=3,
    )
    benchmark.extra_info["share_of_step"] = seconds["ours"] / fastest({"step": step}, 2)["step"]


def test_diagnostics(benchmark: BenchmarkFixture) -> None:
    """Beyond what the loss computes anyway: of features, of weights, and their transfer."""
    use_threads(1)
    trainer, config = laptop()
    features = torch.randn(2 * config.train.batch_size, config.model.dim, device=DEVICE)

    def diagnostics() -> dict[str, float]:
        scalars = feature_statistics(features)
        scalars["student_teacher_distance"] = relative_distance(trainer.teacher, trainer.student)
        return to_floats(scalars)

    step = stepper(trainer, random_views(config))
    seconds = compare(benchmark, "diagnostics of a laptop step", diagnostics)
    benchmark.extra_info["share_of_step"] = seconds["ours"] / fastest({"step": step}, 3)["step"]


def variant_of_the_step(benchmark: BenchmarkFixture, key: str, title: str) -> None:
    """A step with one switch of `resources` on, against the usual step."""
    use_threads()
    config = vit_config("vit_small", "bf16")
    views = random_views(config)
    usual = stepper(trainer_of(config), views)
    setattr(config.resources, key, True)
    ours = stepper(trainer_of(config), views)
    compare(benchmark, title, ours, baseline=Against("the usual step", usual), rounds=3)


def test_recomputed_activations(benchmark: BenchmarkFixture) -> None:
    variant_of_the_step(benchmark, "recompute", "step with recomputed activations")


if FULL:  # compiling takes a minute or two

    def test_compiled_blocks(benchmark: BenchmarkFixture) -> None:
        variant_of_the_step(benchmark, "compile", "step with compiled blocks")
