"""Real accounts on the tests' cluster, with a results folder that their group shares."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import repro
from tests.slurm.cluster import Cluster
from tests.slurm.conftest import Lab

UMASK = 0o002


@dataclass(kw_only=True)
class Person(Lab):
    """A user of the cluster who is not root; `folder` is the group's."""

    name: str

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        home = self.folder / self.name
        packages = next(path for path in sys.path if path.endswith("site-packages"))
        mine = {
            "HOME": str(home), "USER": self.name, "LOGNAME": self.name,
            "PYTHONPATH": f"{Path(repro.__file__).parents[1]}:{packages}",
            "LD_LIBRARY_PATH": str(Path(self.python).parents[1] / "lib"),
            "REPRO_RESULTS": str(self.results), "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        return kept | self.cluster.environment | mine

    def start(self, *words: str) -> subprocess.Popen[str]:
        return self.run(self.python, "-m", "repro.cli", *words)

    def run(self, *command: str) -> subprocess.Popen[str]:
        account = pwd.getpwnam(self.name)
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, env=self.environment, user=account.pw_uid, group=account.pw_gid,
            extra_groups=[], umask=UMASK, cwd=self.folder,
        )  # fmt: skip


@contextmanager
def people(cluster: Cluster) -> Iterator[tuple[Person, Person]]:
    """Two of them in one group, whose results folder has its setgid bit; removed afterwards."""
    group = f"lab{os.getpid()}"
    names = [f"ann{os.getpid()}", f"bob{os.getpid()}"]
    folder = Path(tempfile.mkdtemp(prefix="people-", dir="/var/tmp"))
    system("groupadd", group)
    try:
        for name in names:
            system("useradd", "--no-create-home", "--gid", group, name)
            (folder / name).mkdir()
            shutil.chown(folder / name, name, group)
        (folder / "results").mkdir()
        for path in (folder, folder / "results"):
            os.chown(path, 0, grp.getgrnam(group).gr_gid)
            path.chmod(0o2775)
        python = python_for_everybody(folder / "python")
        ann, bob = (Person(cluster, folder, python, name=name) for name in names)
        yield ann, bob
    finally:
        for name in names:
            cluster.run("scancel", f"--user={name}", check=False)
        ann.wait(lambda: not cluster.run("squeue", "--noheader").strip(), "an empty queue", 60)
        for name in names:
            system("userdel", name)
        subprocess.run(["groupdel", group], capture_output=True, check=False)  # userdel may have
        shutil.rmtree(folder, ignore_errors=True)


def python_for_everybody(folder: Path) -> str:
    """This interpreter, or a copy of it where only root can reach it."""
    binary = Path(sys.executable).resolve()
    if all(parent.stat().st_mode & 0o001 for parent in binary.parents):
        return str(binary)
    left_out = shutil.ignore_patterns("test", "site-packages", "__pycache__", "idlelib", "*.a")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    library = Path(sys.base_prefix) / "lib"
    shutil.copytree(library / version, folder / "lib" / version, ignore=left_out)
    for shared in library.glob("libpython*.so*"):
        shutil.copy(shared, folder / "lib")
    (folder / "bin").mkdir()
    shutil.copy(binary, folder / "bin" / version)
    return str(folder / "bin" / version)


def system(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
