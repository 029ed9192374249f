"""A grid on a real SLURM: submitted, walked away from, come back to."""

from __future__ import annotations

import json
import time

from repro.harness.plan.plan import plan
from repro.harness.runs.store import create_run
from tests.slurm.conftest import Lab

GRID = ("F7", "--scale", "smoke", "--seeds", "2")


def test_a_grid_is_an_array_with_evaluations_behind_it_and_ends_in_the_table(lab: Lab) -> None:
    profile = lab.profile()
    begun = time.monotonic()
    said = lab.repro("submit", *GRID, "--cluster", profile, "--yes")
    assert time.monotonic() - begun < 20
    assert "training of 8 runs: job" in said
    assert "evaluation of 8 runs: job" in said
    queue = lab.cluster.run("squeue", "--noheader", "--array", "--format=%F").split()
    assert len(queue) == 16
    assert len(set(queue)) == 2  # two arrays

    planned = json.loads(lab.repro("plan", *GRID, "--cluster", profile, "--json"))
    assert planned["todo"] == 0
    assert {run["state"] for run in planned["runs"]} <= {"queued", "running", "done"}
    # Again, while they wait: everything has a job, so nothing is sent.
    lab.repro("submit", *GRID, "--cluster", profile, "--yes")
    assert len(list((lab.results / "submissions").glob("*/submission.json"))) == 1

    lab.repro("status", "F7", "--watch", "--every", "2")
    found = lab.status("F7")
    assert [(run["state"], run["evaluation"]) for run in found] == [("done", "done")] * 8
    for folder in lab.runs:
        assert folder.read_run().attempts == 1
        metrics = folder.evaluations()["knn"].metrics
        assert set(metrics) == {"knn_10", "knn_20", "knn_100", "knn_200"}
    assert "Figure 7" in lab.repro("table", "F7", "--scale", "smoke")

    planned = json.loads(lab.repro("plan", *GRID, "--cluster", profile, "--json"))
    assert (planned["todo"], planned["to_evaluate"]) == (0, 0)
    assert "8 runs, 0 to do" in lab.repro("submit", *GRID, "--cluster", profile, "--yes")
    lab.wait(lambda: not lab.cluster.run("squeue", "--noheader").strip(), "an empty queue", 60)


def test_two_people_who_submit_one_grid_at_one_moment_start_each_run_once(lab: Lab) -> None:
    profile = lab.profile()
    words = ("submit", "F7:both,neither", "--scale", "smoke", "--cluster", profile, "--yes")
    people = [lab.start(*words) for _ in range(3)]
    for person in people:
        output, _ = person.communicate(timeout=120)
        assert person.returncode == 0, output
    assert len(lab.cluster.run("squeue", "--noheader", "--array").splitlines()) == 4
    lab.repro("status", "--watch", "--every", "2")
    assert [run["state"] for run in lab.status()] == ["done", "done"]
    assert [folder.read_run().attempts for folder in lab.runs] == [1, 1]


def test_a_submitter_that_is_killed_loses_no_job_and_sends_none_twice(lab: Lab) -> None:
    words = ("F7", "--scale", "smoke", "--seeds", "3", "--cluster", lab.profile(max_array=2))
    submitter = lab.start("submit", *words, "--yes")
    queue = ("squeue", "--noheader", "--array")
    while submitter.poll() is None and len(lab.cluster.run(*queue).splitlines()) < 3:
        time.sleep(0.01)
    submitter.kill()
    submitter.communicate()
    sent = sum(run["job"] is not None or run["detail"] != "" for run in lab.status())
    assert 0 < sent < 12
    assert "was cut off" in lab.repro("status")
    planned = json.loads(lab.repro("plan", *words, "--json"))
    assert planned["todo"] <= 12 - 2  # an array of two was there at least
    lab.repro("submit", *words, "--yes")
    lab.repro("status", "--watch", "--every", "2")
    # A job whose pickle the submitter had not put in its place gives up after a minute.
    if any(run["state"] != "done" for run in lab.status()):
        lab.repro("retry", "--yes")
        lab.repro("status", "--watch", "--every", "2")
    # Trainings whose evaluations had not been sent: the same command offers them again.
    if any(run["evaluation"] != "done" for run in lab.status()):
        lab.repro("submit", *words, "--yes")
        lab.repro("status", "--watch", "--every", "2")
    assert [(run["state"], run["evaluation"]) for run in lab.status()] == [("done", "done")] * 12
    assert [folder.read_run().attempts for folder in lab.runs] == [1] * 12


