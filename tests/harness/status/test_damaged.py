"""One damaged run folder is one damaged run: it is named, and everything else goes on."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from repro.cli.parser import main
from repro.config.identity import run_id
from repro.errors import UserError
from repro.files import whole_lines
from repro.harness.local.pool import dispatch
from repro.harness.plan.plan import plan, planned_run
from repro.harness.runs.evaluations import RunEvaluation
from repro.harness.runs.failures import Failure, FailureKind
from repro.harness.runs.states import RunInfo
from repro.harness.runs.store import RunFolder, create_run, create_runs, find_runs
from tests.conftest import MakeConfig

Damage = Callable[[Path], None]


@pytest.fixture
def runs(tmp_path: Path, smoke: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> list[RunFolder]:
    monkeypatch.setenv("REPRO_RESULTS", str(tmp_path))
    config = smoke()
    named = [("notes", replace(config, seed=seed)) for seed in range(3)]
    return create_runs(tmp_path / "runs", named)


def written(name: str, content: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content) and None


def folder_instead(name: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()

    return damage


def later_version(folder: Path) -> None:
    with (folder / "config.yaml").open("a") as file:
        file.write("invented_later: 1\n")


def other_rate(folder: Path) -> None:
    text = (folder / "config.yaml").read_text()
    assert "lr: 0.0" in text
    (folder / "config.yaml").write_text(text.replace("lr: 0.0", "lr: 0.1", 1))


DAMAGES: dict[str, tuple[Damage, str]] = {
    "config edited": (other_rate, "config.yaml: edited"),
    "config empty": (written("config.yaml", b""), "config.yaml: damaged"),
    "config of nothing": (written("config.yaml", b"{}"), "config.yaml"),
    "config not UTF-8": (written("config.yaml", b"\xff\xfe\x00"), "config.yaml"),
    "config of a later version": (later_version, "invented_later"),
    "config a folder": (folder_instead("config.yaml"), "config.yaml: cannot be read"),
    "run.json a list": (written("run.json", b"[]"), "run.json: damaged"),
    "run.json torn": (written("run.json", b'{"state":'), "run.json: not valid JSON"),
    "run.json not UTF-8": (written("run.json", b"\xff\xfe"), "run.json: not valid JSON"),
    "run.json a folder": (folder_instead("run.json"), "run.json: cannot be read"),
    "result a list": (written("result.json", b"[]"), "result.json: damaged"),
    "result torn": (written("result.json", b"{"), "result.json: not valid JSON"),
    "result a folder": (folder_instead("result.json"), "result.json: cannot be read"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_folder_is_shown_as_such_beside_the_others(
    name: str, runs: list[RunFolder], capsys: pytest.CaptureFixture[str]
) -> None:
    damage, word = DAMAGES[name]
    damage(runs[1].path)
    assert main(["status", "--json"]) == 0
    entries = {entry["id"]: entry for entry in json.loads(capsys.readouterr().out)["runs"]}
    states = {identity: entry["state"] for identity, entry in entries.items()}
    assert states == {runs[0].id: "queued", runs[1].id: "damaged", runs[2].id: "queued"}
    assert word in entries[runs[1].id]["cause"]
    assert "\n" not in entries[runs[1].id]["cause"]


def test_every_command_goes_on_beside_damaged_folders_and_foreign_files(
    runs: list[RunFolder], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    written("run.json", b"[]")(runs[0].path)
    other_rate(runs[1].path)
    (tmp_path / "runs" / "empty-0123456789").mkdir()
    (tmp_path / "runs" / "a-file-0123456789").write_text("notes")
    (tmp_path / "runs" / "link-0123456789").symlink_to(tmp_path / "nowhere")
    for command in (
        ["status"], ["status", "--runs"], ["list"], ["plan", "F7", "--scale", "smoke"],
        ["gc", "--dry-run"], ["table", "F7", "--scale", "smoke"], ["retry", "--yes"],
        ["check", "F7", "--scale", "smoke"],
    ):  # fmt: skip
        assert main(command) == 0, command
        printed = capsys.readouterr().out
        if command[0] in ("status", "retry"):
            assert "config.yaml: edited" in printed, command
    assert len(find_runs(tmp_path / "runs")) == 4


def test_a_damaged_run_that_is_submitted_again_is_shown_so_and_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REPRO_RESULTS", str(tmp_path))
    (run,) = plan(["F7:both"], "smoke", 1, tmp_path).runs
    folder = create_run(tmp_path / "runs", run.slug, run.config)
    other_rate(folder.path)
    before = {file: file.read_bytes() for file in folder.path.iterdir() if file.is_file()}
    assert main(["submit", "F7:both", "--scale", "smoke", "--yes"]) in (0, 1)
    told = capfd.readouterr()
    (line,) = (line for line in told.out.splitlines() if line.startswith(folder.id))
    assert line.endswith("damaged")
    assert "1 run, 0 to do" in told.out
    assert {file: file.read_bytes() for file in folder.path.iterdir() if file.is_file()} == before


def test_a_failure_that_cannot_be_read_does_not_keep_a_run_from_being_tried_again(
    runs: list[RunFolder], capsys: pytest.CaptureFixture[str]
) -> None:
    runs[0].fail(Failure(FailureKind.nan, "the loss is nan"))
    file = runs[0].path / "failure.json"
    file.write_text(file.read_text().replace("loss", "cost"))
    assert main(["status", "--json"]) == 0
    (shown, *_) = json.loads(capsys.readouterr().out)["runs"]
    assert (shown["id"], shown["state"]) == (runs[0].id, "failed")
    assert shown["cause"].startswith(f"{file}: damaged: not what was written, by its digest")


def test_no_cut_of_a_config_is_taken_for_a_run(runs: list[RunFolder]) -> None:
    """At every line; what is left of it describes another run, with ImageNet's defaults."""
    folder = runs[0]
    file = folder.path / "config.yaml"
    lines = file.read_text().splitlines(keepends=True)
    taken = 0
    for number in range(len(lines)):
        file.write_text("".join(lines[:number]))
        with suppress(UserError):
            assert run_id(folder.config()) == folder.id
            taken += 1
    assert taken < len(lines) / 4  # the end of the file is no part of the identity


