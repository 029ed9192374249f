"""Arrays and their limits: how tasks are split, how many run at a time, what SLURM refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from repro.errors import UserError
from repro.harness.plan.plan import plan
from repro.harness.runs.store import find_runs
from repro.harness.slurm.arrays import divided
from repro.harness.slurm.requirements import Requirements
from repro.harness.slurm.submissions import submissions
from tests.harness.scripted import Scripted, all_waiting, option, scripted
from tests.harness.slurm.submitting import CLUSTER, LIMIT, arrays, send

__all__ = ["scripted"]


@pytest.mark.parametrize(
    ("told", "profile", "sizes"),
    [("MaxArraySize = 3", 0, [3, 3, 2]), ("MaxArraySize = 1001", 5, [5, 3]), ("", 0, [8])],
)
def test_arrays_are_split_at_the_clusters_limit_or_the_profiles(
    scripted: Scripted, tmp_path: Path, told: str, profile: int, sizes: list[int]
) -> None:
    scripted.answer("scontrol", told, code=0 if told else 1)
    send(tmp_path, structs.replace(CLUSTER, max_array=profile, parallel=4))
    training = [array for array in arrays(tmp_path) if array["stage"] == "train"]
    assert [len(array["tasks"]) for array in training] == sizes
    throttles = [option(s, "array").partition("%")[2] for s in scripted.scripts]
    assert sum(map(int, throttles)) // 2 <= 4  # training and evaluation take turns


def test_a_limit_on_submitted_jobs_leaves_the_rest_for_later(
    scripted: Scripted, tmp_path: Path
) -> None:
    scripted.refuse_arrays_of(3, LIMIT)
    said = send(tmp_path)
    assert "AssocMaxSubmitJobLimit" in said[-2]
    assert "repeat the command" in said[-2]
    sent = sum(len(a["tasks"]) for a in arrays(tmp_path) if a["stage"] == "train")
    assert 0 < sent < 8
    # The rest has no claim, and goes as soon as there is room.
    scripted.refuse_arrays_of(1000, "")
    scripted.answer("squeue", all_waiting(tmp_path))
    send(tmp_path)
    second = [a for a in arrays(tmp_path) if a["stage"] == "train"]
    assert sum(len(a["tasks"]) for a in second) == 8 - sent


def test_the_profiles_limit_on_jobs_in_the_queue_is_kept(
    scripted: Scripted, tmp_path: Path
) -> None:
    scripted.answer("squeue", "1\n2\n")  # mine, already there
    said = send(tmp_path, structs.replace(CLUSTER, max_jobs=8))
    sent = [len(array["tasks"]) for array in arrays(tmp_path)]
    assert sent == [3, 3]
    assert "5 runs not sent (max_jobs: 8" in said[-2]


def test_a_refusal_that_waiting_does_not_mend_is_one_line_and_claims_nothing(
    scripted: Scripted, tmp_path: Path
) -> None:
    scripted.refuse_arrays_of(0, "sbatch: error: invalid partition specified: fsat\n")
    with pytest.raises(
        UserError, match=r"cluster mine: sbatch refused: .*partition specified: fsat"
    ):
        send(tmp_path)
    assert arrays(tmp_path) == []
    assert len(plan(["F7"], "smoke", 2, tmp_path).todo) == 8


@pytest.mark.parametrize(
    ("state", "code", "part"),
    [
        ("PENDING", 0, "SLURM had taken it as 7, cancelled now: repeat the command"),
        ("", 0, "SLURM shows no such job: repeat the command"),
        ("", 1, "SLURM may have taken it: scancel --name=repro-"),
    ],
)
def test_an_array_that_was_taken_though_sbatch_timed_out_is_not_sent_twice(
    scripted: Scripted, tmp_path: Path, state: str, code: int, part: str
) -> None:
    line = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n"
    scripted.refuse_arrays_of(0, line)
    answer = f"7|0|{state}|None||0:00|repro-x-0\n" if state else ""
    scripted.answer("squeue", answer, code=code)
    with pytest.raises(UserError, match="Socket timed out") as raised:
        send(tmp_path)
    assert part in str(raised.value)
    assert scripted.calls("scancel") == (["7"] if state else [])
    assert arrays(tmp_path) == []


def test_the_throttle_of_all_arrays_together_is_the_profiles(
    scripted: Scripted, tmp_path: Path
) -> None:
    send(tmp_path, structs.replace(CLUSTER, max_array=4, parallel=6))
    assert [option(s, "array") for s in scripted.scripts] == ["0-3%3"] * 4


def test_as_many_at_a_time_also_where_there_are_more_arrays_than_that(
    scripted: Scripted, tmp_path: Path
) -> None:
    """Four rows of six seeds in arrays of at most five, three at a time: three lanes of two."""
    send(tmp_path, structs.replace(CLUSTER, max_array=5, parallel=3), seeds=6)
    training = [s for s in scripted.scripts if "aftercorr" not in option(s, "dependency")]
    assert [option(s, "array") for s in training] == ["0-3%1"] * 6
    behind = [option(s, "dependency") for s in training]
    jobs = [a["job"] for a in arrays(tmp_path) if a["stage"] == "train"]
    assert behind == ["", "", "", *(f"afterany:{job}" for job in jobs[:3])]
    evaluating = [option(s, "dependency") for s in scripted.scripts if "aftercorr" in s]
    first = [f"aftercorr:{job}" for job in jobs[:3]]
    assert evaluating[:3] == first
    numbers = [a["job"] for a in arrays(tmp_path) if a["stage"] == "evaluate"]
    later = zip(jobs[3:], numbers, strict=False)
    assert evaluating[3:] == [f"aftercorr:{job},afterany:{before}" for job, before in later]


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=8),
    size=st.integers(1, 12),
    at_a_time=st.integers(1, 20),
)
def test_arrays_hold_every_task_once_and_run_no_more_than_so_many(
    sizes: list[int], size: int, at_a_time: int
) -> None:
    needs = Requirements(ranks=1, gpus=1, cpus=1, memory_gb=1, minutes=1)
    groups = [
        ("train", replace(needs, minutes=g), [[f"{g}.{i}"] for i in range(number)])
        for g, number in enumerate(sizes)
    ]
    parts = divided(groups, size, at_a_time)
    assert [task for part in parts for task in part.tasks] == [t for _, _, g in groups for t in g]
    assert max(len(part.tasks) for part in parts) <= size
    by_lane: dict[object, int] = {}
    for index, part in enumerate(parts):
        lane = index if part.lane is None else f"lane {part.lane}"
        assert 1 <= part.at_a_time <= len(part.tasks)
        by_lane[lane] = max(by_lane.get(lane, 0), part.at_a_time)
    assert sum(by_lane.values()) == min(at_a_time, sum(sizes))


def test_refused_evaluations_are_told_and_offered_when_their_runs_are_trained(
    scripted: Scripted, tmp_path: Path
) -> None:
    scripted.refuse_arrays_of(0, LIMIT, only="aftercorr")
    said = send(tmp_path)
    assert "evaluations of 8 runs not sent (AssocMaxSubmitJobLimit; " in said[-2]
    assert [a["stage"] for a in arrays(tmp_path)] == ["train"]
    for folder in find_runs(tmp_path / "runs"):
        folder.finish({"metrics": {}})
        (folder.path / "checkpoints" / "last.pt").touch()
    scripted.refuse_arrays_of(1000, "")
    said = send(tmp_path)
    assert "evaluation of 8 runs" in said[0]


def test_a_refusal_after_something_was_sent_says_what_goes_on(
    scripted: Scripted, tmp_path: Path
) -> None:
    scripted.refuse_arrays_of(0, "sbatch: error: Invalid qos specification\n", only="aftercorr")
    with pytest.raises(
        UserError, match=r"Invalid qos .*; sent before that, and going on: jobs 101$"
    ):
        send(tmp_path)
    assert [a["job"] for a in arrays(tmp_path)] == ["101"]


def test_an_array_that_is_refused_is_not_tried_again_in_smaller_ones_for_each_of_its_kind(
    scripted: Scripted, tmp_path: Path
) -> None:
    scripted.refuse_arrays_of(0, LIMIT)
    said = send(tmp_path, structs.replace(CLUSTER, max_array=2), seeds=3)
    assert "12 runs not sent" in said[-2]
    assert len(scripted.calls("sbatch")) == 1 + 2  # its version, an array of two, and of one


def test_sbatch_must_not_choose_among_clusters(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CLUSTERS", "lab,annex")
    with pytest.raises(UserError, match=r"choose among the clusters lab,annex: name one"):
        send(tmp_path)
    monkeypatch.setenv("SLURM_CLUSTERS", "annex")
    send(tmp_path)
    assert submissions(tmp_path)[-1].slurm_cluster == "annex"


def test_the_throttle_counts_jobs_however_many_runs_share_one(
    scripted: Scripted, tmp_path: Path
) -> None:
    send(tmp_path, structs.replace(CLUSTER, packed=2, parallel=2))
    assert [option(s, "array") for s in scripted.scripts] == ["0-3%2"] * 2
