"""From runs to sbatch calls: what is asked for, how it is split, what if SLURM refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from repro.errors import UserError
from repro.harness.plan.cost import Cost
from repro.harness.plan.plan import plan
from repro.harness.plan.submit import check_budget, submit
from repro.harness.runs.failures import Failure, FailureKind
from repro.harness.runs.store import find_runs
from repro.harness.slurm.batch import script
from repro.harness.slurm.job import run_folders
from repro.harness.slurm.requirements import Increase
from repro.harness.slurm.snapshot import snapshot
from repro.harness.slurm.submissions import submissions
from tests.harness.scripted import Scripted, all_waiting, option, scripted
from tests.harness.slurm.submitting import CLUSTER, arrays, send

__all__ = ["scripted"]


def test_a_grid_is_one_array_and_its_evaluations_wait_task_by_task(
    scripted: Scripted, tmp_path: Path
) -> None:
    send(tmp_path)
    training, evaluation = scripted.scripts
    assert option(training, "array") == "0-7%8"
    assert option(training, "dependency") == ""
    assert option(evaluation, "array") == "0-7%8"
    assert option(evaluation, "dependency") == "aftercorr:101"
    assert option(evaluation, "kill-on-invalid-dep") == "yes"
    assert [(a["stage"], a["job"]) for a in arrays(tmp_path)] == [
        ("train", "101"),
        ("evaluate", "102"),
    ]


def test_a_single_run_is_followed_by_its_evaluation_alone(
    scripted: Scripted, tmp_path: Path
) -> None:
    run = plan(["F7:both"], "smoke", 1, tmp_path).runs
    submit(run, CLUSTER, tmp_path, Increase(), print)
    assert [option(s, "array") for s in scripted.scripts] == ["", ""]
    assert option(scripted.scripts[1], "dependency") == "afterok:101"


def test_a_job_asks_for_what_profile_and_run_need(scripted: Scripted, tmp_path: Path) -> None:
    more: dict[str, Any] = {
        "partition": "fast", "account": "vision", "qos": "high", "constraint": "a100|h100",
        "setup": ("module load cuda",), "extra": {"mail-type": "FAIL"}, "srun": ("--mpi=none",),
        "warning_seconds": 200, "requeues": 7,
    }  # fmt: skip
    ranks = {"smoke": {"ranks": 16}}
    send(tmp_path, structs.replace(CLUSTER, resources=ranks, **more))
    text = scripted.scripts[0]
    wanted = {
        "partition": "fast", "account": "vision", "qos": "high", "constraint": "a100|h100",
        "mail-type": "FAIL", "nodes": "2", "ntasks-per-node": "8", "gpus-per-node": "8",
        "cpus-per-task": "4", "mem": "131072M", "time": "90", "signal": "USR2@200",
        "open-mode": "append", "requeue": "yes",
    }  # fmt: skip
    assert {name: option(text, name) for name in wanted} == wanted
    assert text.index("module load cuda") < text.index("PYTHONPATH") < text.index("srun ")
    assert "--kill-on-bad-exit=1 --mpi=none" in text
    assert "export REPRO_REQUEUES=7" in text
    assert "SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK" in text
    # An evaluation is one process.
    assert option(scripted.scripts[1], "nodes") == "1"
    assert option(scripted.scripts[1], "gpus-per-node") == "1"
    (folder, *_) = find_runs(tmp_path / "runs")
    assert folder.config().resources.ranks == 16


def test_what_a_profile_leaves_empty_is_left_to_the_cluster(
    scripted: Scripted, tmp_path: Path
) -> None:
    send(tmp_path, structs.replace(CLUSTER, gpus=0))
    for name in ("partition", "account", "qos", "constraint", "gpus-per-node"):
        assert option(scripted.scripts[0], name) == ""


def test_submitting_again_sends_nothing(scripted: Scripted, tmp_path: Path) -> None:
    send(tmp_path)
    scripted.answer("squeue", all_waiting(tmp_path))
    assert send(tmp_path) == []
    assert len(scripted.scripts) == 2
    planned = plan(["F7"], "smoke", 2, tmp_path)
    assert planned.todo == ()
    assert {run.state for run in planned.runs} == {"queued"}


def test_submissions_at_one_moment_send_each_run_once(scripted: Scripted, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as people:
        list(people.map(lambda _: send(tmp_path), range(4)))
    # A fresh submission counts as queued even before squeue has heard of it.
    assert len(scripted.scripts) == 2
    assert len(submissions(tmp_path)) == 1


def test_small_runs_share_jobs(
    scripted: Scripted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    send(tmp_path, structs.replace(CLUSTER, packed=3))
    training = arrays(tmp_path)[0]
    assert [len(task) for task in training["tasks"]] == [3, 3, 2]
    (pack, *_) = sorted((tmp_path / "submissions").glob("*/packs/*-0-0.json"))
    named = json.loads(pack.read_text())["runs"]
    assert [Path(path).name.rpartition("-")[2] for path in named] == training["tasks"][0]
    assert [folder.id for folder in run_folders(str(pack))] == training["tasks"][0]
    pack.write_text(pack.read_text().replace("/runs/", "/ruins/", 1))
    with pytest.raises(SystemExit, match="2"):
        run_folders(str(pack))
    assert f"{pack}: damaged" in capsys.readouterr().out
    assert "export REPRO_PACKED=3" in scripted.scripts[0]
    # They share GPU and CPUs; each brings its memory.
    assert [option(scripted.scripts[0], n) for n in ("gpus-per-node", "cpus-per-task", "mem")] == [
        "1", "4", "49152M",
    ]  # fmt: skip


def test_a_retry_has_more_than_the_last_job_and_keeps_it(
    scripted: Scripted, tmp_path: Path
) -> None:
    send(tmp_path)
    for folder in find_runs(tmp_path / "runs"):
        folder.fail(Failure(FailureKind.out_of_memory, line="oom", host="n1", step=1))
    send(tmp_path, more=Increase(memory=1.5, minutes=2))
    assert option(scripted.scripts[2], "mem") == "24576M"
    assert option(scripted.scripts[2], "time") == "180"
    for folder in find_runs(tmp_path / "runs"):
        folder.fail(Failure(FailureKind.out_of_memory, line="oom", host="n1", step=1))
    send(tmp_path)
    assert option(scripted.scripts[4], "mem") == "24576M"


def test_an_evaluation_that_is_retried_has_more_than_its_own_last_job(
    scripted: Scripted, tmp_path: Path
) -> None:
    send(tmp_path)
    for folder in find_runs(tmp_path / "runs"):
        folder.finish({"metrics": {}})
        (folder.path / "checkpoints" / "last.pt").touch()
    for _ in range(2):
        for submission in submissions(tmp_path):  # long ago: the queue would know its jobs
            submission.created -= 3600
            submission.save()
        send(tmp_path, more=Increase(memory=1.5, minutes=2))
    asked = [(option(s, "mem"), option(s, "time")) for s in scripted.scripts]
    assert asked == [("16384M", "90"), ("16384M", "60"), ("24576M", "120"), ("36864M", "240")]


def test_a_surrounding_job_leaves_no_trace_in_the_submitted_one(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SBATCH_TIMELIMIT", "1")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm/special.conf")
    monkeypatch.setenv("WORLD_SIZE", "8")
    send(tmp_path)
    environment = scripted.environment(101)
    assert "SLURM_JOB_ID" not in environment
    assert "SBATCH_TIMELIMIT" not in environment
    assert "WORLD_SIZE" not in environment
    assert "SLURM_CONF=/etc/slurm/special.conf" in environment


def test_a_users_wishes_for_sbatch_count_where_the_profile_is_silent(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wishes = {"PARTITION": "long", "ACCOUNT": "mine", "RESERVATION": "r", "MEM_PER_NODE": "1"}
    for name, value in wishes.items():
        monkeypatch.setenv(f"SBATCH_{name}", value)
    send(tmp_path, structs.replace(CLUSTER, account="vision", extra={"reservation": "ours"}))
    environment = scripted.environment(101)
    assert "SBATCH_PARTITION=long" in environment
    # sbatch would put the others above what the script says.
    for name in ("ACCOUNT", "RESERVATION", "MEM_PER_NODE"):
        assert f"SBATCH_{name}=" not in environment
    assert "SBATCH_ACCOUNT" in os.environ  # of the user's own process nothing is taken


@pytest.mark.parametrize(
    ("changes", "option_", "value"),
    [
        ({"memory_gb": 0}, "mem", ""),
        ({"wckey": "dino"}, "wckey", "dino"),
        ({}, "wckey", ""),
        ({"warning_seconds": 0}, "signal", "USR2@0"),
        ({"gpu_type": "a100"}, "gpus-per-node", "a100:1"),
        ({"gpus_by": "gres", "extra": {"gres": "nvme:1"}}, "gres", "gpu:1,nvme:1"),
        ({"gpus": 0, "extra": {"gres": "shard:2"}}, "gres", "shard:2"),
        ({"extra": {"mem_bind": "local"}}, "mem-bind", "local"),
        ({"extra": {"requeue": False}}, "requeue", ""),
        ({"exclusive": True}, "exclusive", "yes"),
    ],
)
def test_each_key_of_a_profile_is_an_option_of_the_script(
    changes: dict[str, Any], option_: str, value: str, tmp_path: Path
) -> None:
    runs = plan(["F7"], "smoke", 1, tmp_path).runs
    text = script(runs, structs.replace(CLUSTER, **changes), tmp_path)
    assert option(text, option_) == value
    names = [line.split("=")[0] for line in text.splitlines() if line.startswith("#SBATCH")]
    assert len(names) == len(set(names))


def test_more_memory_than_the_sites_own_cannot_be_asked_for(
    scripted: Scripted, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="--mem: cluster mine leaves memory to the site"):
        send(tmp_path, structs.replace(CLUSTER, memory_gb=0), more=Increase(memory=1.5))
    assert scripted.scripts == []


def test_a_task_of_an_srun_step_does_not_submit_but_a_shell_in_one_does(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    with pytest.raises(UserError, match="every task of it would submit"):
        send(tmp_path)
    assert scripted.scripts == []
    monkeypatch.setenv("SLURM_PTY_PORT", "40000")  # srun --pty bash
    send(tmp_path)
    assert len(scripted.scripts) == 2


def test_without_slurm_the_way_out_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="no sbatch on this machine"):
        send(tmp_path)


def test_an_sbatch_that_does_not_answer_is_not_called_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sbatch").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"/sbatch does not answer: submit from a login node"):
        send(tmp_path)


def test_the_script_can_be_read_where_there_is_no_slurm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = plan(["F7"], "smoke", 2, tmp_path).runs
    monkeypatch.setenv("PATH", str(tmp_path))
    assert option(script(runs[:1], CLUSTER, tmp_path), "array") == ""
    text = script(runs, structs.replace(CLUSTER, parallel=4), tmp_path)
    assert option(text, "array") == "0-7%4"
    assert option(text, "gpus-per-node") == "1"
    assert "submitit.core._submit" in text
    assert not (tmp_path / "submissions").exists()


def test_a_snapshot_is_what_a_job_imports_wherever_it_starts(tmp_path: Path) -> None:
    code = snapshot(tmp_path)
    assert snapshot(tmp_path) == code  # the same code is kept once
    check = (
        "import repro, repro.harness.runs.environment as e; print(repro.__file__, e.code_version())"
    )
    found = subprocess.run(
        [sys.executable, "-c", check],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3],
        env={"PYTHONPATH": str(code), "PYTHONSAFEPATH": "1"},
    ).stdout  # fmt: skip
    assert found.startswith(str(code / "repro"))
    told = json.loads((code / "code.json").read_text())
    assert str(told["git_sha"]) in found
    (code / "code.json").write_text(json.dumps(told | {"git_sha": "0" * 40}))
    damaged = subprocess.run(
        [sys.executable, "-c", check],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3],
        env={"PYTHONPATH": str(code), "PYTHONSAFEPATH": "1"},
    )  # fmt: skip
    assert "code.json: damaged: not what was written, by its check" in damaged.stderr


def test_a_snapshot_changes_with_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "elsewhere" / "repro"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("a = 1\n")
    monkeypatch.setattr("repro.__file__", str(package / "__init__.py"))
    first = snapshot(tmp_path)
    (package / "__init__.py").write_text("a = 2\n")
    second = snapshot(tmp_path)
    assert first != second
    assert (first / "repro" / "__init__.py").read_text() == "a = 1\n"


@pytest.mark.parametrize(
    ("cost", "profile", "command", "message"),
    [
        (Cost(0, 50.0, "test", 0), 0, 40.0, "--budget 40: these runs need about 50.0 GPU-hours"),
        (Cost(0, 50.0, "test", 0), 40, None, "budget_hours: of mine 40"),
        (None, 40, None, r"not known yet; .* go without a limit \(budget_hours: 0\)"),
        (None, 0, 40.0, r"go without a limit \(--budget 0\)"),
        (None, 40, 0.0, ""),
        (Cost(0, 50.0, "test", 0), 40, 60.0, ""),
        (Cost(0, 50.0, "test", 0), 0, None, ""),
    ],
)
def test_a_budget_refuses_what_costs_more(
    cost: Cost | None, profile: float, command: float | None, message: str
) -> None:
    cluster = structs.replace(CLUSTER, budget_hours=profile)
    if not message:
        check_budget(cost, cluster, command)
        return
    with pytest.raises(UserError, match=message):
        check_budget(cost, cluster, command)