def test_small_runs_are_packed_and_one_failed_row_holds_back_only_itself(lab: Lab) -> None:
    broken = break_a_run(lab)
    lab.repro(
        "submit", "F7", "--scale", "smoke", "--cluster", lab.profile(packed=2, cpus=2), "--yes"
    )
    lab.repro("status", "--watch", "--every", "2")
    found = {run["id"]: run for run in lab.status()}
    assert found[broken]["state"] == "failed"
    assert found[broken]["kind"] == "data"
    assert "checkpoints" in found[broken]["cause"]
    others = [run for name, run in found.items() if name != broken]
    assert [(run["state"], run["evaluation"]) for run in others] == [("done", "done")] * 3
    arrays = json.loads(next(lab.results.glob("submissions/*/submission.json")).read_text())
    assert [len(task) for task in arrays["arrays"][0]["tasks"]] == [2, 2]


def test_a_failed_training_takes_its_own_evaluation_out_of_the_queue_only(lab: Lab) -> None:
    broken = break_a_run(lab)
    lab.repro("submit", "F7", "--scale", "smoke", "--cluster", lab.profile(), "--yes")
    lab.repro("status", "--watch", "--every", "2")
    states = {run["id"]: (run["state"], run["evaluation"]) for run in lab.status()}
    assert states.pop(broken) == ("failed", "")
    assert set(states.values()) == {("done", "done")}


def break_a_run(lab: Lab) -> str:
    """The first of F7's runs, where a file lies in the way of the checkpoints."""
    run = plan(["F7"], "smoke", 1, lab.results).runs[0]
    folder = create_run(lab.results / "runs", run.slug, run.config)
    (folder.path / "checkpoints").rmdir()
    (folder.path / "checkpoints").write_text("")
    return folder.id


def test_arrays_are_split_at_the_clusters_limit_and_at_most_so_many_run(lab: Lab) -> None:
    profile = lab.profile(max_array=3, parallel=2)
    words = ("F7", "--scale", "smoke", "--seeds", "2", "--cluster", profile)
    said = lab.repro("submit", *words, "--yes")
    assert said.count("training of") == 4  # two lanes of 2 + 2
    (file,) = lab.results.glob("submissions/*/submission.json")
    trains = {a["name"] for a in json.loads(file.read_text())["arrays"] if a["stage"] == "train"}
    training = evaluating = 0
    while not all(folder.result() for folder in lab.runs):
        states = lab.cluster.run("squeue", "--noheader", "--array", "--format=%T %j").splitlines()
        running = [line.split()[1] in trains for line in states if line.startswith("RUNNING")]
        training, evaluating = max(training, sum(running)), max(evaluating, running.count(False))
        time.sleep(0.5)
    assert 1 <= training <= 2
    assert evaluating <= 2


def test_a_queued_job_runs_the_code_that_was_submitted(lab: Lab) -> None:
    profile = lab.profile()
    lab.cluster.run("scontrol", "update", "partition=debug", "state=DOWN")
    try:
        lab.repro("submit", "F7:both", "--scale", "smoke", "--cluster", profile, "--yes")
        (code,) = (lab.results / "code").iterdir()
        worker = code / "repro" / "harness" / "worker" / "run.py"
        # A mark in the copy, which only the copy can print.
        text = worker.read_text()
        assert text.count('print(f"step {trainer.step} of') == 1
        worker.write_text(text.replace('print(f"step {trainer', 'print(f"SNAPSHOT {trainer'))
    finally:
        lab.cluster.run("scontrol", "update", "partition=debug", "state=UP")
    lab.repro("status", "--watch", "--every", "2")
    (folder,) = lab.runs
    assert "SNAPSHOT 0 of" in (folder.path / "log.txt").read_text()
    env = json.loads((folder.path / "env.json").read_text())
    assert env["git_sha"] == json.loads((code / "code.json").read_text())["git_sha"]
