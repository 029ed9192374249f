"""What this machine is: its name, processor, memory and cache folder."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import socket
import subprocess
import tempfile
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

SECONDS_TO_ANSWER = 30  # of nvidia-smi, which waits for a driver that hangs
GPU_NAME = re.compile(r"\d+|GPU-[\w-]+|MIG-[\w/-]+")  # in CUDA_VISIBLE_DEVICES


def hostname() -> str:
    """What people call this machine; on a node of a SLURM cluster, what SLURM calls it."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def cache_folder() -> Path:
    """Where answers that are slow to find are kept for this user; it may not exist yet."""
    if home := os.environ.get("XDG_CACHE_HOME"):
        return Path(home) / "repro-dino"
    try:
        return Path.home() / ".cache" / "repro-dino"
    except RuntimeError:  # no HOME, and a user without an entry: many containers
        return Path(tempfile.gettempdir()) / f"repro-dino-{os.getuid()}"


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
    """Names for CUDA_VISIBLE_DEVICES; asks the driver, since importing torch takes seconds.

    Of a card that is divided (MIG) its parts, since a process cannot have the whole; and of what
    was chosen outside, what comes before the first word that names no GPU, as CUDA reads it.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        names = (name.strip() for name in chosen.split(","))
        return list(takewhile(GPU_NAME.fullmatch, names))
    if shutil.which("nvidia-smi") is None:
        return _device_files()
    listing = _ask_driver("-L")
    if listing is None:
        return _device_files()
    cards: list[list[str]] = []
    for line in listing.splitlines():
        if found := re.search(r"\(UUID: ((?:GPU|MIG)-[^)]+)\)", line):
            if line.startswith("GPU "):
                cards.append([])
            cards[-1].append(found[1])
    return [name for card in cards for name in card[1:] or card]


def free_gpu_memory(name: str) -> float | None:
    """Bytes that nobody has on this GPU, named as in CUDA_VISIBLE_DEVICES; None if not known."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ("--query-gpu=memory.free", "--format=csv,noheader,nounits")
    words = (_ask_driver("-i", name, *query) or "").split()
    return float(words[0]) * 2**20 if words and words[0].isdecimal() else None


def _ask_driver(*words: str) -> str | None:
    """What nvidia-smi prints; None if it does not answer."""
    asked = subprocess.Popen(
        ["nvidia-smi", *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        return asked.communicate(timeout=SECONDS_TO_ANSWER)[0]
    except subprocess.TimeoutExpired:
        asked.kill()  # and not waited for: inside a hanging driver it does not die
        return None


def _device_files(folder: Path = Path("/dev")) -> list[str]:
    """GPUs of a container without NVIDIA's tools, by number as CUDA counts them."""
    files = [file for file in folder.glob("nvidia[0-9]*") if file.name[6:].isdecimal()]
    return [str(number) for number in range(len(files))]
