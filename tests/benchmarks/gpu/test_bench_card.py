"""Training steps on a card: ours, Algorithm 1 written plainly and the authors' own, in turn.

`model_share` is the rate of the model's operations as Algorithm 1 has them, over the rate of a
large matrix product: the same operations for everybody, whatever a step leaves out.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from repro.config.schema import CodePath, Resources, RunConfig
from repro.data.datasets import open_dataset
from repro.dino.fast import choice, loss
from repro.train import Trainer
from tests.benchmarks.gpu.authors import AuthorsStep, checkout, crops_of
from tests.benchmarks.gpu.contest import Contest, Step
from tests.benchmarks.gpu.trace import profile_step
from tests.benchmarks.measure import (
    DEVICE,
    FULL,
    config_of,
    fastest,
    matrix_rate,
    note,
    one_line,
    use_threads,
)
from tests.benchmarks.plain_step import PlainStep
from tests.benchmarks.products import BareProducts, model_operations
from tests.benchmarks.test_bench_step import (
    EPOCH,
    MODELS,
    SMALL,
    random_views,
    stepper,
    trainer_of,
    vit_config,
    work_rate,
)

ROUNDS = 3 if FULL else 1
PLAIN = "Algorithm 1 written plainly, bf16"
AUTHORS = "the authors' code, fp16"
SMALL_TILES = {"data.train_tiles": 8, "data.test_tiles": 2}
FULL_TILES = {"data.train_tiles": 64, "data.test_tiles": 2}  # fewer are made sooner
# Beside the usual step: without Triton's kernels, and switches of `resources`. Compiling takes a
# minute.
NO_TRITON = "triton"
VARIANTS: dict[str, Any] = {NO_TRITON: False, "recompute": True, "path": CodePath.reference}
VARIANTS |= {"compile": True} if FULL else {}


class Comparison:
    """One configuration's step, whoever takes it: what all of its results share."""

    def __init__(self, name: str, title: str, config: RunConfig, scale: str) -> None:
        self.name, self.title, self.config, self.scale = name, title, config, scale
        self.contest = Contest()
        self.operations = model_operations(config)
        self.rate = matrix_rate(torch.bfloat16)
        self.more: dict[str, Any] = {}

    def result(self, baseline: str = "", words: str = "") -> dict[str, Any]:
        """Ours, against one of the others where it took part; written out."""
        ours = self.contest.contenders["ours"]
        images = self.config.train.batch_size
        found: dict[str, Any] = {
            "title": self.title,
            "seconds": {"ours": ours.seconds},
            "images_per_second": images / ours.seconds,
            "model_operations": self.operations,
            "model_share": self.operations / ours.seconds / self.rate,
            "rounds": {"ours": ours.rounds},
        }
        if ours.gigabytes:
            found["peak_gigabytes"] = {"ours": ours.gigabytes}
        if other := self.contest.contenders.get(baseline):
            found["baseline"] = words
            found["seconds"]["baseline"] = other.seconds
            found["speedup"] = other.seconds / ours.seconds
            if other.gigabytes:
                found["peak_gigabytes"]["baseline"] = other.gigabytes
            found["baseline_model_share"] = self.operations / other.seconds / self.rate
            found["rounds"]["baseline"] = other.rounds
        elif baseline in self.contest.failed:
            found["error"] = f"{words}: {self.contest.failed[baseline]}"
        found |= self.more
        if baseline == "authors":
            note(f"{self.name}, {words}", found)
        else:
            if self.scale:
                found |= work_rate(self.config, ours.seconds, self.scale)
            note(self.name, found)
        return found

    def profiles(self, *names: str) -> None:
        """Of these contenders' steps, once all have been timed: a profiler leaves launches slower
        than they were.
        """
        for name in names:
            if name in self.contest.contenders:
                self._profile(name)

    def _profile(self, name: str) -> None:
        """What the card and the host do in a step; written out."""
        contender = self.contest.contenders[name]
        try:
            measured = profile_step(contender.step)
        except Exception as error:  # noqa: BLE001 - a profiler that fails costs only its figures
            note(f"{self.name}, profile of {name}", {"error": one_line(error)})
            return
        measured["busy_share"] = measured["busy_seconds"] / contender.seconds
        if name == "ours" and measured["kernels"]:
            keys = ("kernels", "launches", "copies", "synchronisations", "busy_share")
            self.more |= {key: measured[key] for key in keys}
        note(f"{self.name}, profile of {name}", {"profile": measured})


def our_step(config: RunConfig, views: list[Tensor]) -> Callable[[], Step]:
    return lambda: stepper(trainer_of(config), views)


def our_step_without_triton(config: RunConfig, views: list[Tensor]) -> Callable[[], Step]:
    """As on a machine that has none: blocks and loss by torch's own kernels."""

    @contextmanager
    def missing() -> Iterator[None]:
        with ExitStack() as stack:
            for module in (choice, loss):
                stack.enter_context(mock.patch.object(module, "find_spec", return_value=None))
            yield

    def build() -> Step:
        with missing():
            usual = stepper(trainer_of(config), views)

        def step() -> None:
            with missing():
                usual()

        return step

    return build


