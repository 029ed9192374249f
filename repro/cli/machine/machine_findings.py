"""`repro doctor`: what works on this machine, and what will bite."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from repro.errors import UserError
from repro.hardware import available_cores, available_memory, cpu_model, visible_gpus
from repro.harness.experiments.folders import experiments_dir
from repro.terminal import print_table

OLDEST_PYTHON = (3, 11)
OLDEST = {"torch": (2, 11), "timm": (1, 0), "torchvision": (0, 26)}
MEMORY_ENOUGH = 4.0  # GiB; a laptop run takes about one
DISK_ENOUGH, DISK_LEAST = 5.0, 0.5  # GiB; a run folder of the laptop scale takes a few MB
SKEW_LIMIT = 5.0  # seconds; heartbeats are judged against the clock with a grace of a minute
SLURM = ("sbatch", "squeue", "sacct", "scancel")

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """`fix` is empty where nothing is wrong."""

    level: Level
    what: str
    meaning: str
    fix: str = ""


def examine(results: Path) -> list[Finding]:
    """All findings, most basic first."""
    return [
        _python(),
        *(_package(name) for name in OLDEST),
        _torch(),
        Finding("ok", f"{available_cores()} cores", cpu_model()),
        _memory(),
        _gpus(),
        *_results_folder(results),
        _photographs(),
        _slurm(),
    ]


def of_login_node(finding: Finding) -> Finding:
    """Where runs go to nodes, this machine need not train: only its folder and SLURM must work."""
    training = ("missing", "import torch", "bundled photographs")
    if finding.level == "fail" and any(word in finding.what for word in training):
        return replace(finding, level="warn", meaning=f"here; {finding.meaning}")
    return finding


def print_findings(findings: list[Finding]) -> None:
    rows = [[f.level, f.what, f.meaning + (f"; fix: {f.fix}" if f.fix else "")] for f in findings]
    print_table("", ["", "what", "what it means"], rows)


def _python() -> Finding:
    installed = f"Python {platform.python_version()}"
    oldest = ".".join(map(str, OLDEST_PYTHON))
    if sys.version_info < OLDEST_PYTHON:
        return Finding("fail", installed, "too old", f"use Python {oldest} or newer")
    return Finding("ok", installed, f"{oldest} or newer")


def _package(name: str) -> Finding:
    oldest = ".".join(map(str, OLDEST[name]))
    install = f"install {name} {oldest} or newer in this environment"
    try:
        installed = version(name)
    except PackageNotFoundError:
        return Finding("fail", f"{name} missing", "no run can start", install)
    if tuple(map(int, installed.split(".")[:2])) < OLDEST[name]:
        return Finding("warn", f"{name} {installed}", f"not tested below {oldest}", install)
    return Finding("ok", f"{name} {installed}", f"{oldest} or newer")


def _torch() -> Finding:
    """Import for real: a torch and a torchvision that do not belong together fail only here."""
    begun = time.monotonic()
    try:
        import timm  # noqa: F401
        import torch
        import torchvision  # noqa: F401
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        return Finding(
            "fail",
            "import torch, timm",
            f"no run can start: {type(error).__name__}: {error}",
            "install torch, torchvision and timm together from one place",
        )
    seconds = time.monotonic() - begun
    product = torch.ones(8, 8) @ torch.ones(8, 8)
    assert product[0, 0] == 8, "a matrix product is wrong"
    return Finding("ok", "import torch, timm", f"took {seconds:.1f} s; every run pays it once")


def _memory() -> Finding:
    memory = available_memory()
    if memory is None:
        return Finding("warn", "memory unknown", "the system does not tell", "watch it yourself")
    if memory < MEMORY_ENOUGH:
        return Finding(
            "warn",
            f"{memory:.1f} GiB memory free",
            "several runs at once may be killed",
            "add --workers 1, or close other programs",
        )
    return Finding("ok", f"{memory:.1f} GiB memory free", "a laptop run needs about 1 of them")


def _gpus() -> Finding:
    gpus = visible_gpus()
    if not gpus:
        return Finding("ok", "no GPU", "smoke and laptop scales need none; gpu and paper do")
    import torch

    if not torch.cuda.is_available():
        return Finding(
            "warn",
            f"{len(gpus)} GPUs, unusable",
            "the driver lists them, but this torch cannot use them: runs go to the CPU",
            "install a torch built for this driver",
        )
    return Finding("ok", f"{len(gpus)} GPUs", torch.cuda.get_device_name())


def _results_folder(results: Path) -> Iterator[Finding]:
    """What run folders rely on: room, permission, locks, and a clock that agrees with ours."""
    try:
        results.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=results, prefix=".doctor-") as probe:
            skew = Path(probe.name).stat().st_mtime - time.time()
            locks = _locks_work(probe.name)
    except OSError as error:
        yield Finding(
            "fail",
            f"{results}",
            f"cannot be written: {error.strerror}",
            "free space or change its permissions, or set REPRO_RESULTS to another folder",
        )
        return
    yield Finding("ok", f"{results}", "can be written")
    free = shutil.disk_usage(results).free / 2**30
    level: Level = "ok" if free >= DISK_ENOUGH else "warn" if free >= DISK_LEAST else "fail"
    fix = "" if level == "ok" else "free space, or set REPRO_RESULTS to a folder on another disk"
    yield Finding(level, f"{free:.1f} GiB disk free", "for results/", fix)
    if locks:
        yield Finding("ok", "file locks", "a run is never trained by two processes at once")
    else:
        yield Finding(
            "warn",
            "file locks",
            "fcntl.flock does not exclude here: leases, files beside the locks, do so instead",
            "none is needed; a file system mounted with locks answers sooner",
        )
    if abs(skew) > SKEW_LIMIT:
        yield Finding(
            "warn",
            f"clock skew {skew:.0f} s",
            "the file server's clock differs from ours: living runs may look lost",
            "synchronise the clocks (NTP)",
        )
    else:
        yield Finding("ok", "clock", f"file times agree within {SKEW_LIMIT:.0f} s")


def _locks_work(path: str) -> bool:
    first, second = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    try:
        fcntl.flock(first, fcntl.LOCK_EX)
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(first)
        os.close(second)
    return False


def _photographs() -> Finding:
    try:
        from repro.config.compose import compose
        from repro.data.datasets import open_dataset

        data = compose(experiments_dir(), "smoke", source="repro doctor").data
        dataset = open_dataset(data, "")
    except (UserError, ImportError, OSError) as error:
        return Finding(
            "fail",
            "bundled photographs",
            f"smoke, laptop and gpu scales cannot run: {error}",
            "install scikit-image again",
        )
    return Finding("ok", "bundled photographs", f"{len(dataset.classes)} of them, no download")


def _slurm() -> Finding:
    commands = [name for name in SLURM if shutil.which(name)]
    if not commands:
        return Finding("ok", "no SLURM here", "runs go to this machine (--cluster local)")
    missing = [name for name in SLURM if name not in commands]
    if missing:
        return Finding(
            "warn",
            f"SLURM without {', '.join(missing)}",
            "batch jobs cannot be followed from here",
            "load the cluster's SLURM module",
        )
    return Finding("ok", "SLURM commands", ", ".join(commands))
