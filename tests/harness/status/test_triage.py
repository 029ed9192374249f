"""Causes: from words to a kind, and from many failures to a few groups."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from repro.harness.runs.failures import Failure, FailureKind, failure_of, note_of_rank
from repro.harness.runs.states import State
from repro.harness.runs.store import RunFolder, create_run
from repro.harness.slurm.client import EndedTask
from repro.harness.slurm.submissions import TRAIN, Array, Submission, Task
from repro.harness.status.triage import Cause, cause_of, grouped
from tests.conftest import MakeConfig

TOO_MUCH = """\
slurmstepd: error: StepId=7.0 exceeded memory limit (9 > 8), being killed
slurmstepd: error: *** STEP 7.0 ON n1 CANCELLED AT T ***
"""


@pytest.fixture
def folder(tmp_path: Path, smoke: MakeConfig) -> RunFolder:
    return create_run(tmp_path / "runs", "one", smoke())


def task_with_log(folder: RunFolder, text: str) -> Task:
    place = folder.path.parents[1] / "submissions" / "s1"
    (place / "jobs").mkdir(parents=True)
    (place / "jobs" / "7_0_log.out").write_text(text)
    array = Array("repro-s1-0", TRAIN, [[folder.id]], {}, "7")
    return Task(Submission(place, time.time(), "me", "here", 1, "mine", "code", [array]), array, 0)


def failed(folder: RunFolder, kind: str, line: str, traceback: str = "") -> Cause:
    folder.fail(Failure(FailureKind(kind), line=line, traceback=traceback, host="n1", step=3))
    cause = cause_of(folder, State.failed)
    assert cause is not None
    return cause


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("RuntimeError: CUDA error: an illegal memory access was encountered", "cuda"),
        ("RuntimeError: NCCL error in: ProcessGroupNCCL.cpp, unhandled system error", "cuda"),
        ("RuntimeError: [gloo/transport/tcp/pair.cc] Connection closed by peer [10.0.0.2]", "cuda"),
        ("ModuleNotFoundError: No module named 'timm'", "import"),
        ("ImportError: libcudart.so.13: cannot open shared object file", "import"),
        ("RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB", "out_of_memory"),
        ("RuntimeError: DataLoader worker is killed: Cannot allocate memory", "out_of_memory"),
        ("RuntimeError: [Errno 28] No space left on device", "disk_full"),
        ("KeyError: 'head'", "code"),
    ],
)
def test_an_exception_is_sorted_by_its_words(folder: RunFolder, line: str, kind: str) -> None:
    cause = failed(folder, "code", line)
    assert (cause.kind, cause.line, cause.host, cause.step) == (kind, line, "n1", 3)


@pytest.mark.parametrize("kind", ["nan", "data", "disk_full", "timeout", "preempted", "user"])
def test_what_the_worker_knew_is_kept(folder: RunFolder, kind: str) -> None:
    assert failed(folder, kind, "CUDA is mentioned here").kind == kind


def test_every_kind_that_is_written_has_a_meaning_and_a_remedy(folder: RunFolder) -> None:
    written = {"nan", "out_of_memory", "disk_full", "data", "user", "code", "killed"}
    written |= {failure_of(error, 1).kind for error in (MemoryError(), ValueError("x"))}
    assert written <= set(FailureKind)
    assert len({kind.short for kind in FailureKind}) == len(FailureKind)
    assert all(kind.remedy and kind.meaning for kind in FailureKind)


def test_a_killed_worker_is_out_of_memory_only_if_somebody_says_so(folder: RunFolder) -> None:
    line = "worker killed by SIGKILL (often for want of memory); last line of its log: step 3"
    assert failed(folder, "killed", line).kind == "killed"
    ended = EndedTask("7", "OUT_OF_MEMORY", "0:125", "n1")
    cause = cause_of(folder, State.failed, None, ended)
    assert cause is not None
    assert cause.kind == "out_of_memory"
    assert line in cause.line
    task = task_with_log(folder, "slurmstepd: error: Detected 1 oom_kill event in StepId=7.0.\n")
    cause = cause_of(folder, State.failed, task)
    assert cause is not None
    assert cause.kind == "out_of_memory"


@pytest.mark.parametrize(
    ("log", "kind"),
    [
        ("slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT T DUE TO TIME LIMIT ***", "timeout"),
        ("slurmstepd-n1: error: *** STEP 7.0 ON n1 CANCELLED AT T DUE TO NODE FAILURE ***", "node"),
        ("slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT T DUE TO PREEMPTION ***", "preempted"),
        (TOO_MUCH, "out_of_memory"),
        ("slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT T ***", "cancelled"),
        ("Traceback ...\nModuleNotFoundError: No module named 'x'", "import"),
        ("just some words", "unknown"),
    ],
)
def test_a_lost_run_is_explained_by_the_log_of_its_job(
    folder: RunFolder, log: str, kind: str
) -> None:
    cause = cause_of(folder, State.lost, task_with_log(folder, log))
    assert cause is not None
    assert cause.kind == kind


def test_a_job_that_broke_before_its_worker_shows_the_line_that_broke_it(folder: RunFolder) -> None:
    task = task_with_log(folder, "/bin/bash: line 12: module: command not found\n")
    cause = cause_of(folder, State.lost, task, EndedTask("7", "FAILED", "127:0", "n3"))
    assert cause is not None
    assert (cause.kind, cause.host) == ("import", "n3")
    assert "module: command not found" in cause.line
    assert "exit code 127" in cause.line


@pytest.mark.parametrize("state", [State.lost, State.interrupted])
def test_a_job_that_was_killed_is_told_from_one_that_failed(
    folder: RunFolder, state: State
) -> None:
    log = "started one\nsrun: error: n3: task 0: Killed\nsrun: Force Terminated StepId=7.0\n"
    cause = cause_of(folder, state, task_with_log(folder, log), EndedTask("7", "FAILED", "9:0", ""))
    assert cause is not None
    assert cause.kind == "killed"
    assert "srun: error: n3: task 0: Killed; last line of the job: started one" in cause.line


@pytest.mark.parametrize("ended", [None, EndedTask("7", "FAILED", "12:0", "n3")])
def test_a_set_up_that_slurm_warned_ran_into_its_time_limit(
    folder: RunFolder, ended: EndedTask | None
) -> None:
    log = (
        "srun: error: n3: task 0: User defined signal 2\n"
        "srun: launch/slurm: _step_signal: Terminating StepId=7.0\n"
        "setup: failed on n3 (exit code 140): srun cp -r /data /scratch\n"
    )
    cause = cause_of(folder, State.lost, task_with_log(folder, log), ended)
    assert cause is not None
    assert cause.kind == "timeout"
    assert cause.line.endswith("failed on n3 (exit code 140): srun cp -r /data /scratch")


def test_a_log_that_slurm_could_not_open_is_no_signal_number_53(folder: RunFolder) -> None:
    ended = EndedTask("7", "FAILED", "0:53", "n1")
    cause = cause_of(folder, State.lost, task_with_log(folder, ""), ended)
    assert cause is not None
    assert cause.kind == "unknown"
    assert "no log could be opened on n1" in cause.line
    assert "53" not in cause.line


def test_a_set_up_that_failed_is_a_matter_of_the_environment(folder: RunFolder) -> None:
    line = "setup: failed on n1 (exit code 1): module load cuda/99"
    ended = EndedTask("7", "FAILED", "1:0", "n1")
    cause = cause_of(folder, State.lost, task_with_log(folder, f"{line}\n"), ended)
    assert cause is not None
    assert (cause.kind, cause.line) == (
        "import", f"SLURM: FAILED, exit code 1; last line of the job: {line}",
    )  # fmt: skip


def test_the_decisive_line_is_the_exception_not_the_noise_after_it(folder: RunFolder) -> None:
    log = """\
