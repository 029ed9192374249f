"""Shared by all tests: one thread a process, what is slow, and run folders of the smoke scale."""

from __future__ import annotations

import copy
import gc
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from repro.config.compose import compose
from repro.config.schema import ModelConfig, RunConfig
from repro.harness.runs.store import RunFolder, create_run

if TYPE_CHECKING:
    from repro.data.dataset import Dataset

MakeConfig = Callable[..., RunConfig]
SMALL = ModelConfig(name="small", dim=64, depth=2, heads=1, patch_size=8, drop_path=0.0)


def free_port() -> int:
    """A port of this machine that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# Left out by `make test-fast`: files whose tests start workers, a browser or many commands, or
# compute for seconds. So is what asks for a trained run; other single tests have the mark.
SLOW = (
    "analysis/figures/", "analysis/report/", "analysis/test_benchmarks.py",
    "analysis/test_publish.py", "analysis/verdicts/test_calibration.py",
    "analysis/verdicts/test_lying_records.py", "benchmarks/", "browser/", "dino/test_algorithm1.py",
    "dino/test_early_end.py", "dino/test_methods.py", "fidelity/", "gpu/", "harness/evaluation/",
    "harness/local/", "harness/worker/test_early_end.py", "harness/worker/test_ranks.py",
    "harness/worker/test_run.py", "notebook/test_executed.py", "slurm/",
)  # fmt: skip


def pytest_configure() -> None:
    # Before torch is imported, here and in the processes that tests start.
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    if shutil.which("nvidia-smi") is None and os.environ.get("REPRO_TEST_DEVICE") != "cuda":
        os.environ["TRITON_INTERPRET"] = "1"  # kernels of a GPU run here too, slowly
    assert all((Path(__file__).parent / name).exists() for name in SLOW), "SLOW names a lost file"
    settings.register_profile("shared cores", deadline=None)  # a busy machine is no mistake
    settings.load_profile("shared cores")
    gc.disable()  # importing makes nothing to collect, and much to look through


def pytest_xdist_auto_num_workers() -> int:
    return len(os.sched_getaffinity(0)) + 1  # tests also wait, for the processes that they start


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        file = item.path.relative_to(Path(__file__).parent).as_posix()
        if file.startswith(SLOW) or "trained" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    # What was imported stays: looking through it at every collection costs half a second.
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    gc.unfreeze()


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).parents[1]


@pytest.fixture(scope="session")
def smoke(repository: Path) -> MakeConfig:
    """smoke({"train.epochs": 3}) is a run of seconds on the CPU."""

    composed: dict[str, RunConfig] = {}

    def make(overrides: dict[str, Any] | None = None) -> RunConfig:
        values = {"resources.device": "cpu"} | (overrides or {})
        key = repr(values)
        if key not in composed:
            composed[key] = compose(repository / "experiments", "smoke", values)
        return copy.deepcopy(composed[key])

    return make


@pytest.fixture
def smoke_config(repository: Path) -> RunConfig:
    """The smoke scale, with drop path: small enough to train in a test."""
    return compose(repository / "experiments", "smoke", {"model.drop_path": 0.1})


@pytest.fixture(scope="session")
def smoke_data(repository: Path) -> Dataset:
    from repro.data.datasets import open_dataset

    return open_dataset(compose(repository / "experiments", "smoke").data, "")


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file of weights, and results beside it."""
    import torch

    from repro.dino.backbones import build_backbone

    monkeypatch.setenv("REPRO_RESULTS", str(tmp_path / "results"))
    torch.manual_seed(0)
    torch.save(build_backbone(SMALL, 32).state_dict(), tmp_path / "small.pth")
    return str(tmp_path / "small.pth")


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory, smoke: MakeConfig) -> RunFolder:
    from tests.harness.processes import train

    folder = create_run(tmp_path_factory.mktemp("results") / "runs", "one", smoke())
    code, output = train(folder)
    assert code == 0, output
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, trained_once: RunFolder) -> RunFolder:
    """A run that was really trained, for the protocols to evaluate; a copy for each file."""
    folder = tmp_path_factory.mktemp("results") / "runs" / trained_once.path.name
    shutil.copytree(trained_once.path, folder)
    return RunFolder(folder)
