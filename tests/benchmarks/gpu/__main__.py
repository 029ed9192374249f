"""`python -m tests.benchmarks.gpu LINES`: everything that is measured on a card, in three minutes.

    BENCH_DEVICE=cuda BENCH_SIZE=full python -m tests.benchmarks.gpu results/benchmarks/cuda.jsonl
    python -m analysis.benchmarks results/benchmarks/cuda.jsonl

The most telling comes first. Each part is a process of its own, forked from one that has imported
torch and has not touched the card, and has a limit: one that hangs costs only itself. Results are
in LINES as soon as they are there.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

# Whether there is a GPU is then asked without a call of CUDA, which no fork survives.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")

import pytest
import torch

from tests.benchmarks import measure

HERE = Path(__file__).parent
BESIDE = HERE.parent
LEAST = 5  # seconds in which a part may still tell something
QUIET = ["-q", "-p", "no:cacheprovider", "-p", "no:warnings", "--benchmark-only",
         "--benchmark-quiet"]  # fmt: skip
IMPORTED_ONCE = (
    "repro.data.photographs",
    "skimage.io",
    "tests.benchmarks.gpu.test_bench_card",
    "tests.benchmarks.gpu.test_bench_fed",
    "tests.benchmarks.test_bench_evals",
    "tests.benchmarks.test_bench_kernels",
    "tests.conftest",
)


@dataclass(frozen=True)
class Part:
    """Some benchmarks and the seconds they may take."""

    name: str
    limit: float
    nodes: tuple[str, ...]
    chosen: str = ""


CARD, FED = f"{HERE}/test_bench_card.py", f"{HERE}/test_bench_fed.py"
KERNELS, EVALS = f"{BESIDE}/test_bench_kernels.py", f"{BESIDE}/test_bench_evals.py"
PARTS = (
    Part("the machine", 15, (f"{KERNELS}::test_the_machine",)),
    Part("ViT-S/16", 50, (f"{CARD}::test_step_on_a_card[vit_small]",)),
    Part("gpu scale", 25, (f"{CARD}::test_gpu_scale_on_a_card",)),
    Part("ViT-B/16", 60, (f"{CARD}::test_step_on_a_card[vit_base]",)),
    Part("k-NN", 20, (EVALS,), "knn"),
    Part("variants", 30, (f"{CARD}::test_variant_on_a_card",), "not compile"),
    Part("from JPEGs", 35, (f"{FED}::test_jpegs_into_a_step",)),
    Part("packed", 60, (f"{FED}::test_runs_share_a_card",)),
    Part("kernels", 30, (KERNELS,), "not machine"),
    Part("compiled", 60, (f"{CARD}::test_variant_on_a_card",), "compile"),
)


def run(part: Part, seconds: float) -> bool:
    """The part in a process group of its own, ended after some seconds; whether it was well."""
    sys.stdout.flush()
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        _be(part)
    try:
        ended, status = os.waitpid(child, os.WNOHANG)
        while not ended and time.monotonic() - start < seconds:
            time.sleep(0.05)
            ended, status = os.waitpid(child, os.WNOHANG)
    except BaseException:
        os.killpg(child, signal.SIGKILL)
        raise
    if not ended:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        _note_failure(part, f"ended after {seconds:.0f} s")
    elif status:
        _note_failure(part, "failed; its output says why")
    took = time.monotonic() - start
    outcome = "ok" if ended and not status else "FAILED" if ended else "ended at its limit"
    print(f"benchmarks: {part.name}: {outcome}, {took:.1f} s", flush=True)
    return outcome == "ok"


def _be(part: Part) -> NoReturn:
    """This process is the part, from now on."""
    os.setsid()
    chosen = ["-k", part.chosen] if part.chosen else []
    arguments = [*QUIET, *part.nodes, *chosen]
    if torch.cuda._is_in_bad_fork():  # some import has asked CUDA something; start anew
        os.execv(sys.executable, [sys.executable, "-m", "pytest", *arguments])
    code = 1
    try:
        code = int(pytest.main(arguments))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0 if code == pytest.ExitCode.NO_TESTS_COLLECTED else code)


def _note_failure(part: Part, why: str) -> None:
    """By a process of its own: the hardware's name, where nothing is written yet, is CUDA's."""
    if (child := os.fork()) == 0:
        measure.note(f"part {part.name}", {"error": why})
        os._exit(0)
    os.waitpid(child, 0)


def main() -> int:
    """1 if a part did not come to its end."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu", description=__doc__)
    parser.add_argument("lines", type=Path, help="file of results; parts are appended to it")
    parser.add_argument("--seconds", type=float, default=180, help="of all parts; 180")
    parser.add_argument(
        "--parts", nargs="*", help="only these: " + ", ".join(p.name for p in PARTS)
    )
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    until = time.monotonic() + arguments.seconds
    os.environ["BENCH_LINES"] = str(arguments.lines.absolute())
    arguments.lines.parent.mkdir(parents=True, exist_ok=True)
    if not arguments.parts:
        arguments.lines.unlink(missing_ok=True)
    for name in IMPORTED_ONCE:
        import_module(name)
    bad: list[str] = []
    for part in PARTS:
        left = until - time.monotonic()
        if arguments.parts and part.name not in arguments.parts:
            continue
        if left < LEAST:
            print(f"benchmarks: {part.name}: no time left", flush=True)
            bad.append(part.name)
        elif not run(part, min(part.limit, left)):
            bad.append(part.name)
    entries = results(arguments.lines)
    tell_profiles(entries)
    print((f"not in order: {', '.join(bad)}; " if bad else "") + decisive(entries))
    return int(bool(bad))


def results(lines: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for line in lines.read_text().splitlines() if lines.exists() else []:
        entry = json.loads(line)
        found[entry.get("name", "")] = entry
    return found


def tell_profiles(entries: dict[str, dict[str, Any]]) -> None:
    """Where a step's time goes, for who would make it faster."""
    for name, entry in entries.items():
        if not (profile := entry.get("profile")) or not profile["kernels"]:
            continue
        print(
            f"{name}: {profile['kernels']:.0f} kernels, {profile['launches']:.0f} launches, "
            f"{profile['copies']:.0f} copies, {profile['synchronisations']:.1f} waits "
            f"{profile['waiting_lines']}, busy {1e3 * profile['busy_seconds']:.2f} ms, "
            f"{profile['busy_share']:.0%}"
        )
        for kernel, count, milliseconds in profile["costliest"]:
            print(f"{milliseconds:9.3f} ms {count:6.0f} x {kernel}")


def decisive(entries: dict[str, dict[str, Any]]) -> str:
    """The steps' figures in a line."""
    return "; ".join(
        f"{entry['title'].removeprefix('training step, ')}: {entry['speedup']:.2f} x "
        f"{entry['baseline']}, {entry['model_share']:.0%} of the matrix rate"
        for name, entry in entries.items()
        if name.startswith("test_step") and "speedup" in entry
    )


if __name__ == "__main__":
    sys.exit(main())
