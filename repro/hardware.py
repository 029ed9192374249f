"""What this machine is: its name, processor, memory and cache folder."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import socket
import subprocess
from contextlib import suppress
from pathlib import Path


def hostname() -> str:
    """What people call this machine; on a node of a SLURM cluster, what SLURM calls it."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def cache_folder() -> Path:
    """Where answers that are slow to find are kept for this user; it may not exist yet."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "repro-dino"


def cpu_model() -> str:
    """The processor's name; on Linux the kernel's, elsewhere what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def available_memory() -> float | None:
    """GiB that a new process could have; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return kilobytes[0] / 2**20 if kilobytes else None


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory instead of returning it: a CPU step frees and takes back the
    same gigabytes, and every page taken anew costs a fault.
    """
    trim_threshold, mmap_max = -1, -4  # malloc.h
    with suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)


def available_cores() -> int:
    """Cores this process may use, e.g. within a batch job or a container."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """Names for CUDA_VISIBLE_DEVICES; asks the driver, since importing torch takes seconds."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name.strip() for name in chosen.split(",") if name.strip() not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return re.findall(r"^GPU \d+:.*\(UUID: (GPU-[^)]+)\)", listing.stdout, re.MULTILINE)
