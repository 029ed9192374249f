"""The package as users have it: a wheel of these files, installed into an environment of its own.

No network is asked: what the package needs is that of the environment of these tests.
"""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.pages import SHELL, Page

ROOT = Path(__file__).parents[2]
PAGE = Page(ROOT / "docs" / "your-own-study.md")
LINES = "".join(PAGE.blocks(SHELL)).replace("\\\n", " ").splitlines()
OFFLINE = {
    "PIP_NO_INDEX": "1",
    "PIP_NO_DEPS": "1",
    "PIP_NO_BUILD_ISOLATION": "0",  # as pip reads it: there is none
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_QUIET": "1",
}
BUILD_SDIST = "import sys, setuptools.build_meta as b; b.build_sdist(sys.argv[1])"


@dataclass(frozen=True)
class Installed:
    """An environment that has the wheel, and a shell that uses it."""

    wheel: Path
    environment: Path

    @property
    def packages(self) -> Path:
        (folder,) = self.environment.glob("lib/python3*/site-packages")
        return folder

    @property
    def code(self) -> dict[str, int]:
        """Every file of it with the time of its last change; what Python compiles is left out."""
        files = [*self.packages.glob("repro/**/*"), *self.packages.glob("analysis/**/*")]
        kept = (path for path in files if path.is_file() and "__pycache__" not in path.parts)
        return {str(path): path.stat().st_mtime_ns for path in kept}

    def shell(self, line: str, folder: Path, code: int = 0, **variables: str) -> str:
        """Standard output and errors of a line of the page; it must end with this exit code."""
        unset = ("PYTHONPATH", "REPRO_RESULTS", "COLUMNS")
        inherited = {name: value for name, value in os.environ.items() if name not in unset}
        path = f"{self.environment / 'bin'}{os.pathsep}{os.environ['PATH']}"
        own = {"PATH": path, "XDG_CACHE_HOME": str(self.environment / "cache")}
        done = subprocess.run(
            ["bash", "-c", line.replace("CLONE", str(self.wheel))], cwd=folder,
            env=inherited | OFFLINE | own | variables, check=False, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == code, f"{line}\n{done.stdout}"
        return done.stdout


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the files that git knows or would add: building leaves traces beside them."""
    folder = tmp_path_factory.mktemp("source")
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for name in (one for one in names.splitlines() if (ROOT / one).is_file()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    return folder


def build_wheel(source: Path, target: Path, **variables: str) -> Path:
    command = [sys.executable, "-m", "pip", "wheel", "--wheel-dir", str(target), str(source)]
    subprocess.run(command, check=True, env=os.environ | OFFLINE | variables, cwd=source)
    (wheel,) = target.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def git_of_source(source: Path) -> dict[str, str]:
    """The variables by which git takes the copy for the working tree of this repository."""
    command = ["git", "-C", str(ROOT), "rev-parse", "--absolute-git-dir"]
    folder = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    return {"GIT_DIR": folder, "GIT_WORK_TREE": str(source)}


@pytest.fixture(scope="session")
def installed(
    source: Path, git_of_source: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Installed:
    wheel = build_wheel(source, tmp_path_factory.mktemp("wheel"), **git_of_source)
    environment = tmp_path_factory.mktemp("environment")
    command = [sys.executable, "-m", "venv", "--without-pip", str(environment)]
    subprocess.run(command, check=True)
    made = Installed(wheel, environment)
    # Read after its own packages; what is installed there as editable is not followed.
    (made.packages / "present.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    made.shell(LINES[0], environment)
    return made
