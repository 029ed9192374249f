"""Environment variables by which processes of the harness tell each other what no run folder holds.

They belong to one start of one process on one machine, never to a run. What a person may set,
REPRO_RESULTS, is read in `experiments/folders.py`.
"""

from __future__ import annotations

import os
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import repro


@dataclass(frozen=True)
class Number:
    """A variable that holds a whole number; unset or empty it stands for `default`."""

    name: str
    default: int = 0

    def read(self) -> int:
        return int(os.environ.get(self.name) or self.default)

    def holding(self, value: int) -> dict[str, str]:
        """Part of the environment of a process to be started."""
        return {self.name: str(value)}


# Of a worker.
POOL_PID = Number("REPRO_POOL_PID")  # by the pool: stop when that process is gone
TRAIN_ONLY = Number("REPRO_TRAIN_ONLY")  # 1 by a SLURM job: evaluations are jobs of their own
THREADS = Number("REPRO_THREADS")  # by pool or job: this run's share of the cores, all its ranks
MEETING = Number("REPRO_MEETING")  # 1 by rank 0: the ranks meet at the port that it has opened
RUNS_A_GPU = Number("REPRO_RUNS_A_GPU", 1)  # by the pool: how many may share this run's GPU

# Of a SLURM job, by the submission.
REQUEUES = Number("REPRO_REQUEUES")  # starts after the first that a job may ask for
PACKED = Number("REPRO_PACKED", 1)  # runs side by side in a job
WARNING = Number("REPRO_WARNING")  # seconds between SLURM's warning and its kill
ASKS_FOR_A_START = 85  # exit code of a job that is to be queued again; its batch script asks

# Of a SLURM job, by SLURM.
SLURM_TASKS = Number("SLURM_NTASKS", 1)
SLURM_TASK = Number("SLURM_PROCID")
SLURM_LOCAL_TASK = Number("SLURM_LOCALID")
SLURM_CPUS = Number("SLURM_CPUS_PER_TASK", 1)
SLURM_RESTARTS = Number("SLURM_RESTART_COUNT")


def our_code() -> dict[str, str]:
    """For a process started by `python -m`: this program's own modules, and none of the working
    directory, where a random.py or another clone may lie.
    """
    ours = str(Path(repro.__file__).resolve().parents[1])
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if ours != sysconfig.get_path("purelib"):  # which must not stand before the standard library
        paths = [ours, *paths]
    return {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
