"""A world of one: every collective of a run through NCCL (gloo on a CPU), against none.

With one process the helpers of `repro.distributed` are the identity, and no collective runs. The
child process here is one rank that does not take itself for one, so that everything runs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from repro import distributed
from repro.config.compose import compose
from repro.data.datasets import open_dataset
from repro.errors import UserError
from repro.train import Trainer
from tests.conftest import free_port
from tests.gpu.correctness.conftest import CHOSEN, Figures, far

pytestmark = pytest.mark.gpu

EXPERIMENTS = Path(__file__).parents[3] / "experiments"
SECONDS = 100
COMMON: dict[str, Any] = {"optim.warmup_epochs": 0, "model.drop_path": 0.0, "eval.every_epochs": 2}
METHODS: dict[str, dict[str, Any]] = {
    "dino": {},
    "dino in parts": {"resources.accumulate": 2},
    "swav": {"method": "swav"},
    "simclr": {"method": "simclr", "head.batch_norm": False},
    "mocov2": {"method": "mocov2", "head.batch_norm": False},
}
WITH_BATCH_NORM: dict[str, dict[str, Any]] = {
    "byol": {"method": "byol"},
    "resnet": {"model": "resnet_laptop", "preset": "resnet_small"},
}


class OneOfSeveral(int):
    """1, but equal to nothing: `ranks() == 1` is the short way past all collectives."""

    def __eq__(self, _: object) -> bool:
        return False

    def __ne__(self, _: object) -> bool:
        return False

    __hash__ = int.__hash__


def test_every_collective_of_a_world_of_one(device: torch.device, figures: Figures) -> None:
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    child = subprocess.run(
        [sys.executable, "-m", "tests.gpu.correctness.test_one_rank", device.type],
        env=os.environ | address | {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert child.returncode == 0, child.stdout + child.stderr
    figures |= json.loads(child.stdout.splitlines()[-1])
    assert figures.pop("replicated")
    assert max(figures.values()) < 1e-4


def train(overrides: dict[str, Any], device: torch.device) -> tuple[Tensor, Trainer]:
    config = compose(EXPERIMENTS, "smoke", COMMON | overrides)
    trainer = Trainer(config, open_dataset(config.data, "", config.resources, device), device)
    losses = [event["loss"] for event in trainer.run() if event["kind"] == "step"]
    return torch.tensor(losses), trainer


def helpers(device: torch.device) -> dict[str, float]:
    """Distances of what each collective gives from what it was given."""
    rows = torch.randn(6, 5, device=device)
    found = {
        "mean": far(distributed.mean(rows), rows),
        "gather": far(distributed.gather(rows, dim=1), rows),
        "gather_shares": far(distributed.gather_shares(rows, 6).to(device), rows),
        "logsumexp": far(distributed.logsumexp(rows), rows.logsumexp(dim=0, keepdim=True)),
    }
    leaf = rows.clone().requires_grad_()
    gathered = distributed.gather_with_gradient(leaf)
    (gathered * rows).sum().backward()
    assert leaf.grad is not None
    found |= {"gather_with_gradient": far(gathered, rows), "its gradient": far(leaf.grad, rows)}
    assert distributed.any_rank(True)
    assert not distributed.any_rank(False)
    return found


def child(device: torch.device) -> dict[str, Any]:
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    methods = METHODS | (WITH_BATCH_NORM if device.type == "cuda" else {})
    alone = {name: train(overrides, device)[0] for name, overrides in methods.items()}
    one = OneOfSeveral(1)
    found: dict[str, Any] = {}
    with distributed.joined(one, device.type):
        distributed.ranks = lambda: one
        found |= helpers(device)
        kinds = []
        for name, overrides in methods.items():
            losses, trainer = train(overrides, device)
            kinds.append(isinstance(trainer.replica, DistributedDataParallel))
            found[name] = far(losses, alone[name])
        normed = torch.nn.Sequential(torch.nn.BatchNorm1d(3))
        try:
            converted = distributed.synchronise_batch_norm(normed, device)
            kinds.append(isinstance(converted[0], torch.nn.SyncBatchNorm))  # type: ignore[index]
        except UserError:  # torch does not synchronise on CPUs
            kinds.append(device.type == "cpu")
        found["replicated"] = all(kinds)
    return found


if __name__ == "__main__":
    assert sys.argv[1] == CHOSEN
    print(json.dumps(child(torch.device(sys.argv[1]))))