Traceback (most recent call last):
RuntimeError: Waited for 60 seconds but could not find submitted jobs in path:
/results/submissions/s1/jobs/7_submitted.pkl
srun: error: n3: task 0: Exited with exit code 1
srun: launch/slurm: _step_signal: Terminating StepId=7.0
"""
    cause = cause_of(
        folder, State.lost, task_with_log(folder, log), EndedTask("7", "FAILED", "1:0", "n3")
    )
    assert cause is not None
    assert "RuntimeError: Waited for 60 seconds" in cause.line


def test_healthy_runs_have_no_cause(folder: RunFolder) -> None:
    healthy = (State.queued, State.running, State.done, State.interrupted)
    assert [cause_of(folder, state) for state in healthy] == [None] * 4


def test_causes_that_differ_in_numbers_and_paths_are_one_group_the_largest_first() -> None:
    oom = [
        (
            f"run{i}",
            Cause(FailureKind.out_of_memory, f"StepId={i}.0 exceeded ({i} > 8)", f"n{i % 2}", i),
        )
        for i in range(5)
    ]
    data = [("a", Cause(FailureKind.data, "/data/x/1.jpg: cannot be read", "n1", 0))]
    data += [("b", Cause(FailureKind.data, "/data/y/22.jpg: cannot be read", "", 0))]
    other = [("c", Cause(FailureKind.code, "KeyError: 'head'", "n1", 0))]
    groups = grouped([*other, *data, *oom])
    assert [len(runs) for _, runs, _ in groups] == [5, 2, 1]
    assert groups[0][2] == ["n0", "n1"]
    assert groups[1][1:] == (["a", "b"], ["n1"])


@pytest.mark.parametrize(
    "line",
    [
        "DataLoader worker (pid 4242) is killed by signal: Killed. ",
        "DataLoader worker (pid(s) 4242, 4243) exited unexpectedly",
    ],
)
def test_a_decoding_process_that_was_killed_is_no_mistake_of_the_code(
    folder: RunFolder, line: str
) -> None:
    folder.fail(failure_of(RuntimeError(line), step=3))
    cause = cause_of(folder, State.failed)
    assert cause is not None
    assert (cause.kind, cause.step) == ("killed", 3)
    task = task_with_log(folder, TOO_MUCH)
    cause = cause_of(folder, State.failed, task, EndedTask("7", "OUT_OF_MEMORY", "0:125", "n1"))
    assert cause is not None
    assert cause.kind == "out_of_memory"


def test_a_lost_run_of_several_ranks_tells_of_the_one_that_failed(folder: RunFolder) -> None:
    """Its rank 0 was killed with the others before it could tell."""
    task = task_with_log(folder, "srun: error: gpu2: task 1: Exited with exit code 1\n")
    out = Failure(FailureKind.code, "RuntimeError: CUDA out of memory. Tried to allocate 2 GiB")
    note_of_rank(folder.path, 1, out)
    cause = cause_of(folder, State.lost, task, EndedTask("7", "FAILED", "1:0", "n1"))
    assert cause is not None
    assert (cause.kind, cause.line) == ("out_of_memory", f"rank 1: {out.line}")
