"""The stage after training: frozen-feature protocols on a run's last checkpoint.

Idempotent and separate from training: a protocol whose `evaluations/PROTOCOL.json` exists is not
run again, and any finished run with a checkpoint can be evaluated later, by a job of its own, by
the worker that trained it or by `repro eval`. Its failure leaves `PROTOCOL.failure.json` and the
run done.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repro.errors import UserError
from repro.harness.environment import environment
from repro.harness.files import read_json, write_json
from repro.harness.store import RunBusy, RunFolder, hold

if TYPE_CHECKING:
    import torch
    from torch import nn

    from repro.config import RunConfig
    from repro.data.datasets import Dataset

AFTER_TRAINING = ("knn",)  # protocols that every run gets; the others are asked for
PATIENCE = 600.0  # seconds to wait for another process that evaluates the same run


def missing(folder: RunFolder) -> list[str]:
    """Protocols still to be run on a finished run; none if its checkpoints are gone."""
    if folder.result() is None or not has_checkpoint(folder):
        return []
    done = folder.evaluations()
    return [name for name in AFTER_TRAINING if name not in done]


def has_checkpoint(folder: RunFolder) -> bool:
    return any((folder.path / "checkpoints").glob("*.pt"))


def failure(folder: RunFolder) -> dict[str, Any] | None:
    """Why a protocol failed when it was last tried, as `worker.describe` tells it."""
    for name in missing(folder):
        if found := read_json(_failure_file(folder, name)):
            return found | {"protocol": name}
    return None


def evaluate(
    folder: RunFolder,
    names: Sequence[str] = AFTER_TRAINING,
    again: bool = False,
    epochs: int = 0,
) -> bool:
    """Run the protocols that are missing (all of `names` with `again`); whether all succeeded.

    Failures are written, not raised.

    Args:
        epochs: of a linear probe; 0 for the paper's.
    """
    from repro.harness.worker import describe

    files = folder.path / "evaluations"
    files.mkdir(exist_ok=True)
    try:
        with hold(files / ".lock", f"{folder.path}: another process evaluates it", PATIENCE):
            todo = [name for name in names if again or name not in folder.evaluations()]
            for name in todo:
                try:
                    _run(folder, name, epochs)
                except Exception as error:  # noqa: BLE001  whatever happened, the folder must tell
                    found = describe(error, (folder.last_step() or {"step": 0})["step"])
                    with suppress(OSError):
                        write_json(_failure_file(folder, name), found)
                        folder.event("evaluation_failed", protocol=name, line=found["line"])
                    print(f"evaluation {name} failed ({found['kind']}): {found['line']}")
                    return False
    except RunBusy as busy:
        print(busy)
        return False
    return True


def _run(folder: RunFolder, name: str, epochs: int) -> None:
    from repro.data.datasets import open_dataset
    from repro.dino.train import choose_device

    begun = time.monotonic()
    config = folder.config()
    # One process, whatever number trained.
    config = replace(config, resources=replace(config.resources, ranks=1, accumulate=1))
    device = choose_device(config.resources.device)
    dataset = open_dataset(config.data, config.paths.data, config.resources, device)
    backbone, step = _backbone(folder, config, device)
    metrics = measure(name, backbone, dataset, config, device, epochs)
    content = {
        "protocol": name,
        "step": step,
        "metrics": metrics,
        "env": {k: v for k, v in environment(device.type).items() if k != "diff"},
        "wall_seconds": time.monotonic() - begun,
    }
    write_json(folder.path / "evaluations" / f"{name}.json", content)
    _failure_file(folder, name).unlink(missing_ok=True)
    folder.event("evaluated", protocol=name)
    words = in_words(metrics)
    print(f"evaluated {name} in {content['wall_seconds']:.1f} s: {words}")


def measure(
    protocol: str,
    backbone: nn.Module,
    dataset: Dataset,
    config: RunConfig,
    device: torch.device,
    epochs: int = 0,
) -> dict[str, float]:
    """A protocol's numbers for a backbone on a data set, by metric."""
    if protocol == "linear":
        from repro.dino.backbones import feature_dim
        from repro.evals.linear import linear_probe, settings_for

        resolution = config.data.resolution
        settings = settings_for(feature_dim(backbone), resolution, config.seed, epochs)
        return linear_probe(backbone, dataset, settings, device).metrics()
    assert protocol == "knn", f"{protocol}: the parser knows the protocols"
    from repro.dino.kernels import choose_kernels
    from repro.evals.knn import knn_protocol

    kernels = choose_kernels(config, device)
    return knn_protocol(backbone, dataset, config.eval, device, kernels)


def in_words(metrics: Mapping[str, float]) -> str:
    """Accuracies in percent, rates as they are."""
    return ", ".join(
        f"{key} {value:g}" if key.endswith("rate") else f"{key} {value:.1f} %"
        for key, value in metrics.items()
    )


def _backbone(folder: RunFolder, config: RunConfig, device: torch.device) -> tuple[nn.Module, int]:
    """The teacher's backbone of the last checkpoint, and the step it was saved at.

    Raises:
        UserError: no checkpoint can be read.
    """
    from repro.dino import checkpoint
    from repro.dino.backbones import build_backbone
    from repro.dino.kernels import choose_kernels

    state = checkpoint.load(folder.path / "checkpoints")
    if state is None:
        raise UserError(f"{folder.path / 'checkpoints'}: no readable checkpoint to evaluate")
    kernels = choose_kernels(config, device)
    backbone = build_backbone(config.model, config.views.global_size, kernels=kernels)
    prefix = "backbone."
    tensors = {
        k.removeprefix(prefix): v for k, v in state["teacher"].items() if k.startswith(prefix)
    }
    backbone.load_state_dict(tensors)
    return backbone.to(device), state["step"]


def _failure_file(folder: RunFolder, name: str) -> Path:
    return folder.path / "evaluations" / f"{name}.failure.json"
