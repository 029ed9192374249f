"""Everything that a GPU can show, in one go: `make gpu`, or where there is no make

    WHEELS=folder python -m tests.gpu.session

Four things in this order, each in processes of its own with a limit on its time, so that what
hangs or fails costs only itself: what the card is, whether what it computes is right, how fast it
is, and runs whose records enter the published tables. Results are written as they come: a session
that is cut off still tells, in `summary.json`, what it had found. docs/gpu.md lists the variables.
"""

from __future__ import annotations

import os
import platform
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repro.errors import UserError, nearest
from repro.files import write_json
from repro.hardware import visible_gpus
from tests.gpu import bounded, outcomes
from tests.gpu.carried import ROOT, bring_code_version, python_path

LEAST = 5.0  # seconds; with less left a step is not begun
OF_PYTEST = [
    "-m", "pytest", "-v", "--durations=10", "-p", "no:cacheprovider", "-p", "xdist.plugin",
    "-p", "tests.gpu.at_once", "-o", "faulthandler_timeout=60",
]  # fmt: skip


@dataclass(frozen=True)
class Step:
    """`seconds` of a session of eight minutes; `{seconds}` in the command is what it is given."""

    name: str
    seconds: float
    command: list[str]
    variables: dict[str, str]
    outcome: outcomes.Reader
    stop: signal.Signals = signal.SIGTERM


@dataclass(frozen=True)
class Asked:
    """What the environment asks for."""

    device: str  # cuda, or cpu for a rehearsal
    out: Path
    wheels: Path | None
    authors: Path | None
    steps: list[str]  # all, if empty
    minutes: float | None

    @property
    def rehearsal(self) -> bool:
        return self.device == "cpu"


def main() -> int:
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: sys.exit(1))
    begun = time.monotonic()
    try:
        asked = read_environment()
        steps = chosen(all_steps(asked), asked.steps)
        if not asked.rehearsal and not (visible_gpus() or Path("/dev/nvidiactl").exists()):
            raise UserError("no GPU here; make gpu GPU_REHEARSAL=cpu rehearses without one")
        path, brought = python_path(asked.wheels, ROOT / "results/gpu/site")
        code = bring_code_version(asked.wheels)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{code}; results in {asked.out}", flush=True)
    if brought:
        print(f"from {asked.wheels}: {', '.join(brought)}", flush=True)
    os.environ["PYTHONPATH"] = ":".join(filter(None, [path, os.environ.get("PYTHONPATH")]))
    os.environ["PYTHONUNBUFFERED"] = "1"
    summary = {
        "begun": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "device": asked.device,
        "python": platform.python_version(),
        "code": code,
        "from_wheels": brought,
        "steps": {step.name: {"state": "waiting"} for step in steps},
    }
    asked.out.mkdir(parents=True, exist_ok=True)
    bounded.adopt_orphans()
    code = run_all(steps, asked, summary, begun)
    files = [file for file in asked.out.iterdir() if file.is_file()]
    size = sum(file.stat().st_size for file in files) / 2**20
    print(f"{asked.out}: {len(files)} files, {size:.1f} MiB", flush=True)
    return code


def read_environment() -> Asked:
    given = {name: value for name, value in os.environ.items() if value}
    rehearsal = given.get("GPU_REHEARSAL", "")
    if rehearsal not in ("", "cpu"):
        raise UserError(f"GPU_REHEARSAL={rehearsal}: only cpu can stand in for a GPU")
    try:
        minutes = float(given["GPU_MINUTES"]) if "GPU_MINUTES" in given else None
    except ValueError:
        raise UserError(f"GPU_MINUTES={given['GPU_MINUTES']}: not a number") from None
    wheels, authors = (
        Path(given[name]).resolve() if name in given else None for name in ("WHEELS", "AUTHORS")
    )
    if authors and not authors.is_dir():
        raise UserError(f"AUTHORS={authors}: no such folder")
    default = ROOT / "results/gpu" / time.strftime("%Y%m%d-%H%M%S")
    return Asked(
        device="cpu" if rehearsal else "cuda",
        out=Path(given.get("GPU_OUT") or default).resolve(),
        wheels=wheels,
        authors=authors,
        steps=given.get("GPU_STEPS", "").replace(",", " ").split(),
        minutes=minutes,
    )


