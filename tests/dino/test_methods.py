"""Every method and variant trains: a batch divided into parts or over ranks takes the same step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp

from repro import distributed
from repro.config.compose import compose
from repro.config.schema import RunConfig
from repro.data.dataset import Dataset
from repro.data.datasets import open_dataset
from repro.train import Trainer
from tests.conftest import free_port

CPU = torch.device("cpu")
EXPERIMENTS = Path(__file__).parents[2] / "experiments"
NO_CENTERING = {"target.centering": False}
FREE = {"head.norm_last_layer": False, "head.freeze_last_layer_epochs": 0}

# Without batch norm, which sees one rank's or part's images on a CPU.
DIVISIBLE: dict[str, dict[str, Any]] = {
    "dino": {},
    "no centering": NO_CENTERING,
    "free norms": FREE,
    "sinkhorn-knopp": {"target.operation": "sinkhorn_knopp", **NO_CENTERING},
    "softmax over the batch": {"target.operation": "softmax_batch", **NO_CENTERING},
    "hard targets": {"target.temp": 0.0, "target.temp_start": 0.0},
    "mse": {"loss.kind": "mse"},
    "predictor": {"predictor.used": True, "predictor.batch_norm": False},
    "mocov2": {"method": "mocov2", "head.batch_norm": False},
    "swav": {"method": "swav"},
    "swav with a queue": {"method": "swav", "queue.used": True},
}
OVER_RANKS_ONLY: dict[str, dict[str, Any]] = {
    "in-batch negatives": {"method": "mocov2", "head.batch_norm": False, "queue.used": False},
    "simclr": {"method": "simclr", "head.batch_norm": False},
}
WITH_BATCH_NORM: dict[str, dict[str, Any]] = {
    name: {"method": name} for name in ("byol", "mocov2", "simclr", "supervised")
}


def smoke(overrides: dict[str, Any]) -> RunConfig:
    # A queue that fills within the run, and a first step that already moves. The reference path,
    # because matrix products that round differently with the number of rows are another matter.
    common: dict[str, Any] = {"queue.size": 96, "optim.warmup_epochs": 0, "train.epochs": 2}
    common |= {"resources.path": "reference"}
    return compose(EXPERIMENTS, "smoke", common | overrides)


def train(config: RunConfig, data: Dataset, steps: int = 6) -> tuple[list[float], Trainer]:
    trainer = Trainer(config, data, CPU)
    losses = []
    for event in trainer.run():
        if event["kind"] == "step":
            losses.append(event["loss"])
            if len(losses) == steps:
                break
    return losses, trainer


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    networks = {"student": trainer.student, "teacher": trainer.teacher, "method": trainer.method}
    return {f"{n}.{k}": v.clone() for n, m in networks.items() for k, v in m.state_dict().items()}


def assert_same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name in theirs:
        pair = [ours[name], theirs[name]]
        if name.endswith("qkv.bias"):
            # The keys' bias has no gradient but rounding errors, which AdamW makes as large as any.
            pair = [torch.cat(bias.chunk(3)[::2]) for bias in pair]
        torch.testing.assert_close(*pair, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: n + m)


@pytest.mark.parametrize("name", DIVISIBLE)
def test_a_batch_in_parts_takes_the_step_of_the_whole(name: str, smoke_data: Dataset) -> None:
    whole, one = train(smoke(DIVISIBLE[name]), smoke_data)
    parts, other = train(smoke(DIVISIBLE[name] | {"resources.accumulate": 4}), smoke_data)
    assert parts == pytest.approx(whole, rel=1e-5)
    assert_same(weights(other), weights(one))


def follow(rank: int, port: int, overrides: dict[str, dict[str, Any]], folder: Path) -> None:
    """One of two ranks; trains every variant in turn and leaves what came of it."""
    import os

    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    data = open_dataset(smoke({}).data, "")
    with distributed.joined(2, "cpu"):
        for name, values in overrides.items():
            losses, trainer = train(smoke(values | {"resources.ranks": 2}), data)
            found = {"losses": losses, "weights": weights(trainer), "knn": trainer.accuracies}
            torch.save(found, folder / f"{name}-{rank}.pt")


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    overrides = DIVISIBLE | OVER_RANKS_ONLY
    overrides |= {"dino in parts": {"resources.accumulate": 2}}
    mp.spawn(follow, args=(free_port(), overrides, folder), nprocs=2)
    return folder


@pytest.mark.parametrize("name", [*DIVISIBLE, *OVER_RANKS_ONLY, "dino in parts"])
def test_two_ranks_follow_the_trajectory_of_one_process(
    name: str, two_ranks: Path, smoke_data: Dataset
) -> None:
    losses, trainer = train(smoke((DIVISIBLE | OVER_RANKS_ONLY).get(name, {})), smoke_data)
    for rank in (0, 1):
        found = torch.load(two_ranks / f"{name}-{rank}.pt", weights_only=True)
        assert found["losses"] == pytest.approx(losses, rel=1e-5)
        assert_same(found["weights"], weights(trainer))
        assert found["knn"] == pytest.approx(trainer.accuracies, abs=1e-6)


@pytest.mark.parametrize("name", WITH_BATCH_NORM)
def test_methods_with_batch_norm_and_labels_train(name: str, smoke_data: Dataset) -> None:
    losses, trainer = train(smoke(WITH_BATCH_NORM[name] | {"train.epochs": 6}), smoke_data, 24)
    assert losses[-1] < max(losses)  # MoCo-v2 starts against random negatives, which are easy
    assert trainer.sentinel.state == "healthy"
    result = trainer.result()
    assert ("entropy" in result["metrics"]) == (name == "supervised")
    assert ("output_spread" in result["metrics"]) == (name != "supervised")


def test_a_queue_larger_than_the_data_is_refused_when_the_data_are_opened(
    smoke_data: Dataset,
) -> None:
    config = smoke({"method": "mocov2"})
    config.queue.size = 129
    from repro.errors import UserError

    with pytest.raises(UserError, match=r"queue\.size=129 is larger than the 128 training images"):
        Trainer(config, smoke_data, CPU)
