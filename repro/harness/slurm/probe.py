"""A tiny job on the way of every other, for doctor."""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path

from submitit.core.utils import FailedJobError, FailedSubmissionError

from repro.errors import UserError
from repro.harness.experiments.clusters import SlurmCluster
from repro.harness.slurm.batch import check_sbatch, complaint, submit_array
from repro.harness.slurm.requirements import Requirements, parameters_of
from repro.harness.slurm.snapshot import snapshot


def send_probe(cluster: SlurmCluster, results: Path) -> tuple[str, Path]:
    """A tiny job on the way of every other: its number, and the file it will write.

    Raises:
        UserError: SLURM refuses it.
    """
    check_sbatch()
    folder = results / "doctor"
    folder.mkdir(parents=True, exist_ok=True)
    required = Requirements(1, cluster.gpus, cluster.cpus, cluster.memory_gb, 5)
    answer = folder / f"{secrets.token_hex(4)}.json"
    parameters = parameters_of("repro-doctor", required, 1, cluster, snapshot(results), None)
    try:
        (job_id,) = submit_array(folder, cluster, parameters, probe, [str(answer)])
    except (FailedJobError, FailedSubmissionError) as error:
        raise UserError(f"sbatch refused: {complaint(str(error))}") from None
    return job_id, answer


def probe(path: str) -> None:
    """The job: what it finds on its node, as JSON in the file `path`."""
    from repro.files import write_json

    begun, wrong, cuda = time.monotonic(), "", ""
    try:
        import timm  # noqa: F401
        import torch

        cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        wrong = f"{type(error).__name__}: {error}".splitlines()[0]
    answer = Path(path)
    mark = answer.with_suffix(".mark")
    mark.touch()
    now = time.time()
    content = {
        "host": os.environ.get("SLURMD_NODENAME", "?"),
        "time": now,
        "written": mark.stat().st_mtime,
        "cpus": len(os.sched_getaffinity(0)),
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        "cuda": cuda,
        "import": wrong,
        "seconds": time.monotonic() - begun,
    }
    mark.unlink()
    write_json(answer, content)
