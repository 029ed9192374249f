"""The shell lines of a batch script around its one command: set-up, environment, another start.

    trap ... ERR                     a line of the profile's setup: that fails ends the job, named
    srun one a node bash -c ...      its node_setup:, e.g. data to the node's own disk
    export PYTHONPATH ...            the submitted code, and what the job's processes are told
    [srun python ...]                written by submitit
    scontrol requeue                 if the job asks for another start by its exit code

A failing line is found by a trap and not by `set -e`, which would also end the job inside functions
such as `module` and `conda`, at commands that may fail; what counts is how a whole line ends.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from repro.harness.experiments.clusters import SlurmCluster
from repro.harness.runs import variables

ON_FAILURE = (
    "trap 'code=$?; if [ ${#BASH_SOURCE[@]} -le 1 ]; then "
    'echo "WHICH failed on $(hostname) (exit code $code): $BASH_COMMAND"; exit $code; fi\' ERR'
)
REQUEUE_SECONDS = 300  # SLURM ends a job that it starts again
GRACE_SECONDS = 3600  # of a partition that is preempted, at most
# In front of the command of every task. Python listens to SLURM's warning only after its first
# imports, half a minute on a busy file system; until then the warning would end it.
DEAF = ("bash", "-c", "trap '' USR2; exec \"$@\"", "task")


def before(cluster: SlurmCluster, code: Path, nodes: int, ranks: int) -> list[str]:
    """What stands above the command of a job."""
    told = {
        **variables.REQUEUES.holding(cluster.requeues),
        **variables.PACKED.holding(cluster.packed),
        **variables.WARNING.holding(cluster.warning_seconds),
    }
    return [
        # A site or a shell that exports nothing (--export=NONE) would hide these lines from srun.
        "export SLURM_EXPORT_ENV=ALL",
        *_set_up(cluster.setup),
        *_set_up_nodes(cluster.node_setup, nodes),
        f'export PYTHONPATH={shlex.quote(str(code))}"${{PYTHONPATH:+:$PYTHONPATH}}"',
        "export PYTHONSAFEPATH=1  # not the working directory, whose code may have been edited",
        *(f"export {variable}={value}" for variable, value in told.items()),
        "export SUBMITIT_PREEMPT_SIGNAL=WINCH  # submitit leaves the warning to the job",
        # From SLURM 22.05 on, srun does not inherit it, and a job's workers share one core.
        "export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK",
        *(_among_ranks(cluster) if ranks > 1 else ()),
    ]


def after() -> list[str]:
    """What stands below it, where scontrol is, which a container may not hold; see `restart.py`."""
    return [
        "code=$?",
        f"if [ $code = {variables.ASKS_FOR_A_START} ]; then  # saved after a warning",
        "    for pause in 0 5 20; do",
        f'        sleep $pause; scontrol requeue "$SLURM_JOB_ID" && sleep {REQUEUE_SECONDS}',
        "    done",
        '    echo "SLURM did not take this job back; repro retry interrupted"',
        'elif [ $code != 0 ] && scontrol show job "$SLURM_JOB_ID" | grep -q PreemptTime=2; then',
        '    echo "preempted: SLURM queues this job again only if it has to end it itself"',
        f"    sleep {GRACE_SECONDS}",
        "fi",
        "exit $code",
        "",
    ]


def _set_up(lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    return [ON_FAILURE.replace("WHICH", "setup:"), *lines, "trap - ERR"]


def _set_up_nodes(lines: Sequence[str], nodes: int) -> list[str]:
    """Once on every node, before the processes of the run."""
    if not lines:
        return []
    # SLURM warns steps, and so this one: its time limit is to end it, and to be told as that.
    each = "\n".join(["trap '' USR2", ON_FAILURE.replace("WHICH", "node_setup:"), *lines])
    options = f"--nodes={nodes} --ntasks={nodes} --ntasks-per-node=1 --kill-on-bad-exit=1"
    return [f"srun {options} bash -c {shlex.quote(each)} || exit $?"]


def _among_ranks(cluster: SlurmCluster) -> list[str]:
    lines = [
        "# Rank 0 is on the first node; a setup: line may name its fast network instead.",
        "# Ranks wait half an hour for each other (repro/distributed.py).",
        'first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
        "export MASTER_ADDR=${MASTER_ADDR:-$first}",
    ]
    if cluster.gpus:
        lines += [
            "# What NCCL finds wrong, it says; a rank that fails ends the others. Networks differ:",
            "# NCCL_SOCKET_IFNAME, NCCL_IB_HCA and the like belong into setup: of the profile.",
            "export NCCL_DEBUG=${NCCL_DEBUG:-WARN} TORCH_NCCL_ASYNC_ERROR_HANDLING=1",
        ]
    return lines
