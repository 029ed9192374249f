"""What a person sees while runs train: live in a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from repro.config.compose import compose
from repro.harness.local.display import FIRST_READ, ActiveRun, Display, Tail, clock, number
from repro.harness.runs.states import State
from repro.harness.runs.store import RunFolder, create_run

EXPERIMENTS = Path(__file__).parents[3] / "experiments"


def step(number: int, **values: Any) -> dict[str, Any]:
    event = {"kind": "step", "step": number, "images_per_second": 230.0, "loss": 2.5}
    return event | {"entropy": 2.0, "kl": 0.5, "sentinel": "healthy"} | values


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    run = create_run(tmp_path, "F7-both-smoke-s0", compose(EXPERIMENTS, "smoke"))
    run.update_run(total_steps=8)
    return run


def test_a_tail_gives_every_complete_line_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = Tail(path)
    assert tail.read() == []
    lines = [json.dumps({"kind": "step", "step": i}) + "\n" for i in range(5)]
    path.write_text(lines[0] + lines[1][:7])
    assert [e["step"] for e in tail.read()] == [0]
    with path.open("a") as file:
        file.write(lines[1][7:] + lines[2])
    assert [e["step"] for e in tail.read()] == [1, 2]
    path.write_text(lines[0])  # a resumed run cuts its file
    assert tail.read() == []
    with path.open("a") as file:
        file.write(lines[3])
    assert [e["step"] for e in tail.read()] == [3]


@given(cuts=st.lists(st.integers(0, 3000), max_size=20))
def test_a_tail_gives_every_line_once_however_the_file_grows(cuts: list[int]) -> None:
    lines = [{"kind": "step", "step": i, "loss": i / 7} for i in range(50)]
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    ends = [*sorted(min(cut, len(content)) for cut in cuts), len(content)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metrics.jsonl"
        tail, seen = Tail(path), []
        for end in ends:
            path.write_bytes(content[:end])
            seen += tail.read()
    assert seen == lines


def test_a_tail_of_a_long_file_starts_near_its_end(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"kind": "step", "step": i}) + "\n" for i in range(10_000)]
    path.write_text("".join(lines))
    steps = [event["step"] for event in Tail(path).read()]
    assert steps == list(range(10_000 - len(steps), 10_000))
    assert len(steps) * len(lines[-1]) <= FIRST_READ


def test_plain_lines_tell_step_speed_time_loss_entropy_and_kl(folder: RunFolder) -> None:
    run = ActiveRun(folder)
    assert run.line().endswith("starting")
    folder.append_metrics([step(2)])
    run.update(now=10.0)
    folder.append_metrics([step(4, loss=None, sentinel="uniform")])
    run.update(now=12.0)
    line = run.line()
    for words in ("step 4/8 (50 %)", "230 images/s", "0:04 left", "loss nan", "entropy 2.000"):
        assert words in line
    assert line.endswith("KL 0.500, uniform")


def shown(folder: RunFolder, terminal: bool, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("repro.harness.local.display.LIVE_SECONDS", 0.0)
    monkeypatch.setattr("repro.harness.local.display.PLAIN_SECONDS", 0.0)
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=150, legacy_windows=False)
    with Display(total=3, done=1, workers=1, console=console) as display:
        display.started(folder)
        folder.append_metrics([step(3)])
        display.refresh()
        metrics = {"knn": 71.25, "entropy": 2.0, "kl": 0.5}
        result = {"metrics": metrics, "sentinel": {"state": "healthy"}, "wall_seconds": 75.0}
        folder.finish(result)
        display.ended(folder, State.done)
        assert display.header().startswith("2/3 runs ended, 0 active")
    return output.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_finished_run_leaves_one_permanent_line(
    terminal: bool, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = shown(folder, terminal, monkeypatch)
    assert f"done        {folder.path.name}  k-NN 71.2 %  entropy 2.000, KL 0.500" in text
    assert "wall 1:15" in text
    assert "230" in text
    assert ("\x1b[" in text) is terminal  # no control sequences outside a terminal
    assert ("started" in text) is not terminal


@pytest.mark.parametrize("width", [80, 100, 160])
def test_no_number_is_cut_off_in_a_narrow_terminal(
    width: int, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repro.harness.local.display.LIVE_SECONDS", 0.0)
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=width, legacy_windows=False)
    with Display(total=1, done=0, workers=1, console=console) as display:
        display.started(folder)
        folder.append_metrics([step(3, sentinel="one_dimension")])
        display.refresh()
    for word in ("F7-both", "3/8", "images/s", "230", "2.500", "2.000", "0.500", "one_dimension"):
        assert word in output.getvalue()


def test_the_time_left_counts_runs_that_still_wait(folder: RunFolder) -> None:
    display = Display(total=3, done=0, workers=1, console=Console(file=io.StringIO()))
    assert display.seconds_left() is None
    display.started(folder)
    run = display.active[folder.path]
    for now, done in ((10.0, 2), (12.0, 4)):
        folder.append_metrics([step(done)])
        run.update(now)
    assert run.seconds_left == 4.0
    # Eight steps take 8 s: the rest of this run, and two more.
    assert display.seconds_left() == 4.0 + 2 * 8.0


def test_clocks_and_numbers_are_short() -> None:
    assert [clock(s) for s in (None, 7, 750, 3723)] == ["?", "0:07", "12:30", "1:02:03"]
    assert [number(x) for x in (None, 1.23456)] == ["nan", "1.235"]
