"""Finished runs, and others with a checkpoint, as an archive in parts; and out of it again."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from repro.errors import UserError
from repro.harness.experiments.folders import results_dir
from repro.harness.runs.records import environment_of, record
from repro.harness.runs.store import RunFolder, find_runs
from tests.gpu.carried import ROOT

ARCHIVE = "evidence.tar.gz"
PART = 15 * 2**20  # bytes of a part
LEFT_BEHIND = ("checkpoints", "features", "tensorboard", "lock", "heartbeat")
LAST = "checkpoints/last.pt"


def pack(done: Sequence[RunFolder], others: Sequence[RunFolder], out: Path, room: int) -> list[str]:
    """Write the archive of finished runs and, while there is room, of others with a checkpoint,
    those nearest their end first; the names of what is in it.

    Args:
        room: bytes of all parts.
    """
    out.mkdir(parents=True, exist_ok=True)
    nearest = sorted((f for f in others if (f.path / LAST).exists()), key=lambda f: -f.step)
    names = []
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / ARCHIVE
        with tarfile.open(whole, "w:gz", compresslevel=6) as archive:
            for folder in (*done, *nearest):
                files = files_to_take(folder)
                size = sum(path.stat().st_size for path in files if path.suffix == ".pt")
                if whole.stat().st_size + size < room:
                    for path in files:
                        archive.add(path, path.relative_to(folder.path.parent))
                    names.append(folder.path.name)
        content = whole.read_bytes()
        starts = range(0, len(content), PART)
        for old in parts_in(out)[len(starts) :]:
            old.unlink()
        for number, start in enumerate(starts):
            part = Path(scratch) / "part"
            part.write_bytes(content[start : start + PART])
            shutil.move(part, out / f"{ARCHIVE}.{number:02}")
    return names


def files_to_take(folder: RunFolder) -> list[Path]:
    """All but checkpoints and what is made anew; of an unfinished run its last checkpoint, too."""
    files = [
        path
        for path in sorted(folder.path.rglob("*"))
        if path.is_file() and path.relative_to(folder.path).parts[0] not in LEFT_BEHIND
    ]
    return files if folder.result() is not None else [*files, folder.path / LAST]


def parts_in(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{ARCHIVE}.[0-9][0-9]"))


def unpack(source: Path) -> None:
    """Runs of an archive into results/runs, each checked; finished ones that are there stay.

    Raises:
        UserError: no archive, or something in it is not what it says.
    """
    parts = parts_in(source)
    if not parts:
        raise UserError(f"{source}: no {ARCHIVE}.00 here")
    runs = results_dir() / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=runs) as scratch:
        whole = Path(scratch) / ARCHIVE
        whole.write_bytes(b"".join(part.read_bytes() for part in parts))
        try:
            with tarfile.open(whole) as archive:
                archive.extractall(Path(scratch) / "runs", filter="data")
        except (tarfile.TarError, EOFError, OSError) as error:
            raise UserError(f"{parts[0]}: damaged ({error})") from None
        for folder in find_runs(Path(scratch) / "runs"):
            name_the_commit(folder)
            print(f"{folder.path.name}: {check(folder)}, {take(folder, runs)}")


def name_the_commit(folder: RunFolder, repository: Path = ROOT) -> None:
    """Of a run whose code was an earlier commit with changes that are a later one, exactly.

    A copy of a working tree may have the history of another day. Nothing is taken on trust: the
    whole difference that the run noted is compared with that of each commit since. What the run
    was evaluated to at its end, in the same copy on the same machine, is of the same code.
    """
    noted = folder.environment()
    if not noted.get("dirty") or not noted.get("diff"):
        return
    base = noted["git_sha"]
    for commit in _git(repository, "rev-list", f"{base}..HEAD").split():
        if _lines(_git(repository, "diff", base, commit, "--", "repro")) == _lines(noted["diff"]):
            named = {"git_sha": commit, "dirty": False}
            for name, made in folder.evaluations().items():
                if made.env and _agrees(made.env, noted):
                    answer = folder.path / "evaluations" / f"{name}.json"
                    replace(made, env=made.env | named).write(answer, folder.id)
            folder.write_environment(noted | named | {"diff": ""})
            return


def _agrees(some: Any, whole: Any) -> bool:
    """Whether all that is said in one is said in the other."""
    if isinstance(some, dict) and isinstance(whole, dict):
        return all(key in whole and _agrees(value, whole[key]) for key, value in some.items())
    return bool(some == whole)


def _lines(diff: str) -> list[str]:
    """Of a diff, without the abbreviated names of blobs, whose length is each repository's own."""
    return [line for line in diff.strip().splitlines() if not line.startswith("index ")]


def _git(repository: Path, *arguments: str) -> str:
    """What git says; nothing where it does not know what it is asked for."""
    command = ["git", "-C", str(repository), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def check(folder: RunFolder) -> str:
    """What a run is.

    Raises:
        UserError: its files do not belong together.
    """
    folder.config()  # is held against the id of the folder
    if folder.result() is None:
        return f"to be continued from about step {folder.step}"
    run = record(folder)
    if folder.step != run.counts.steps:
        raise UserError(f"{folder.path}: metrics end at step {folder.step} of {run.counts.steps}")
    code = environment_of(folder)
    version = code.git_sha[:10] if code.git_sha else "unknown"
    return f"done, code {version}{'' if code.committed else ', not to be published'}"


def take(folder: RunFolder, runs: Path) -> str:
    """Move it to the other runs; what came of that."""
    target = RunFolder(runs / folder.path.name)
    if target.path.exists():
        if target.result() is not None or folder.result() is None or target.is_locked():
            return "one is there already"
        shutil.rmtree(target.path)
    (folder.path / "checkpoints").mkdir(exist_ok=True)
    folder.path.rename(target.path)
    return "taken"
