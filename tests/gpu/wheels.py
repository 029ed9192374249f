"""A folder to carry to a machine without an index: `make gpu-wheels WHEELS=folder`.

The wheels of what a machine for deep learning usually lacks (GPU_PACKAGES names others), in the
versions of requirements.txt, for x86-64 and GPU_PYTHON; and code.json, the version of this code,
since a copy of the files has no git. What is there already is not fetched again.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from repro.errors import UserError
from repro.files import write_json
from repro.harness.runs.environment import code_version, digest_of, package_contents
from tests.gpu.carried import CODE, ROOT, canonical

PACKAGES = (
    "antlr4-python3-runtime", "hydra-core", "msgspec", "omegaconf", "pylatexenc", "submitit",
)  # fmt: skip
PLATFORMS = ("2_28", "2_27", "2_17", "2014")  # of manylinux, which pip matches to the letter
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")


def main() -> int:
    try:
        if not os.environ.get("WHEELS"):
            raise UserError("say where to: make gpu-wheels WHEELS=folder")
        folder = Path(os.environ["WHEELS"])
        names = os.environ.get("GPU_PACKAGES", "").split() or PACKAGES
        make(folder, list(names), os.environ.get("GPU_PYTHON") or "3.12")
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{folder}: {len(list(folder.glob('*.whl')))} wheels, {size / 2**20:.1f} MiB")
    return 0


def make(folder: Path, names: list[str], python: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    versions = locked()
    for name in map(canonical, names):
        if name not in versions:
            raise UserError(f"{name}: requirements.txt names no such package")
        if not any(fits(wheel, name, versions[name], python) for wheel in folder.glob("*.whl")):
            fetch(folder, f"{name}=={versions[name]}", python)
    write_json(folder / CODE, code_version() | {"digest": digest_of(package_contents())})


def locked() -> dict[str, str]:
    """The tested version of every package."""
    text = (ROOT / "requirements.txt").read_text()
    return dict(re.findall(r"(?m)^([a-z0-9-]+)==([^\s;]+)", text))


def fits(wheel: Path, name: str, version: str, python: str) -> bool:
    parts = wheel.stem.split("-")
    tag = f"cp{python.replace('.', '')}"
    of_python = {"py3", tag} & set(parts[-3].split(".")) or "abi3" in parts[-2]
    return canonical(parts[0]) == name and parts[1] == version and bool(of_python)


def fetch(folder: Path, requirement: str, python: str) -> None:
    """A wheel of the index; where there is only source, one built here that fits anywhere."""
    target = ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}"]
    target += [f"--platform=manylinux_{p}_x86_64" for p in PLATFORMS if "_" in p]
    target += [f"--platform=manylinux{p}_x86_64" for p in PLATFORMS if "_" not in p]
    download = [*PIP, "download", "--no-deps", *target, f"--dest={folder}", requirement]
    if subprocess.run(download, check=False, capture_output=True).returncode == 0:
        return
    with tempfile.TemporaryDirectory() as built:
        build = [*PIP, "wheel", "--no-deps", f"--wheel-dir={built}", requirement]
        done = subprocess.run(build, check=False, capture_output=True, text=True)
        wheels = list(Path(built).glob("*-none-any.whl"))
        if done.returncode or not wheels:
            reason = (done.stderr.strip().splitlines() or ["it holds compiled code"])[-1]
            raise UserError(f"{requirement} for Python {python} cannot be had: {reason}")
        (folder / wheels[0].name).write_bytes(wheels[0].read_bytes())


if __name__ == "__main__":
    sys.exit(main())
