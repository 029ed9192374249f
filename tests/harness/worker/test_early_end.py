"""A run that ended early, as worker, run folder, record and lists tell of it."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import msgspec
import pytest

from analysis.comparison.explained_run import explain_run, lines_of
from analysis.comparison.listing import as_json, described, table
from analysis.figures.runs import of_folder, of_record
from repro.cli import main
from repro.harness.local.display import summary
from repro.harness.runs.contradictions import of_content, of_identity
from repro.harness.runs.records import Record, SentinelReport, record
from repro.harness.runs.states import State
from repro.harness.runs.store import RunFolder, create_run
from repro.harness.status.find import describe, find
from repro.harness.worker.run import DONE, STOPPED
from tests.conftest import MakeConfig
from tests.harness.processes import (
    WAIT,
    start,
    timeless,
    timeless_result,
    train,
    trained,
    wait_for_step,
)

# Without centering one dimension dominates from step 11 or so on.
EARLY = {
    "train.epochs": 15,
    "eval.every_epochs": 4,
    "target.centering": False,
    "train.stop_on": "collapse",
    "train.stop_after": 0.4,
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, smoke: MakeConfig) -> RunFolder:
    runs = tmp_path_factory.mktemp("results") / "runs"
    return trained(create_run(runs, "early", smoke(EARLY)))


def words(folder: RunFolder) -> str:
    step = (folder.result() or {})["stopped_on"]["step"]
    return f"stopped on collapse at step {step} of 60"


def test_it_is_done_and_says_on_what_it_stopped(ended: RunFolder) -> None:
    result = ended.result()
    assert result is not None
    step = result["stopped_on"]["step"]
    assert 11 < step < 60
    assert ended.step == step
    assert ended.read_run().total_steps == 60
    assert f"done: {words(ended)}, k-NN " in (ended.path / "log.txt").read_text()
    assert f"one_dimension, {words(ended)}  wall" in summary(ended, State.done)
    results = ended.path.parents[1]
    (folder,), seen = find([ended.id], results)
    told = describe(folder, seen.views[ended.id])
    assert (told["state"], told["step"], told["cause"]) == ("done", step, None)
    assert told["stopped_on"] == {"cause": "collapse", "step": step, "of": 60}


def test_lists_and_explanations_of_runs_name_it(
    ended: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REPRO_RESULTS", str(ended.path.parents[1]))
    folders, seen = find([], ended.path.parents[1])
    runs, _ = described(folders, seen)
    _, (line,) = table(runs)
    assert f"one_dimension, {words(ended)}" in line
    assert as_json(runs)[0]["stopped_on"]["of"] == 60
    explained = explain_run(ended, "done")
    assert f"ended: {words(ended)}" in list(lines_of(explained))
    assert words(ended) in of_folder(ended).sentence()
    for command in (["status", "--runs"], ["status"]):
        assert main(command) == 0
        assert words(ended) in " ".join(capsys.readouterr().out.split())
    assert main(["status", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)["runs"]
    assert entry["stopped_on"]["cause"] == "collapse"


def test_stopped_by_a_signal_it_goes_on_and_ends_at_the_same_step(
    tmp_path: Path, smoke: MakeConfig, ended: RunFolder
) -> None:
    folder = create_run(tmp_path, "again", smoke(EARLY))
    process = start(folder)
    wait_for_step(folder, 20)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=WAIT)
    assert process.returncode == STOPPED, output
    code, output = train(folder)
    assert code == DONE, output
    assert timeless(folder.metrics()) == timeless(ended.metrics())
    assert timeless_result(folder) == timeless_result(ended)
    assert (folder.result() or {})["stopped_on"] == (ended.result() or {})["stopped_on"]


def contradictions(run: Record) -> list[str]:
    return [*of_identity(run), *of_content(run)]


def test_its_record_says_so_and_nothing_in_it_contradicts_that(ended: RunFolder) -> None:
    line = msgspec.json.encode(record(ended))
    run = msgspec.json.decode(line, type=Record)
    assert str(run.stopped_on) == words(ended)
    assert run.config["train"]["stop_on"] == "collapse"
    assert run.curves.evaluations["epoch"][-1] == run.counts.steps / 4  # type: ignore[operator]
    assert contradictions(run) == []
    shown = of_record(run)
    assert shown.onset == pytest.approx(run.sentinel.since_step / 4)


def test_a_record_that_lies_about_its_early_end_contradicts_itself(ended: RunFolder) -> None:
    run = record(ended)
    assert run.stopped_on is not None
    replace, end = msgspec.structs.replace, run.stopped_on
    healthy = SentinelReport(meaning="", since_step=1, state="healthy")
    late = replace(run.sentinel, since_step=end.step - 3)
    train = run.config["train"]
    plain = {k: v for k, v in train.items() if not k.startswith("stop_")}
    for lie, told in (
        (replace(run, stopped_on=None), f"it has {end.step} of the 60 steps of its config"),
        (replace(run, stopped_on=replace(end, step=end.step + 4)), "steps of its config"),
        (replace(run, stopped_on=replace(end, of=64)), "its config has 60"),
        (replace(run, config=run.config | {"train": plain}), "its config stops on nothing"),
        (replace(run, sentinel=healthy), "its sentinel says healthy"),
        (replace(run, sentinel=late), f"its sentinel saw that since step {end.step - 3} only"),
        (replace(run, stopped_on=replace(end, step=end.step - 1)), "not the end of one of 15"),
    ):
        assert any(told in why for why in contradictions(lie)), (told, contradictions(lie))
