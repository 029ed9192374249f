"""Runs that a GPU's time bought, on their way home: trained in order, stopped, packed, checked."""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from repro.errors import UserError
from repro.harness.local.display import ActiveRun
from repro.harness.plan.plan import plan
from repro.harness.runs import checkpoint
from repro.harness.runs.states import State
from repro.harness.runs.store import RunFolder, create_run, find_runs
from tests.conftest import MakeConfig
from tests.gpu.evidence import archive, training
from tests.gpu.evidence.__main__ import collect
from tests.gpu.evidence.archive import ARCHIVE, LAST, pack, parts_in, unpack
from tests.gpu.evidence.training import ALL, GRIDS, at_a_time, runs_of, that_end_within
from tests.harness.processes import train, wait_for

MIB = 2**20


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where runs are brought home to."""
    monkeypatch.setenv("REPRO_RESULTS", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def done(trained: RunFolder, tmp_path: Path, smoke: MakeConfig) -> RunFolder:
    """A finished run under its right name."""
    made = create_run(tmp_path / "there" / "runs", "F7-both-smoke-s0", smoke())
    shutil.copytree(trained.path, made.path, dirs_exist_ok=True)
    return made


@pytest.fixture
def begun(tmp_path: Path, smoke: MakeConfig, done: RunFolder) -> RunFolder:
    """One that was stopped at its checkpoint."""
    made = create_run(tmp_path / "there" / "runs", "F7-both-smoke-s1", smoke({"seed": 1}))
    content = checkpoint.load(done.path / "checkpoints")
    assert content is not None
    content[checkpoint.OWNER]["run"] = made.id
    checkpoint.save(made.path / "checkpoints", content)
    made.append_metrics(done.metrics())
    made.update_run(state=State.interrupted, attempts=1)
    return made


def test_a_run_comes_home_with_all_but_its_checkpoint_and_is_done_there(
    done: RunFolder, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pack([done], [], tmp_path / "out", 40 * MIB) == [done.path.name]
    unpack(tmp_path / "out")
    (home,) = find_runs(results / "runs")
    assert home.state(time.time()) is State.done
    assert home.result() == done.result()
    assert home.metrics() == done.metrics()
    assert home.evaluations() == done.evaluations()
    assert list((home.path / "checkpoints").iterdir()) == []
    assert f"{done.path.name}: done, code " in capsys.readouterr().out
    unpack(tmp_path / "out")
    assert "one is there already" in capsys.readouterr().out


def test_an_unfinished_run_comes_with_its_checkpoint_while_there_is_room_and_goes_on(
    done: RunFolder, begun: RunFolder, results: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert pack([done], [begun], out, (begun.path / LAST).stat().st_size) == [done.path.name]
    assert pack([done], [begun], out, 40 * MIB) == [done.path.name, begun.path.name]
    unpack(out)
    home = next(f for f in find_runs(results / "runs") if f.id == begun.id)
    assert home.state(time.time()) is State.interrupted
    code, output = train(home)
    assert code == 0, output
    assert f"step {done.step} of" in output  # it went on, it did not begin anew


def test_a_run_of_changes_that_are_a_commit_exactly_names_that_commit(
    done: RunFolder, tmp_path: Path
) -> None:
    repository = tmp_path / "clone"
    file = repository / "repro" / "module.py"
    file.parent.mkdir(parents=True)

    def git(*arguments: str) -> str:
        who = ["-c", "user.name=me", "-c", "user.email=me@here"]
        command = ["git", "-C", str(repository), *who, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def commit(content: str) -> str:
        file.write_text(content)
        git("add", ".")
        git("commit", "-qm", "content")
        return git("rev-parse", "HEAD")

    git("init", "-q")
    first, second, third = (commit(f"x = {number}\n") for number in range(3))
    noted, made = done.environment(), done.evaluations()["knn"]
    assert made.env
    for diff, named in (
        (git("diff", first, second), second),
        (git("diff", first, second).replace("index ", "index 0"), second),
        (git("diff", first, third), third),
        (git("diff", first, second).replace("x = 1", "x = 7"), first),
    ):
        dirty = {"git_sha": first, "dirty": True}
        done.write_environment(noted | dirty | {"diff": diff})
        answer = done.path / "evaluations" / "knn.json"
        replace(made, env=made.env | dirty).write(answer, done.id)
        archive.name_the_commit(done, repository)
        for told in (done.environment(), done.evaluations()["knn"].env or {}):
            assert (told["git_sha"], told["dirty"]) == (named, named == first)
    done.write_environment(noted | {"git_sha": "0" * 40, "dirty": True, "diff": "diff"})
    archive.name_the_commit(done, repository)  # a commit that is not here
    assert done.environment()["dirty"]


def test_an_archive_is_cut_into_parts_and_a_smaller_one_leaves_no_part_of_an_earlier_one(
    done: RunFolder, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr(archive, "PART", 2000)
    pack([done], [], out, 40 * MIB)
    parts = parts_in(out)
    assert len(parts) > 2
    assert {part.stat().st_size for part in parts[:-1]} == {2000}
    unpack(out)
    assert [folder.id for folder in find_runs(results / "runs")] == [done.id]
    pack([], [], out, 40 * MIB)
    assert [part.name for part in parts_in(out)] == [f"{ARCHIVE}.00"]


def test_what_is_damaged_or_not_what_it_says_does_not_come_home(
    done: RunFolder, begun: RunFolder, results: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"no evidence\.tar\.gz\.00 here"):
        unpack(out)
    pack([done], [], out, 40 * MIB)
    (part,) = parts_in(out)
    part.write_bytes(part.read_bytes()[:-2000])
    with pytest.raises(UserError, match="damaged"):
        unpack(out)
    whole = (done.path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (done.path / "metrics.jsonl").write_text("".join(whole[:4]))
    pack([done], [], out, 40 * MIB)
    with pytest.raises(UserError, match=r"metrics\.jsonl: 4 lines are left of"):
        unpack(out)
    shutil.copy(begun.path / "config.yaml", done.path)
    pack([done], [], out, 40 * MIB)
    with pytest.raises(UserError, match="edited: it describes the run"):
        unpack(out)
    assert find_runs(results / "runs") == []


def test_fewer_runs_share_the_card_where_so_many_would_not_end_in_time() -> None:
    assert that_end_within(100.0, [90.0, 300.0, 300.0]) == 0  # one ends: let it
    assert that_end_within(108.0, [150.0, 150.0, 150.0]) == 2
    assert that_end_within(108.0, [290.0, 290.0, 290.0]) == 1
    assert that_end_within(108.0, [301.0, 310.0, 320.0]) == 0  # not even one alone
    assert that_end_within(100.0, []) == 0


def test_runs_that_stand_still_or_failed_together_are_tried_one_at_a_time(
    begun: RunFolder,
) -> None:
    standing, moving = ActiveRun(begun), ActiveRun(begun)
    moving.step = {"step": 3}
    assert at_a_time([standing], training.STALLED - 1, 100.0, False) == ""
    assert at_a_time([standing], training.STALLED + 1, 100.0, False) == "1"
    assert at_a_time([standing, moving], training.STALLED + 1, 100.0, False) == ""
    assert at_a_time([standing, moving], 1.0, 100.0, True) == "1"
    for run in (standing, moving):  # ten minutes each
        run.step, run.total, run.rate = {"step": 40}, 640, 1.0
    assert at_a_time([standing, moving], training.TELLS + 1, 400.0, False) == "1"
    assert at_a_time([standing, moving], training.TELLS - 1, 400.0, False) == ""
    assert at_a_time([standing, moving], training.TELLS + 1, 600.0, False) == ""


def test_what_decides_most_is_planned_first_and_every_row_once(tmp_path: Path) -> None:
    planned = plan(list(ALL), "gpu", 1, tmp_path).runs
    assert [run.row for run in planned[:6]] == [
        "both", "centering", "sharpening", "student_copy", "prev_iter", "prev_epoch"
    ]  # fmt: skip
    assert [run.id for run in plan(list(GRIDS[0][0]), "gpu", 1, tmp_path).runs] == [
        run.id for run in planned[:6]
    ]
    served = {row for run in planned for row in run.serves}
    assert {("T7", f"r{number}") for number in range(1, 10)} <= served
    assert len({run.id for run in planned}) == len(planned) == 13


@pytest.mark.slow
@pytest.mark.usefixtures("results")
def test_runs_that_time_does_not_suffice_for_are_stopped_with_a_checkpoint_and_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training, "GRIDS", ((("F7:both",), 1),))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    out = tmp_path / "out"
    asked = argparse.Namespace(
        scale="laptop", device="cpu", workers="1", seconds=600.0, out=out, room=40
    )

    def stop_at_a_step() -> None:
        wait_for(lambda: any(folder.step for folder in runs_of("laptop")[1]), "a step")
        signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    stopper = threading.Thread(target=stop_at_a_step)
    stopper.start()
    try:
        assert collect(asked) == 1  # none is done
    finally:
        signal.signal(signal.SIGTERM, before)
        stopper.join()
    (folder,) = runs_of("laptop")[1]
    assert folder.state(time.time()) is State.interrupted
    last = capfd.readouterr().out.splitlines()[-1]
    assert last.startswith("0 runs done, 1 begun; the archive has 0 done, 1 to be continued, ")
    unpack(out)