def flipped(file: Path) -> Iterator[None]:
    """Two hundred times, with another bit of the file flipped."""
    content, draw = file.read_bytes(), random.Random(0)
    for _ in range(200):
        damaged = bytearray(content)
        damaged[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        file.write_bytes(damaged)
        yield


def test_no_flipped_bit_of_a_config_trains_something_else(runs: list[RunFolder]) -> None:
    folder = runs[0]
    file = folder.path / "config.yaml"
    named = 0
    for _ in flipped(file):
        try:
            assert run_id(folder.config()) == folder.id
        except UserError:
            named += 1
    assert named > 100


def test_no_flipped_bit_of_a_result_is_another_number(runs: list[RunFolder]) -> None:
    folder = runs[0]
    result = {"metrics": {"knn": 71.25, "loss": 0.1 + 0.2, "lost": None}, "wall_seconds": 1e-7}
    folder.finish(result)
    assert folder.result() == result
    file = folder.path / "result.json"
    named = 0
    for _ in flipped(file):
        try:
            read = folder.result() or {}
        except UserError:
            named += 1
        else:  # only the name of the digest was hit
            assert {key: read.get(key) for key in result} == result
    assert named > 100


def test_no_flipped_bit_of_a_run_json_is_another_run_or_another_time(runs: list[RunFolder]) -> None:
    folder = runs[0]
    folder.update_run(started=1e9, total_steps=40)
    told = folder.read_run()
    file = folder.path / "run.json"
    named = 0
    for _ in flipped(file):
        try:
            read = folder.read_run()
        except UserError:
            named += 1
        else:  # only the name of the digest was hit
            assert replace_check(read) == replace_check(told)
    assert named > 150


def replace_check(info: RunInfo) -> RunInfo:
    return structs.replace(info, check="")


def test_what_another_run_left_is_not_taken_for_this_one_s(runs: list[RunFolder]) -> None:
    first, second = runs[:2]
    first.finish({"metrics": {"knn": 71.0}})
    first.write_environment({"torch": "2.0"})
    evaluations = first.path / "evaluations"
    evaluations.mkdir()
    RunEvaluation(metrics={"knn_10": 70.0}).write(evaluations / "knn.json", first.id)
    assert first.evaluations()["knn"].metrics == {"knn_10": 70.0}
    shutil.copy(first.path / "result.json", second.path)
    shutil.copy(first.path / "env.json", second.path)
    shutil.copytree(evaluations, second.path / "evaluations")
    for read in (second.result, second.environment, second.evaluations):
        with pytest.raises(UserError, match="damaged: not what was written, by its digest"):
            read()


def test_a_finished_run_whose_metric_lines_are_lost_is_no_evidence(runs: list[RunFolder]) -> None:
    folder = runs[0]
    folder.append_metrics([{"kind": "step", "step": step, "loss": 0.5} for step in range(1, 9)])
    folder.finish({"metrics": {}, "lines": 8})
    assert len(folder.metrics()) == 8
    file = folder.path / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:5]))
    with pytest.raises(UserError, match=r"metrics\.jsonl: 5 lines are left of 8$"):
        folder.metrics()
    file.write_text("".join(lines).replace('"loss": 0.5', '"loss": 0.6', 1))
    with pytest.raises(UserError, match=r"metrics\.jsonl: line 1 is damaged: not what was written"):
        folder.metrics()


