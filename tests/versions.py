"""A telling part of the tests under other Pythons and packages: `make test-versions`.

    python -m tests.versions UV PYTHON:PACKAGES...

PACKAGES are `locked` (requirements.txt), `lowest-direct` (the oldest that pyproject.toml admits) or
`highest` (the newest that there are). Each gets an environment in a temporary folder, which
goes when its tests are over. What is printed is the table of docs/versions.md.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from repro.errors import UserError

ROOT = Path(__file__).parents[1]
# Configs and their ids, the method against its oracles and the authors' numbers, data and views,
# processes that decode, ranks, a training and how a process ends.
TELLING = (
    "tests/config", "tests/data", "tests/decode", "tests/dino", "tests/fidelity",
    "tests/test_distributed.py", "tests/test_kept.py", "tests/test_train.py",
    "tests/harness/test_earlier_versions.py", "tests/harness/worker/test_run.py",
)  # fmt: skip
SHOWN = ("torch", "torchvision", "timm", "numpy", "pandas")


def main(arguments: list[str]) -> int:
    uv, *asked = arguments
    print(f"| Python | packages | {' | '.join(SHOWN)} | tests |")
    print("|:--|:--|" + ":--|" * (len(SHOWN) + 1), flush=True)
    codes = []
    try:
        for one in asked:
            python, _, packages = one.partition(":")
            with tempfile.TemporaryDirectory() as folder:
                environment = install(uv, python, packages, Path(folder))
                codes.append(tested(environment, packages))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return max(codes, default=0)


def install(uv: str, python: str, packages: str, folder: Path) -> Path:
    """A new environment; the path of its Python.

    Raises:
        UserError: there is no such Python, or packages that agree are not to be had for it.
    """
    made = folder / "bin" / "python"
    ask(uv, "venv", "--quiet", "--no-python-downloads", f"--python={python}", str(folder))
    into = ("pip", "install", "--quiet", f"--python={made}")
    if packages == "locked":
        ask(uv, *into, "--require-hashes", "--requirement=requirements.txt")
    else:
        resolution = f"--resolution={packages}"
        ask(uv, *into, resolution, "--upgrade", "--extra=dev", "--requirement=pyproject.toml")
    return made


def ask(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{' '.join(command)}: {' '.join(done.stderr.split())}")


def tested(python: Path, packages: str) -> int:
    """pytest's exit code; a line of the table, and before it what failed."""
    command = [str(python), "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *TELLING]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True
    )
    lines = done.stdout.splitlines() or done.stderr.splitlines()
    if done.returncode:
        print("\n".join(lines[-40:]), file=sys.stderr)
    outcome = re.sub(r" in [\d.]+s.*", "", lines[-1])
    print(f"| {' | '.join([*versions(python, packages), outcome])} |", flush=True)
    return done.returncode


def versions(python: Path, packages: str) -> list[str]:
    """Cells of the table: of Python, which packages, and the versions of some."""
    program = (
        "import importlib.metadata, platform, sys; print(platform.python_version(), "
        "*map(importlib.metadata.version, sys.argv[1:]), sep='\\n')"
    )
    found = subprocess.run(
        [str(python), "-c", program, *SHOWN], check=True, capture_output=True, text=True
    ).stdout.split()
    return [found[0], packages, *found[1:]]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
