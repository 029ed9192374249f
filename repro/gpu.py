"""An NVIDIA GPU of this process: how it computes, what it is, what its memory held."""

from __future__ import annotations

import gc
import os
import re
from pathlib import Path
from typing import Any

import torch

DRIVER = Path("/proc/driver/nvidia/version")
GIB = 2**30


def prepare(device: torch.device, deterministic: bool = False) -> None:
    """Before anything is computed: fp32 is fp32, and memory is counted from here on.

    torch multiplies matrices in fp32, but lets cuDNN round what a convolution reads to TF32, ten
    bits: ResNets and the authors' patch embedding would differ from a CPU in the third digit. Of
    torch's two switches this is the older one: once the newer (`fp32_precision`) was used, whatever
    reads the older raises, torch.compile among it. cuDNN's kernels are chosen by its heuristics,
    not by a measurement that differs from start to start, and a resumed run with it.

    Args:
        deterministic: only algorithms that add in the same order every time: those of convolutions,
            attention and interpolation may otherwise differ in the last bits. An operation that has
            none raises.
    """
    if device.type != "cuda":
        return
    torch.cuda.init()  # type: ignore[no-untyped-call]
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    if deterministic:
        os.environ.setdefault(
            "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
        )  # read when cuBLAS is first used
        torch.use_deterministic_algorithms(True)
        # Memory that nobody reads need not be filled.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    count_memory_from_here(device)


def count_memory_from_here(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def give_back() -> None:
    """What nothing refers to any more, to whoever else needs room on the card."""
    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


def description(device: torch.device) -> dict[str, Any]:
    """What a number may depend on beside the card's name, for a record."""
    properties = torch.cuda.get_device_properties(device)
    return {
        "driver": driver(),
        "runtime": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "capability": f"{properties.major}.{properties.minor}",
        "memory_GB": round(properties.total_memory / 1e9, 1),
        "multiprocessors": properties.multi_processor_count,
        "tf32": torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def driver(file: Path = DRIVER) -> str | None:
    """The version of NVIDIA's kernel module, e.g. 580.65.06."""
    try:
        found = re.search(r"Module\s+(?:for \S+\s+)?(\d+(?:\.\d+)+)", file.read_text())
    except OSError:
        return None
    return found[1] if found else None


def memory_words(error: BaseException, device: torch.device) -> str:
    """What a GPU without memory was asked for and who holds what, to be said at once: "2.00 GiB
    more, on NVIDIA H200 (139.8 GiB; 12.1 GiB held by others, 1.2 GiB free); most in use 125.3 GiB".
    """
    message = str(error)
    try:
        free, total = torch.cuda.mem_get_info(device)
    except RuntimeError:  # the driver answers nothing any more
        return message.partition("\n")[0]
    asked = re.search(r"Tried to allocate ([\d.]+ \wi?B)", message)
    # Torch asks the driver what else this process holds: its context, the libraries' workspaces.
    own = re.search(r"this process has ([\d.]+) ([KMG])iB memory in use", message)
    reserved = torch.cuda.memory_reserved(device)
    units = {"K": 2**10, "M": 2**20, "G": GIB}
    held = max(reserved, float(own[1]) * units[own[2]]) if own else reserved
    others = max(0.0, total - free - held)
    # The only one of these that wants the number of a card, not just its kind.
    number = torch.cuda.current_device() if device.index is None else device.index
    limit = torch.cuda.get_per_process_memory_fraction(number)
    parts = [
        f"{asked[1]} more, " if asked else "",
        f"on {torch.cuda.get_device_name(device)} ({total / GIB:.1f} GiB",
        f", {limit:.0%} of it allowed" if limit < 1 else "",
        f"; {others / GIB:.1f} GiB held by others, {free / GIB:.1f} GiB free)",
        f"; most in use {torch.cuda.max_memory_allocated(device) / GIB:.1f} GiB",
        f" of {reserved / GIB:.1f} GiB taken",
    ]
    return "".join(parts)