@pytest.mark.parametrize("model", MODELS)
def test_step_on_a_card(benchmark: BenchmarkFixture, model: str) -> None:
    use_threads()
    torch.backends.cudnn.benchmark = True  # as the authors set it
    config = vit_config(model, "bf16")
    views = random_views(config)
    title = f"training step, {MODELS[model]}, bf16"
    compared = Comparison(f"test_step_on_a_card[{model}]", title, config, "paper")
    contest = compared.contest
    contest.enter("ours", our_step(config, views))
    if "ours" in contest.failed:
        note(f"{compared.name}, with Triton", {"error": contest.failed["ours"]})
        compared.title += ", without Triton"
        contest.enter("ours", our_step_without_triton(config, views), needed=True)
    contest.round()
    compared.result()  # what a cut-off run has

    plain = copy.deepcopy(config)

    def plain_step() -> Step:
        step = PlainStep(plain, DEVICE)
        return lambda: step(views)

    def authors_step() -> Step:
        folder = checkout()
        assert folder is not None
        step = AuthorsStep(folder, config, DEVICE, EPOCH)
        crops = crops_of(views, config)
        return lambda: step(crops)

    contest.enter("plain", plain_step)
    contest.round()
    compared.result("plain", PLAIN)
    if checkout() is not None:
        contest.enter("authors", authors_step)
    contest.begin()
    for _ in range(ROUNDS):
        contest.round()
    compared.rate = max(compared.rate, matrix_rate(torch.bfloat16))  # of a card that is warm
    if checkout() is not None:
        compared.result("authors", AUTHORS)
    compared.profiles("ours", "authors")
    compared.result("plain", PLAIN)
    bare = BareProducts(config, DEVICE)
    limit = fastest({"bare": bare}, 2)["bare"]
    ours = contest.contenders["ours"].seconds
    compared.more |= {
        "operations": bare.operations,
        "bytes": bare.bytes,
        "rate": bare.operations / ours,
        "share_of_matrix_rate": bare.operations / ours / compared.rate,
        "limit": "its bare matrix products",
        "of_limit": limit / ours,
    }
    result = compared.result("plain", PLAIN)
    result["seconds"]["limit"] = limit
    benchmark.extra_info.update(result)
    benchmark.pedantic(lambda: None, rounds=1)


def test_gpu_scale_on_a_card(benchmark: BenchmarkFixture) -> None:
    """Views of images on the card, and the step: what a run of evidence does all the time."""
    use_threads(1)
    config = config_of(
        "gpu", {**SMALL, **SMALL_TILES, "model.dim": 32, "model.heads": 2}, FULL_TILES
    )
    compared = Comparison(
        "test_gpu_scale_on_a_card", "gpu scale: views and training step, bf16", config, "gpu"
    )
    contest = compared.contest
    contest.enter("ours", lambda: views_and_step(config), needed=True)
    contest.round()
    compared.result()

    def plain_step() -> Step:
        step, make = PlainStep(config, DEVICE), views_of(trainer_on_tiles(config))
        return lambda: step(make())

    contest.enter("plain", plain_step)
    fixed = random_views(config)
    contest.enter("step", our_step(config, fixed))
    contest.begin()
    for _ in range(ROUNDS):
        contest.round()
    compared.profiles("ours")
    seconds = {name: one.seconds for name, one in contest.contenders.items()}
    if "step" in seconds:
        compared.more["views_share"] = max(0.0, 1 - seconds["step"] / seconds["ours"])
    benchmark.extra_info.update(compared.result("plain", "the same views, " + PLAIN))
    benchmark.pedantic(lambda: None, rounds=1)


def trainer_on_tiles(config: RunConfig) -> Trainer:
    return Trainer(config, open_dataset(config.data, "", device=DEVICE), DEVICE)


def views_of(trainer: Trainer) -> Callable[[], list[Tensor]]:
    """The views of a batch, made anew at each call."""
    batch = torch.arange(trainer.config.train.batch_size)
    split, views = trainer.dataset.train, trainer.config.views

    def make() -> list[Tensor]:
        (made,) = split.view_batches([batch], views, 0, 0)
        return made

    return make


def views_and_step(config: RunConfig) -> Step:
    trainer = trainer_on_tiles(config)
    make = views_of(trainer)
    labels = trainer.dataset.train.labels_N[: config.train.batch_size]
    return lambda: trainer._step(make(), labels, EPOCH)


@pytest.mark.parametrize("key", VARIANTS)
def test_variant_on_a_card(benchmark: BenchmarkFixture, key: str) -> None:
    """The step with one thing changed, against the usual one."""
    use_threads()
    usual = vit_config("vit_small", "bf16")
    views = random_views(usual)
    changed, value = copy.deepcopy(usual), VARIANTS[key]
    if key == NO_TRITON:
        build, words = our_step_without_triton(usual, views), "without Triton"
    else:
        assert hasattr(Resources(), key)
        setattr(changed.resources, key, value)
        build = our_step(changed, views)
        words = f"resources.{key}={value.value if isinstance(value, CodePath) else 'true'}"
    compared = Comparison(f"test_variant_on_a_card[{key}]", f"ViT-S/16, bf16, {words}", changed, "")
    contest = compared.contest
    contest.enter("usual", our_step(usual, views))
    contest.enter("ours", build, needed=True)
    contest.begin()
    for _ in range(ROUNDS):
        contest.round()
    benchmark.extra_info.update(compared.result("usual", "the usual step"))
    benchmark.pedantic(lambda: None, rounds=1)
