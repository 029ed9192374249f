"""Run folders: atomic, never overwritten, in the right state whatever happened to the worker."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repro.config.compose import to_plain
from repro.config.identity import run_id
from repro.config.schema import RunConfig
from repro.errors import UserError
from repro.files import append_lines, whole_lines, write_json
from repro.harness.runs.failures import Failure, FailureKind
from repro.harness.runs.store import RunFolder, create_run, find_run, find_runs
from repro.harness.slurm.snapshot import snapshot
from repro.harness.slurm.submissions import new_submission
from repro.locks import Busy
from tests.conftest import MakeConfig

NOW = 1_000_000.0
RESULT: dict[str, Any] = {
    "metrics": {"knn": 71.5},
    "sentinel": {"state": "healthy"},
    "counts": {"steps": 2},
    "wall_seconds": 3.0,
}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return create_run(tmp_path / "runs", "F7-both-smoke-s0", RunConfig())


@contextmanager
def worker_holding(folder: RunFolder, **run: Any) -> Iterator[subprocess.Popen[str]]:
    """A real process that has marked itself running and holds the lock."""
    code = (
        "import sys, time; from pathlib import Path\n"
        "from repro.harness.runs.store import RunFolder\n"
        "folder = RunFolder(Path(sys.argv[1]))\n"
        "with folder.lock():\n"
        f"    folder.update_run(state='running', **{run!r}); folder.beat()\n"
        "    print('ready', flush=True); time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder.path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_config_that_was_edited_is_no_longer_the_folders_run(
    tmp_path: Path, smoke: MakeConfig
) -> None:
    folder, other = (create_run(tmp_path / "runs", "one", smoke({"seed": seed})) for seed in (0, 1))
    file = folder.path / "config.yaml"
    whole = file.read_text()
    file.write_text(whole.replace("threads: 0", "threads: 1"))  # no part of what a run is
    assert run_id(folder.config()) == folder.id
    for edited in (whole.replace("seed: 0", "seed: 1"), whole[: whole.index("optim:")], "{}"):
        assert edited != whole
        file.write_text(edited)
        with pytest.raises(UserError, match=rf"^{file}: edited: it describes the run \w+, its"):
            folder.config()
    assert other.config().seed == 1


def test_a_config_that_lost_or_changed_its_scale_is_not_taken_for_a_run_of_another_scale(
    tmp_path: Path, smoke: MakeConfig
) -> None:
    folder = create_run(tmp_path / "runs", "one", smoke())
    file = folder.path / "config.yaml"
    whole = file.read_text()
    for edited in (whole[: whole.index("label:")], whole.replace("scale: smoke", "scale: gpu")):
        file.write_text(edited)
        with pytest.raises(UserError, match=rf"^{file}: edited: label.scale is '\w+', .*'smoke'"):
            folder.config()
    file.write_text(whole)
    folder.config()


@pytest.mark.parametrize("waits", ["queued", "interrupted"])
def test_a_run_that_is_cancelled_while_it_waits_is_cancelled_until_it_is_asked_for_again(
    folder: RunFolder, waits: str
) -> None:
    folder.update_run(state=waits)
    folder.request_cancel()
    assert folder.state(NOW) == "cancelled"
    folder.clear_cancel()
    assert folder.state(NOW) == waits


def test_a_new_run_is_queued_and_holds_its_resolved_config(folder: RunFolder) -> None:
    assert folder.state(NOW) == "queued"
    assert to_plain(folder.config()) == to_plain(RunConfig())
    assert (folder.slug, folder.id) == ("F7-both-smoke-s0", run_id(RunConfig()))
    assert folder.metrics() == []
    assert folder.last_step() is None
    assert folder.heartbeat_age(NOW) is None


def test_what_another_version_wrote_into_run_json_stays(folder: RunFolder) -> None:
    file = folder.path / "run.json"
    write_json(file, json.loads(file.read_text()) | {"mood": "good"})
    folder.update_run(state="running", attempts=1)
    run = json.loads(file.read_text())
    assert (run["mood"], run["state"], run["attempts"]) == ("good", "running", 1)
    assert folder.read_run().attempts == 1
    with pytest.raises(AssertionError, match=r"no field .*atempts"):
        folder.update_run(atempts=2)


@pytest.mark.parametrize("content", ["{", '{"state": "asleep"}', '{"attempts": "many"}'])
def test_a_damaged_run_json_is_named_in_one_line(folder: RunFolder, content: str) -> None:
    (folder.path / "run.json").write_text(content)
    with pytest.raises(UserError, match=r"run\.json: ") as caught:
        folder.read_run()
    assert "\n" not in str(caught.value)


def test_an_existing_run_is_returned_untouched_whatever_its_slug(folder: RunFolder) -> None:
    before = {p: p.stat().st_mtime_ns for p in folder.path.rglob("*")}
    again = create_run(folder.path.parent, "T7-r1-smoke-s0", RunConfig())
    assert again == folder
    assert {p: p.stat().st_mtime_ns for p in folder.path.rglob("*")} == before


@pytest.mark.parametrize(
    ("umask", "group", "wanted"),
    [(0o002, 0o2775, 0o2775), (0o077, 0o755, 0o700), (0o027, 0o2750, 0o2750)],
)
def test_run_folders_are_open_to_those_to_whom_umask_and_group_open_them(
    tmp_path: Path, umask: int, group: int, wanted: int
) -> None:
    tmp_path.chmod(group)
    before = os.umask(umask)
    try:
        made = create_run(tmp_path / "runs", "one", RunConfig())
        code = snapshot(tmp_path)
        sent = new_submission(tmp_path, "mine", code)
    finally:
        os.umask(before)
    folders = [made.path, made.path / "checkpoints", code, code / "repro", sent.folder]
    assert {oct(folder.stat().st_mode & 0o7777) for folder in folders} == {oct(wanted)}
    assert (made.path / "run.json").stat().st_mode & 0o777 == 0o666 & ~umask


def test_many_submissions_at_one_moment_make_one_folder(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda i: create_run(tmp_path, f"T{i}", RunConfig()), range(16)))
    assert len(set(made)) == 1
    assert find_runs(tmp_path) == made[:1]


def test_an_unwritable_results_folder_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where the folder should be")
    with pytest.raises(UserError, match="runs: cannot create a run folder"):
        create_run(tmp_path / "runs", "F7", RunConfig())


def test_other_things_in_the_runs_folder_are_no_runs(folder: RunFolder) -> None:
    runs = folder.path.parent
    (runs / ".new-0123456789").mkdir()
    (runs / "notes").mkdir()
    assert find_runs(runs) == [folder]
    assert find_run(runs, folder.id) == folder
    assert find_run(runs, "0123456789") is None


def test_a_finished_run_is_never_overwritten(folder: RunFolder) -> None:
    folder.finish(RESULT)
    with pytest.raises(AssertionError, match="already done"):
        folder.finish(RESULT | {"metrics": {"knn": 0.0}})
    assert folder.result() == RESULT


def test_a_result_makes_a_run_done_whatever_else_says(folder: RunFolder) -> None:
    folder.fail(Failure(FailureKind.nan, line="loss is not finite", step=3))
    assert folder.state(NOW) == "failed"
    folder.request_cancel()
    folder.finish(RESULT)
    folder.update_run(state="running")
    assert folder.state(NOW) == "done"
    assert folder.failure() is None


@pytest.mark.parametrize("state", ["interrupted", "cancelled", "failed"])
def test_a_clean_end_counts_at_once_even_with_a_fresh_heartbeat(
    folder: RunFolder, state: str
) -> None:
    folder.beat()
    folder.update_run(state=state, host="elsewhere")
    assert folder.state(time.time()) == state


def test_a_queued_run_that_is_cancelled_can_be_queued_again(folder: RunFolder) -> None:
    folder.request_cancel()
    assert folder.cancel_requested()
    assert folder.state(NOW) == "cancelled"
    folder.clear_cancel()
    assert folder.state(NOW) == "queued"


def test_a_killed_worker_of_this_machine_is_lost_at_once(folder: RunFolder) -> None:
    with worker_holding(folder, host=os.uname().nodename) as worker:
        assert folder.is_locked()
        assert folder.state(time.time()) == "running"
        worker.kill()
        worker.wait()
        assert not folder.is_locked()
        assert folder.state(time.time()) == "lost"


def test_a_worker_of_another_machine_is_lost_after_its_grace(folder: RunFolder) -> None:
    folder.update_run(state="running", host="elsewhere")
    folder.beat()
    os.utime(folder.path / "heartbeat", (NOW, NOW))
    assert folder.heartbeat_age(NOW + 59) == 59
    assert folder.state(NOW + 59, grace=60) == "running"
    assert folder.state(NOW + 61, grace=60) == "lost"


def test_a_run_that_has_just_started_elsewhere_runs_before_its_first_heartbeat(
    folder: RunFolder,
) -> None:
    folder.update_run(state="running", host="elsewhere", started=NOW)
    assert folder.state(NOW + 59) == "running"
    assert folder.state(NOW + 61) == "lost"
    folder.beat()
    os.utime(folder.path / "heartbeat", (NOW - 500, NOW - 500))  # of its last start
    assert folder.state(NOW + 59) == "running"


def test_a_run_is_held_by_one_process(folder: RunFolder) -> None:
    with worker_holding(folder), pytest.raises(Busy, match="another process"), folder.lock():
        pytest.fail("two processes hold one run")
    with folder.lock():
        assert folder.is_locked()
    assert not folder.is_locked()


def test_asking_whether_a_run_is_locked_never_makes_a_worker_give_up(folder: RunFolder) -> None:
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            folder.is_locked()

    with folder.lock():
        pass
    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    try:
        for _ in range(50):
            with folder.lock():
                pass
    finally:
        over.set()
        for asker in askers:
            asker.join()


step_lists = st.lists(st.integers(0, 50), max_size=30).map(sorted)


@settings(max_examples=50)
@given(steps=step_lists, keep=st.integers(-1, 51), torn=st.integers(0, 20))
def test_truncation_keeps_every_earlier_line_and_nothing_later_or_torn(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], keep: int, torn: int
) -> None:
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    folder.append_metrics([{"kind": "step", "step": s, "loss": s / 3} for s in steps])
    with (folder.path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "step": 0}'[:torn])
    assert [e["step"] for e in folder.metrics()] == steps
    folder.truncate_metrics(keep)
    assert [e["step"] for e in folder.metrics()] == [s for s in steps if s <= keep]
    folder.append_metrics([{"kind": "step", "step": 99, "loss": 0.1}])
    assert folder.metrics()[-1] == folder.last_step() == {"kind": "step", "step": 99, "loss": 0.1}


def test_a_broken_line_in_the_middle_is_named_not_skipped(folder: RunFolder) -> None:
    (folder.path / "metrics.jsonl").write_text('{"step": 1}\n{"step"\n{"step": 3}\n')
    with pytest.raises(UserError, match=r"metrics.jsonl: line 2 is not valid JSON"):
        folder.metrics()


def test_the_last_step_is_found_behind_evaluations_and_a_torn_line(folder: RunFolder) -> None:
    folder.append_metrics([{"kind": "step", "step": i, "pad": "x" * 500} for i in range(300)])
    folder.append_metrics([{"kind": "eval", "step": 299, "knn": 70.0}])
    with (folder.path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "step": 3')
    last = folder.last_step()
    assert last is not None
    assert last["step"] == 299


floats = st.floats(allow_nan=True, allow_infinity=True)


@given(value=st.dictionaries(st.text(), st.lists(floats) | floats | st.text()))
def test_json_keeps_finite_numbers_exactly_and_writes_others_as_null(
    tmp_path_factory: pytest.TempPathFactory, value: dict[str, Any]
) -> None:
    def expected(item: Any) -> Any:
        if isinstance(item, list):
            return [expected(i) for i in item]
        return None if isinstance(item, float) and not math.isfinite(item) else item

    folder = tmp_path_factory.mktemp("json")
    write_json(folder / "value.json", value)
    append_lines(folder / "value.jsonl", [value])
    wanted = {key: expected(item) for key, item in value.items()}
    assert json.loads((folder / "value.json").read_text()) == wanted
    assert whole_lines(folder / "value.jsonl")[0] == [wanted]


def test_a_full_disk_leaves_the_old_file_whole(tmp_path: Path) -> None:
    """A limit on the file size stands for the full disk: the write fails half-way, for real."""
    write_json(tmp_path / "run.json", {"state": "queued"})
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from repro.files import write_json\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "write_json(Path(sys.argv[1]), {'state': 'x' * 5000})\n"
    )
    command = [sys.executable, "-B", "-c", code, str(tmp_path / "run.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "File too large" in done.stderr
    assert json.loads((tmp_path / "run.json").read_text()) == {"state": "queued"}
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_events_are_appended_with_their_time(folder: RunFolder) -> None:
    folder.event("started", attempt=1)
    folder.event("failed", kind="nan")
    lines = whole_lines(folder.path / "events.jsonl")[0]
    assert [line["event"] for line in lines] == ["started", "failed"]
    assert lines[1]["kind"] == "nan"
    assert lines[0]["time"] <= lines[1]["time"]
