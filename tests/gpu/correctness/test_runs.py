"""Whole runs on a GPU: several that share the card, and one that does not find room on it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from repro.config.schema import RunConfig
from repro.data.datasets import open_dataset
from repro.files import read_json
from repro.harness.runs.failures import FailureKind, read_failure
from repro.harness.runs.store import RunFolder, create_run
from repro.train import Trainer
from tests.conftest import MakeConfig
from tests.gpu.correctness.conftest import Figures
from tests.harness.processes import train_command

pytestmark = pytest.mark.gpu

CPU = torch.device("cpu")
AT_ONCE = 4
SECONDS = 100
COMPARED = ("loss", "entropy", "kl", "centre_norm", "mean_entropy")
# A batch of 128 whose logits over 2^17 prototypes are most of what a step holds.
LARGE: dict[str, Any] = {
    "head.prototypes": 2**17, "train.batch_size": 128, "train.epochs": 1, "eval.every_epochs": 1,
}  # fmt: skip


def alone(config: RunConfig, device: torch.device) -> dict[str, float]:
    trainer = Trainer(config, open_dataset(config.data, "", config.resources, device), device)
    for _ in trainer.run():
        pass
    return trainer.epoch_means


def test_several_runs_that_share_the_card_end_as_each_would_alone(
    tmp_path: Path, device: torch.device, figures: Figures
) -> None:
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if device == CPU else {}
    command = ["run", "F7", "--scale", "smoke", "--seeds", "1", "--workers", str(AT_ONCE), "--yes"]
    start = time.monotonic()
    pool = subprocess.run(
        [sys.executable, "-m", "repro.cli", *command],
        env=os.environ | hidden | {"REPRO_RESULTS": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    figures["seconds"] = round(time.monotonic() - start, 1)
    assert pool.returncode == 0, pool.stdout + pool.stderr
    folders = [RunFolder(path.parent) for path in (tmp_path / "runs").glob("*/result.json")]
    assert len(folders) == AT_ONCE
    apart = {}
    for folder in folders:
        result, config = folder.result(), folder.config()
        assert result is not None
        assert read_json(folder.path / "env.json")["hardware"]["gpu"] == (
            None if device == CPU else torch.cuda.get_device_name()
        )
        means = alone(config, device)
        pairs = ((result["metrics"][name], means[name]) for name in COMPARED)
        apart[folder.slug] = max(abs(a - b) / max(abs(b), 1e-3) for a, b in pairs)
    figures |= apart
    assert max(apart.values()) < 1e-3


def most_in_use(config: RunConfig, device: torch.device) -> int:
    """Bytes of tensors at the peak of a step."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    alone(config, device)
    most = torch.cuda.max_memory_allocated(device) - before
    torch.cuda.empty_cache()
    return most


def test_a_run_without_room_is_told_what_fits_and_that_fits(
    tmp_path: Path, cuda: torch.device, smoke: MakeConfig, figures: Figures
) -> None:
    config = smoke(LARGE | {"resources.device": "cuda"})
    need = most_in_use(config, cuda)
    share = 0.8 * need / torch.cuda.get_device_properties(cuda).total_memory
    limited = os.environ | {"PYTORCH_ALLOC_CONF": f"per_process_memory_fraction:{share:.6f}"}
    limited.pop("PYTORCH_CUDA_ALLOC_CONF", None)
    folder = create_run(tmp_path, "large", config)
    code, output = train_command(folder, env=limited)
    failure = read_failure(folder.path / "failure.json")
    assert code == 1, output
    assert failure is not None
    figures |= {"need": need, "line": failure.line, "fits": failure.fits}
    assert failure.kind is FailureKind.out_of_memory, failure.line
    assert failure.line.startswith("out of memory")
    assert failure.fits, failure.line
    overrides = dict(fit.split("=") for fit in failure.fits)
    fitting = smoke(
        LARGE | {"resources.device": "cuda"} | {k: int(v) for k, v in overrides.items()}
    )
    code, output = train_command(create_run(tmp_path / "fitting", "fitting", fitting), env=limited)
    assert code == 0, output
