"""Processes as on nodes whose locks no other node sees, as Lustre's localflock and NFS's local_lock
keep them: emulated, or by real mounts.

Emulated, `flock` excludes nobody. Mounted, every process sees the results through a FUSE of its own
(bindfs), which keeps flocks to itself as such file systems do, on a host with a name of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.slurm.conftest import Lab

LOCAL_LOCKS = """\
import fcntl, os, socket
fcntl.flock = lambda *_: None
node = os.environ.get("SLURMD_NODENAME") or os.environ["LOGIN_NODE"]
socket.gethostname = lambda: node
"""
MOUNTED = """\
hostname "$1"; place=$2; shift 2
bindfs -f "$place" "$place" & served=$!
until mountpoint -q "$place"; do kill -0 $served || exit 99; sleep 0.05; done
cd /; "$@"; code=$?
umount --lazy "$place"; kill $served 2> /dev/null; wait
exit $code
"""


def can_mount() -> bool:
    return shutil.which("bindfs") is not None and Path("/dev/fuse").exists()


@dataclass(frozen=True)
class Apart:
    """`start(name, ...)` starts a command on a node of that name, alone with its locks."""

    lab: Lab
    mounted: bool

    def start(
        self, name: str, *command: str, inside: tuple[str, ...] = ()
    ) -> subprocess.Popen[str]:
        """Args: inside: what starts it there, such as srun."""
        if self.mounted:
            self.lab.results.mkdir(exist_ok=True)
            alone = ("unshare", "--mount", "--uts", "bash", "-c", MOUNTED, "apart")
            return self._start({}, *inside, *alone, name, str(self.lab.results), *command)
        folder = self.lab.folder / "local_locks"
        folder.mkdir(exist_ok=True)
        (folder / "sitecustomize.py").write_text(LOCAL_LOCKS)
        path = f"{folder}:{os.environ.get('PYTHONPATH', '')}"
        return self._start({"PYTHONPATH": path, "LOGIN_NODE": name}, *inside, *command)

    def python(self, name: str, *words: str, inside: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        return self.start(name, sys.executable, *words, inside=inside)

    def _start(self, told: dict[str, str], *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, env=self.lab.environment | told,
        )  # fmt: skip