def all_steps(asked: Asked) -> list[Step]:
    out, small = asked.out, asked.rehearsal
    figures, lines = out / "figures.jsonl", out / f"{asked.device}.jsonl"
    tables = out / "tables" if small else ROOT / "results/benchmarks"
    processes = min(4, len(os.sched_getaffinity(0)))
    speed = {"BENCH_DEVICE": asked.device, "BENCH_SIZE": "small" if small else "full"}
    speed |= {"BENCH_AUTHORS": str(asked.authors)} if asked.authors else {}
    return [
        Step("doctor", 30, ["-m", "repro.cli", "doctor", "--json"], {}, outcomes.of_doctor),
        Step(
            "correctness",
            100,
            [*OF_PYTEST, "-m", "gpu", "-n", str(processes), "--maxschedchunk=1", "tests/gpu"],
            {
                "REPRO_TEST_DEVICE": asked.device,
                "GPU_FIGURES": str(figures),
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # whatever else this Python has
            },
            outcomes.of_correctness(figures),
            signal.SIGINT,  # on which pytest tells what failed so far
        ),
        Step(
            "speed",
            215,
            ["-m", "tests.benchmarks.gpu", str(lines), "--seconds={seconds}"],
            speed,
            outcomes.last_line,
        ),
        Step(
            "tables",
            20,
            ["-m", "analysis.benchmarks", str(lines), f"--into={tables}"],
            {},
            outcomes.of_tables,
        ),
        Step(
            "evidence",
            75 if small else 115,
            ["-m", "tests.gpu.evidence", "--seconds={seconds}", f"--out={out}",
             f"--device={asked.device}", f"--scale={'smoke' if small else 'gpu'}"],
            {"REPRO_RESULTS": str(out / "runs")} if small else {},
            outcomes.last_line,
        ),
    ]  # fmt: skip


def chosen(steps: list[Step], names: list[str]) -> list[Step]:
    valid = [step.name for step in steps]
    for name in names:
        if name not in valid:
            raise UserError(f"GPU_STEPS: {name} is no step; did you mean {nearest(name, valid)}?")
    return [step for step in steps if not names or step.name in names]


def run_all(steps: list[Step], asked: Asked, summary: dict[str, Any], begun: float) -> int:
    """One after the other; 1 if any has failed or had no time."""
    usual = sum(step.seconds for step in steps)
    total = 60 * asked.minutes if asked.minutes else usual
    told = asked.out / "summary.json"
    for step in steps:
        left = begun + total - time.monotonic()
        last = step is steps[-1] and not asked.rehearsal  # has what the others did not need
        limit = left if last else min(left, step.seconds * min(1.0, total / usual))
        summary["steps"][step.name] = {"state": "running", "limit": round(limit, 1)}
        write_json(told, summary)
        if limit < LEAST:
            found = {"state": "no time left"}
        else:
            try:
                found = run_one(step, limit, asked.out / "session.log")
            except BaseException:
                summary["steps"][step.name]["state"] = "interrupted"
                write_json(told, summary)
                raise
        summary["steps"][step.name] |= found
        summary["seconds"] = round(time.monotonic() - begun, 1)
        write_json(told, summary)
        line = f"{step.name:12}{found.get('seconds', 0):7.1f} s  {found['state']}"
        print(f"{line:32}  {found.get('outcome', '')}", flush=True)
    return int(any(entry["state"] != "done" for entry in summary["steps"].values()))


def run_one(step: Step, limit: float, log: Path) -> dict[str, Any]:
    command = [
        part.format(seconds=int(limit - min(bounded.GRACE, limit / 4))) for part in step.command
    ]
    with log.open("a") as file:
        file.write(f"\n=== {step.name}: {' '.join(command)}, at most {limit:.0f} s\n")
    ended = bounded.run([sys.executable, *command], step.variables, log, limit, step.stop)
    outcome, more = step.outcome(ended.output)
    state = "timed out" if ended.timed_out else "failed" if ended.exit_code else "done"
    entry = {"state": state, "seconds": round(ended.seconds, 1), "exit_code": ended.exit_code}
    return entry | {"outcome": outcome} | more


if __name__ == "__main__":
    sys.exit(main())
