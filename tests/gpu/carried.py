"""What comes along to a machine without an index: a folder of wheels and the version of the code.

Only what is missing is installed, into a folder of its own, so nothing that is there is replaced.
Needs nothing but Python itself: it runs before anything is installed.
"""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

from repro.errors import UserError

ROOT = Path(__file__).parents[2]
OF_THE_TESTS = ("hypothesis", "pytest", "pytest-benchmark", "pytest-xdist")
CODE = "code.json"


def python_path(wheels: Path | None, site: Path) -> tuple[str, list[str]]:
    """PYTHONPATH of what is run, and the names of what was installed into `site` for it.

    Raises UserError: something is missing here and in `wheels`, or torch is too old.
    """
    wanted = requirements()
    torch = importlib.metadata.version("torch") if installed("torch") else "none"
    if numbers(torch) < numbers(wanted["torch"]):
        told = f"{sys.executable} has torch {torch}, {wanted['torch']} or newer is needed"
        raise UserError(f"{told}; make gpu PYTHON=python3 uses the Python that you name")
    missing = [name for name in wanted if not installed(name)]
    if not missing:
        return str(ROOT), []
    missing = install(missing, wheels, site)
    return f"{ROOT}:{site}", missing


def requirements() -> dict[str, str]:
    """What the package and these tests need: the oldest version by name, "" for any."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    parts = [
        re.fullmatch(r"([\w.-]+)(?:>=([\d.]+))?", line)
        for line in project["dependencies"] + project["optional-dependencies"]["dev"]
    ]
    versions = {part[1]: part[2] or "" for part in parts if part}
    needed = len(project["dependencies"])
    names = [part[1] for part in parts[:needed] if part] + list(OF_THE_TESTS)
    return {name: versions[name] for name in names}


def installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:2]]


def install(missing: list[str], wheels: Path | None, site: Path) -> list[str]:
    """Put `missing`, and what that needs and is not here, from `wheels` into `site`."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    if wheels is None:
        raise UserError(f"{sys.executable} lacks {', '.join(missing)}; {advice(missing, python)}")
    if not wheels.is_dir():
        raise UserError(f"WHEELS={wheels}: no such folder; {advice(missing, python)}")
    there = wheels_for_this_python(wheels)
    names, lost = [canonical(name) for name in missing], []
    for name in names:  # grows by what wheels need
        if name not in there:
            lost.append(name)
            continue
        names += [n for n in needs(there[name]) if n not in names and not installed(n)]
    if lost:
        raise UserError(f"{wheels} has no wheel of {', '.join(lost)}; {advice(lost, python)}")
    shutil.rmtree(site, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pip += ["--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--target", str(site)]
    done = subprocess.run(
        [*pip, *(str(there[name]) for name in names)], check=False, capture_output=True
    )
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["pip said nothing"]
        raise UserError(f"{wheels}: {lines[-1]}")
    return names


def advice(names: list[str], python: str) -> str:
    call = f"make gpu-wheels WHEELS=folder GPU_PYTHON={python} GPU_PACKAGES='{' '.join(names)}'"
    return f"where there is an index: {call}; then here: make gpu WHEELS=folder"


def wheels_for_this_python(folder: Path) -> dict[str, Path]:
    """The wheel of each package, by its canonical name; the last of several versions."""
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    found = {}
    for wheel in sorted(folder.glob("*.whl")):
        name, _, *_, python, abi, _ = wheel.stem.split("-")
        if {"py3", tag} & set(python.split(".")) or "abi3" in abi.split("."):
            found[canonical(name)] = wheel
    return found


def needs(wheel: Path) -> list[str]:
    """The packages that a wheel asks for in this Python, without its extras."""
    from pip._vendor.packaging.requirements import Requirement

    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().partition("\n\n")[0].splitlines()
    asked = [Requirement(line.partition(":")[2]) for line in lines if line[:14] == "Requires-Dist:"]
    return [canonical(r.name) for r in asked if not r.marker or r.marker.evaluate({"extra": ""})]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def bring_code_version(wheels: Path | None) -> str:
    """Tell this copy, if it has no git, which commit it is; answers in words what is known.

    The digest in `code.json` is compared wherever a record is written, not here alone.
    """
    from repro.harness.runs.environment import code_version

    if not (ROOT / ".git").exists():
        (ROOT / CODE).unlink(missing_ok=True)
        if wheels and (wheels / CODE).exists():
            shutil.copy(wheels / CODE, ROOT / CODE)
    version = code_version()
    if version["git_sha"]:
        return f"commit {version['git_sha'][:12]}" + (" with changes" if version["dirty"] else "")
    if (ROOT / CODE).exists():
        return f"version unknown: {wheels}/{CODE} is of other code; make gpu-wheels again"
    return f"version unknown: no git here and no {CODE} in WHEELS"
