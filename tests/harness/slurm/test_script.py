"""The batch script: what an experienced person would write, and what its lines do in a shell."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec import structs

from repro.harness.experiments.clusters import SlurmCluster
from repro.harness.plan.plan import plan
from repro.harness.slurm.batch import script
from repro.harness.slurm.script import DEAF, after, before

SCRIPTS = Path(__file__).parent / "scripts"
ONE = SlurmCluster(name="mine", gpus=1, cpus=8, memory_gb=32, minutes=720, python="python")
EIGHT = structs.replace(
    ONE, gpu_type="a100", gpus_by="gres", account="vision", qos="high", reservation="dino",
    memory_gb=0, exclusive=True, resources={"ranks": 8}, warning_seconds=300,
)  # fmt: skip
SIXTEEN = structs.replace(
    ONE, partition="long", constraint="h100", wckey="dino", mail_type="FAIL,END",
    mail_user="me@example.org", gpu_type="h100", resources={"ranks": 16},
    setup=("module load cuda/12.4", "source ~/venv/bin/activate"),
    node_setup=("tar -xf /datasets/imagenet.tar -C $SLURM_TMPDIR",),
    extra={"nice": 100, "switches": 1}, srun=("--gpu-bind=closest",), python="",
)  # fmt: skip


def normalised(text: str) -> str:
    """Without this machine's interpreter."""
    return re.sub(r"\S*/bin/python\S*", "PYTHON", text)


@pytest.mark.parametrize(
    ("name", "cluster", "seeds"),
    [("1_gpu", ONE, 1), ("8_gpus", EIGHT, 1), ("2x8_gpus", SIXTEEN, 4)],
)
def test_the_script_is_the_one_that_was_read_and_found_right(
    name: str, cluster: SlurmCluster, seeds: int, tmp_path: Path
) -> None:
    """After a change that is meant: read the new script as a whole before it replaces the old."""
    runs = plan(["F7:both"], "smoke", seeds, tmp_path).runs
    written = normalised(script(runs, cluster, Path("/shared/results")))
    assert written == (SCRIPTS / f"{name}.sh").read_text()


@pytest.mark.parametrize("name", ["1_gpu", "8_gpus", "2x8_gpus"])
def test_a_shell_reads_the_script(name: str) -> None:
    subprocess.run(["bash", "-n", str(SCRIPTS / f"{name}.sh")], check=True)


def shell(lines: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run as a batch script: from a file, with stand-ins for SLURM's commands in `folder`."""
    path = folder / "job.sh"
    path.write_text("\n".join(lines))
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    return subprocess.run(
        ["bash", str(path)], env=environment, capture_output=True, text=True, check=False
    )


def stand_in(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/bash\n{text}\n")
    (folder / name).chmod(0o755)


def lines_of(*setup: str, node_setup: tuple[str, ...] = ()) -> list[str]:
    cluster = structs.replace(ONE, setup=setup, node_setup=node_setup)
    return [*before(cluster, Path("/code"), 2, 1), "echo the job"]


def test_a_line_of_the_setup_that_fails_ends_the_job_and_is_named(tmp_path: Path) -> None:
    ended = shell(lines_of("export A=1", "no_such_module load cuda/99", "echo after"), tmp_path)
    assert ended.returncode == 127
    last = ended.stdout.splitlines()[-1]
    assert re.fullmatch(
        r"setup: failed on \S+ \(exit code 127\): no_such_module load cuda/99", last
    )


def test_what_fails_inside_a_function_or_a_sourced_file_that_ends_well_does_no_harm(
    tmp_path: Path,
) -> None:
    (tmp_path / "activate").write_text("false\ntrue\n")
    ended = shell(lines_of("module() { false; true; }", "module x", "source activate"), tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "the job\n")
    (tmp_path / "activate").write_text("true\nreturn 3\n")
    ended = shell(lines_of("source activate"), tmp_path)
    assert ended.returncode == 3
    assert "setup: failed" in ended.stdout


def test_the_setup_of_nodes_runs_once_on_each_before_the_job(tmp_path: Path) -> None:
    stand_in(tmp_path, "srun", 'echo "$1 $2 $3"; shift 4; "$@"; "$@"')
    ended = shell(lines_of(node_setup=("A='it is'", 'echo "$A here"')), tmp_path)
    options = "--nodes=2 --ntasks=2 --ntasks-per-node=1"
    assert ended.stdout.splitlines() == [options, "it is here", "it is here", "the job"]
    stand_in(tmp_path, "srun", 'shift 4; "$@"')
    ended = shell(lines_of(node_setup=("tar -xf /nowhere.tar", "echo on")), tmp_path)
    assert ended.returncode == 2
    assert re.search(r"node_setup: failed on \S+ \(exit code 2\): tar -xf /now", ended.stdout)
    assert "the job" not in ended.stdout


@pytest.mark.parametrize(("code", "asks"), [(0, False), (1, False), (85, True)])
def test_the_script_asks_for_another_start_where_the_job_cannot_and_keeps_its_exit_code(
    code: int, asks: bool, tmp_path: Path
) -> None:
    stand_in(tmp_path, "scontrol", 'echo "scontrol $*"; exit 1')
    ended = shell([f"(exit {code})", *after()], tmp_path)
    assert ended.returncode == code
    assert ("scontrol requeue 7" in ended.stdout) == asks


@pytest.mark.parametrize(("time", "stays"), [("None", False), ("2026-11-28T02:58:08", True)])
def test_the_script_of_a_job_that_is_preempted_stays_until_slurm_ends_it(
    tmp_path: Path, time: str, stays: bool
) -> None:
    stand_in(
        tmp_path, "scontrol", f'echo "PreemptEligibleTime=2026-11-27T01:00:00 PreemptTime={time}"'
    )
    stand_in(tmp_path, "sleep", 'echo "sleeps $1"')
    ended = shell(["(exit 1)", *after()], tmp_path)
    assert ended.returncode == 1
    assert ("sleeps 3600" in ended.stdout) == stays


def test_a_task_ignores_the_warning_until_it_listens() -> None:
    kill_me = "import os, signal; os.kill(os.getpid(), signal.SIGUSR2); print('alive')"
    command = [sys.executable, "-c", kill_me]
    assert subprocess.run(command, check=False).returncode == -signal.SIGUSR2
    done = subprocess.run([*DEAF, *command], capture_output=True, text=True, check=True)
    assert done.stdout == "alive\n"
