"""SLURM's commands on the PATH with scripted answers, for what no cluster does on demand.

Real files, real submitit, real processes: only the answers are made up. tests/slurm/ has the rest.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

COMMANDS = ("squeue", "sacct", "scontrol", "scancel", "srun", "sacctmgr", "sinfo")
ANSWER = """#!/bin/bash
echo "$*" >> {folder}/{name}.calls
[ -f {folder}/{name}.seconds ] && sleep $(cat {folder}/{name}.seconds)
cat {folder}/{name}.answer 2>/dev/null
exit $(cat {folder}/{name}.code 2>/dev/null || echo 0)
"""
SBATCH = """#!/bin/bash
echo "$*" >> {folder}/sbatch.calls
if [ "$1" == --version ]; then echo slurm 22.05.8; exit; fi
number=$(( $(cat {folder}/number 2>/dev/null || echo 100) + 1 ))
tasks=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\)%.*/\\1/p' "$1")
if [ -f {folder}/most ] && [ ${{tasks:-0}} -ge $(cat {folder}/most) ] &&
    grep -q "$(cat {folder}/only)" "$1"; then
    cat {folder}/refusal >&2; exit 1
fi
echo $number > {folder}/number
cp "$1" {folder}/sbatch.$number
env > {folder}/environment.$number
echo "Submitted batch job $number"
"""


class Scripted:
    """`answer` says what a command prints from now on, `calls` how it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in COMMANDS:
            self._write(name, ANSWER.format(folder=folder, name=name))
        self._write("sbatch", SBATCH.format(folder=folder))
        self.answer("scontrol", "MaxArraySize = 1001\nMaxJobCount = 10000\n")

    def answer(self, command: str, text: str = "", code: int = 0, seconds: float = 0) -> None:
        (self.folder / f"{command}.answer").write_text(text)
        (self.folder / f"{command}.code").write_text(str(code))
        if seconds:
            (self.folder / f"{command}.seconds").write_text(str(seconds))

    def refuse_arrays_of(self, most: int, line: str, only: str = "") -> None:
        """sbatch refuses arrays of more tasks than that with this line; `only` what has a word."""
        (self.folder / "only").write_text(only)
        (self.folder / "most").write_text(str(most))
        (self.folder / "refusal").write_text(line)

    def calls(self, command: str) -> list[str]:
        file = self.folder / f"{command}.calls"
        return file.read_text().splitlines() if file.exists() else []

    @property
    def scripts(self) -> list[str]:
        """Those that sbatch took, in order."""
        return [path.read_text() for path in sorted(self.folder.glob("sbatch.[0-9]*"))]

    def environment(self, number: int) -> str:
        return (self.folder / f"environment.{number}").read_text()

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o755)


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scripted:
    folder = tmp_path / "slurm"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return Scripted(folder)


def option(script: str, name: str) -> str:
    """The value of an sbatch option in a script; empty if it is not there."""
    found = re.search(rf"^#SBATCH --{name}(?:=(.*))?$", script, re.MULTILINE)
    return (found[1] or "yes").strip("'") if found else ""


def all_waiting(results: Path) -> str:
    """What squeue says while everything that was submitted waits."""
    (file,) = (results / "submissions").glob("*/submission.json")
    return "".join(
        f"{array['job']}|{index}|PENDING|Priority||0:00|{array['name']}\n"
        for array in json.loads(file.read_text())["arrays"]
        for index in range(len(array["tasks"]))
    )
