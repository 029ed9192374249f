"""What `repro doctor` says of the card: what it is, and its rates, measured in about a second.

Where there is no GPU the same is measured of the processor, in smaller pieces.
"""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repro.cli.machine.machine_findings import Finding

if TYPE_CHECKING:
    import torch

ENOUGH_FREE = 0.9  # of the card's memory; with less, another process is on it
SECONDS = 0.15  # for each rate; a sixth of it on a processor, whose clock needs no time to rise
DRIVER_SECONDS = 10.0
Sizes = tuple[int, int]  # side of the matrices, bytes copied
ON_CARD, ON_CPU = (8192, 2**30), (1024, 2**26)
PINNED_BYTES = 2**28


@dataclass(frozen=True)
class Rates:
    """Practical ceilings: TFLOP/s of one large product, GB/s read and written by a copy."""

    bf16_tflops: float
    tf32_tflops: float | None
    fp32_tflops: float
    copy_gb_s: float
    from_pinned_gb_s: float | None


def examine_card() -> tuple[list[Finding], dict[str, Any] | None]:
    """Findings, and the figures of the card for programs; None for those of a mere processor."""
    try:
        import torch
    except Exception:  # noqa: BLE001 - `examine` has said so
        return [], None
    if not torch.cuda.is_available():
        rates = measure(torch.device("cpu"), ON_CPU)
        return [Finding("ok", in_words(rates), "what this processor does at best")], None
    try:
        card = identify()
        rates = measure(torch.device("cuda"), ON_CARD)
    except RuntimeError as error:  # CUDA's own, out of memory among them
        reason = str(error).strip().splitlines()[0]
        fix = "see what runs on it (nvidia-smi), or choose another by CUDA_VISIBLE_DEVICES"
        return [Finding("fail", "the GPU does not compute", reason, fix)], None
    findings = [*_card(card), Finding("ok", in_words(rates), "what this card does at best")]
    return findings, card | asdict(rates)


def identify() -> dict[str, Any]:
    import torch

    free, total = torch.cuda.mem_get_info()
    major, minor = torch.cuda.get_device_capability()
    driver, mode = _driver()
    return {
        "name": torch.cuda.get_device_name(),
        "memory_gib": round(total / 2**30, 1),
        "free_gib": round(free / 2**30, 1),
        "capability": f"{major}.{minor}",
        "cuda": torch.version.cuda,
        "driver": driver,
        "compute_mode": mode,
        "bf16": torch.cuda.is_bf16_supported(including_emulation=False),
    }


def _driver() -> tuple[str, str]:
    """The driver's version and the card's compute mode; empty where nvidia-smi does not tell."""
    command = ["nvidia-smi", "--query-gpu=driver_version,compute_mode", "--format=csv,noheader"]
    try:
        told = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=DRIVER_SECONDS
        ).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return "", ""
    version, _, mode = told[0].partition(",") if told else ("", "", "")
    return version.strip(), mode.strip()


def _card(card: dict[str, Any]) -> Iterator[Finding]:
    driver = f"driver {card['driver'] or 'unknown'}, CUDA {card['cuda']}"
    yield Finding("ok", card["name"], f"compute capability {card['capability']}, {driver}")
    memory = f"{card['free_gib']} of {card['memory_gib']} GiB of the card free"
    if card["free_gib"] < ENOUGH_FREE * card["memory_gib"]:
        fix = "see what runs on it (nvidia-smi), or choose another by CUDA_VISIBLE_DEVICES"
        yield Finding("warn", memory, "somebody else uses it: slower, and less memory", fix)
    else:
        yield Finding("ok", memory, "nobody else uses it")
    if card["compute_mode"].startswith("Exclusive"):
        fix = "use --workers 1, or ask for the mode Default"
        yield Finding("warn", card["compute_mode"], "one process only: runs cannot share it", fix)
    if card["bf16"]:
        yield Finding("ok", "bfloat16", "train.precision=bf16 uses its matrix units")
    else:
        fix = "train with train.precision=fp32"
        yield Finding("warn", "no bfloat16", "this card only emulates it, slowly", fix)
    yield _triton()


def _triton() -> Finding:
    """Triton compiles its kernels' launchers in C, against Python's headers."""
    header = Path(sysconfig.get_path("include")) / "Python.h"
    found = {
        "triton": find_spec("triton") is not None,
        "C compiler": any(map(shutil.which, ("cc", "gcc", "clang"))),
        "Python.h": header.exists(),
    }
    missing = [name for name, there in found.items() if not there]
    if missing:
        meaning = "kernels of our own and torch.compile are off: slower"
        return Finding("warn", f"no {', no '.join(missing)}", meaning, "install them")
    return Finding("ok", "Triton, C compiler", "kernels are compiled at their first use")


def measure(device: torch.device, sizes: Sizes) -> Rates:
    import torch

    side, copied = sizes
    cuda = device.type == "cuda"

    def product(dtype: torch.dtype) -> float:
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        out = torch.empty_like(a)
        return 2 * side**3 / 1e12 / seconds_of(lambda: torch.mm(a, b, out=out), cuda)

    def copy(source: torch.Tensor, size: int, times: int) -> float:
        target = torch.empty(size, dtype=torch.uint8, device=device)
        call = seconds_of(lambda: target.copy_(source, non_blocking=True), cuda)
        return times * size / 1e9 / call

    before = torch.backends.cuda.matmul.allow_tf32
    try:
        torch.backends.cuda.matmul.allow_tf32 = False
        fp32, bf16 = product(torch.float32), product(torch.bfloat16)
        torch.backends.cuda.matmul.allow_tf32 = True
        tf32 = product(torch.float32) if cuda else None
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    here = copy(torch.zeros(copied, dtype=torch.uint8, device=device), copied, 2)
    pinned = torch.empty(PINNED_BYTES if cuda else 0, dtype=torch.uint8, pin_memory=cuda)
    brought = copy(pinned, PINNED_BYTES, 1) if cuda else None
    return Rates(bf16, tf32, fp32, here, brought)


def seconds_of(call: Callable[[], object], cuda: bool) -> float:
    """Seconds of one call, of as many as fit in the time for a rate."""
    import torch

    def run(times: int) -> float:
        begun = time.perf_counter()
        for _ in range(times):
            call()
        if cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - begun

    run(1)
    budget = SECONDS if cuda else SECONDS / 6
    return min(run(times) / times for times in (1, max(1, int(budget / run(1)))))


def in_words(rates: Rates) -> str:
    products = {"bf16": rates.bf16_tflops, "TF32": rates.tf32_tflops, "fp32": rates.fp32_tflops}
    words = [f"{name} {rate:.3g}" for name, rate in products.items() if rate is not None]
    copies = f"copying {rates.copy_gb_s:.3g} GB/s"
    if rates.from_pinned_gb_s is not None:
        copies += f", {rates.from_pinned_gb_s:.3g} GB/s from pinned memory"
    return f"{', '.join(words)} TFLOP/s; {copies}"