def test_a_damaged_line_near_the_end_is_said_where_the_step_is_told(
    runs: list[RunFolder], capsys: pytest.CaptureFixture[str]
) -> None:
    runs[0].append_metrics([{"kind": "step", "step": step} for step in (1, 2)])
    runs[0].update_run(state="interrupted")
    file = runs[0].path / "metrics.jsonl"
    file.write_text(file.read_text().replace('"step": 2', '"step": 6'))
    assert main(["status", "--json"]) == 0
    shown = {run["id"]: run for run in json.loads(capsys.readouterr().out)["runs"]}[runs[0].id]
    assert shown["step"] == 1
    assert "metrics.jsonl: a line near its end is damaged" in shown["detail"]
    assert main(["status"]) == 0
    said = f"{runs[0].path.name}/metrics.jsonl: a line near its end is damaged"
    assert said in capsys.readouterr().out


def test_lines_that_a_finished_run_has_lost_are_said(
    runs: list[RunFolder], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = runs[0]
    folder.append_metrics([{"kind": "step", "step": step} for step in (1, 2, 3)])
    folder.finish({"metrics": {}})
    assert main(["status"]) == 0
    assert "metrics.jsonl" not in capsys.readouterr().out
    file = folder.path / "metrics.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:2]))
    assert main(["status"]) == 0
    said = f"{folder.path.name}/metrics.jsonl ends at step 2; by run.json the run was at 3"
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("state", ["interrupted", "cancelled", "failed"])
def test_metric_lines_that_a_run_has_lost_since_it_ended_are_said(
    state: str, runs: list[RunFolder], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = runs[0]
    folder.append_metrics([{"kind": "step", "step": step} for step in (1, 2, 3)])
    folder.update_run(state=state)
    assert main(["status"]) == 0
    assert "metrics.jsonl" not in capsys.readouterr().out
    file = folder.path / "metrics.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:2]))
    said = f"{folder.path.name}/metrics.jsonl ends at step 2; by run.json the run was at 3"
    for command in (["status"], ["status", "--json"]):
        assert main(command) == 0
        assert said in capsys.readouterr().out
    folder.update_run(state="running")  # it goes on, and is killed at an earlier step
    folder.update_run(state=state)
    assert main(["status"]) == 0
    assert "metrics.jsonl" not in capsys.readouterr().out


def test_an_event_after_a_torn_one_is_a_line_of_its_own(runs: list[RunFolder]) -> None:
    runs[0].event("started")
    file = runs[0].path / "events.jsonl"
    file.write_text(file.read_text() + '{"time": 1.0, "eve')
    runs[0].event("done")
    events, others = whole_lines(file)
    assert [event["event"] for event in events] == ["started", "done"]
    assert others == 1


def test_a_pool_leaves_a_damaged_run_alone_and_trains_the_others(
    tmp_path: Path, smoke: MakeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    configs = [smoke({"train.epochs": 1, "seed": seed}) for seed in range(2)]
    first, second = create_runs(tmp_path, [("pool", config) for config in configs])
    other_rate(first.path)
    before = sorted(path.name for path in first.path.iterdir())
    outcome = dispatch([planned_run(config, {}) for config in configs], tmp_path, workers=1)
    assert [folder.id for folder in outcome.failed] == [first.id]
    assert [folder.id for folder in outcome.done] == [second.id]
    assert "damaged, and left as it is" in capsys.readouterr().err
    assert sorted(path.name for path in first.path.iterdir()) == before
