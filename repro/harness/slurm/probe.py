"""A tiny job on the way of every other, for doctor: what it finds on its node.

It holds a lock in the results folder until the one who sent it has tried to take it as well: only
so it shows whether locks reach from one machine to another.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from submitit.core.utils import FailedJobError, FailedSubmissionError

from repro.decode import decode
from repro.errors import UserError
from repro.files import folder_fault, read_json, write_json
from repro.harness.experiments.clusters import SlurmCluster
from repro.harness.slurm import client as slurm
from repro.harness.slurm.batch import check_sbatch, complaint, submit_array
from repro.harness.slurm.requirements import Requirements, parameters_of
from repro.harness.slurm.snapshot import snapshot

MINUTES = 10  # of the job, for a node_setup: that unpacks data
LOCK_SECONDS = 60.0  # that the job waits for the other side; network file systems show files late
CHECKPOINT_BYTES = 703_000_000  # ViT-S/16, 65536 prototypes: student, teacher and AdamW's two, fp32
WRITING_SECONDS = 20.0  # after which the time of the rest is extrapolated
BLOCK = 2**23


@dataclass(frozen=True)
class Node:
    """What a node is like, as a job of the profile sees it."""

    host: str
    time: float
    written: float  # when its file server says that a file of that time was written
    cpus: int
    visible: str  # CUDA_VISIBLE_DEVICES
    cuda: str  # the name of the GPU that torch sees
    import_: str  # why torch cannot be imported
    seconds: float  # that the import took
    scontrol: bool  # whether it answers beside the job's Python
    lock: str  # why no lock can be held; empty where one is
    checkpoint_seconds: float
    data: dict[str, str] = field(default_factory=dict)  # by folder, what is wrong with it


def send_probe(cluster: SlurmCluster, results: Path) -> tuple[str, Path]:
    """A tiny job on the way of every other: its number, and the file it will write.

    Raises:
        UserError: SLURM refuses it.
    """
    check_sbatch()
    folder = results / "doctor"
    folder.mkdir(parents=True, exist_ok=True)
    required = Requirements(1, cluster.gpus, cluster.cpus, cluster.memory_gb, MINUTES)
    answer = folder / f"{secrets.token_hex(4)}.json"
    write_json(_question(answer), sorted(cluster.data.values()))
    parameters = parameters_of("repro-doctor", required, 1, cluster, snapshot(results), None)
    try:
        (job_id,) = submit_array(folder, cluster, parameters, probe, [str(answer)])
    except (FailedJobError, FailedSubmissionError) as error:
        _question(answer).unlink()
        raise UserError(f"sbatch refused: {complaint(str(error))}") from None
    return job_id, answer


def read_node(answer: Path) -> Node | None:
    """What the job found, once it has written it."""
    content = read_json(answer)
    return None if content is None else decode(content, Node, str(answer))


def lock_reaches(answer: Path) -> bool | None:
    """Whether the lock that the job holds on its node keeps this process out; None if it no longer
    holds it. Then the job may end.
    """
    path = _lock(answer)
    try:
        with path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        path.with_suffix(".seen").touch()
    return False if path.exists() else None


def probe(path: str) -> None:
    """The job: what it finds on its node, as JSON in the file `path`."""
    answer = Path(path)
    begun, wrong, cuda = time.monotonic(), "", ""
    try:
        import timm  # noqa: F401
        import torch

        cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        wrong = f"{type(error).__name__}: {error}".splitlines()[0]
    seconds = time.monotonic() - begun
    saving = _checkpoint_seconds(answer)
    mark = answer.with_suffix(".mark")
    mark.touch()
    now, written = time.time(), mark.stat().st_mtime
    mark.unlink()
    with _held(_lock(answer)) as fault:
        node = Node(
            host=os.environ.get("SLURMD_NODENAME", "?"),
            time=now,
            written=written,
            cpus=len(os.sched_getaffinity(0)),
            visible=os.environ.get("CUDA_VISIBLE_DEVICES", ""),
            cuda=cuda,
            import_=wrong,
            seconds=seconds,
            scontrol=slurm.ask("scontrol", "show", "config") is not None,
            lock=fault,
            checkpoint_seconds=saving,
            data={folder: folder_fault(folder) for folder in read_json(_question(answer)) or []},
        )
        write_json(answer, asdict(node))
    _question(answer).unlink(missing_ok=True)


@contextmanager
def _held(path: Path) -> Iterator[str]:
    """A lock that is held until the other side has tried it, or has had its time for that."""
    seen = path.with_suffix(".seen")
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fault = ""
        except OSError as error:
            fault = error.strerror or str(error)
        yield fault
        deadline = time.monotonic() + LOCK_SECONDS
        while not (fault or seen.exists()) and time.monotonic() < deadline:
            time.sleep(0.2)
        path.unlink()  # first: whoever finds the lock free looks whether it is still there
    seen.unlink(missing_ok=True)


def _checkpoint_seconds(answer: Path) -> float:
    """How long a checkpoint of ViT-S takes to be written, and to be on the disk."""
    path, block = answer.with_suffix(".checkpoint"), os.urandom(BLOCK)
    begun, written = time.monotonic(), 0
    try:
        with path.open("wb") as file:
            while written < CHECKPOINT_BYTES and time.monotonic() - begun < WRITING_SECONDS:
                written += file.write(block)
                if written % (16 * BLOCK) == 0:
                    os.fsync(file.fileno())
            file.flush()
            os.fsync(file.fileno())
    finally:
        path.unlink(missing_ok=True)
    return (time.monotonic() - begun) * max(1.0, CHECKPOINT_BYTES / written)


def _question(answer: Path) -> Path:
    return answer.with_suffix(".data")


def _lock(answer: Path) -> Path:
    return answer.with_suffix(".lock")
