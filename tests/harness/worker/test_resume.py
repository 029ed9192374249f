"""What a run goes on from: nothing is begun again, or mixed, without a word."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from repro.cli.parser import main
from repro.harness.runs.store import RunFolder, create_run
from repro.harness.worker.run import DONE, FAILED, STOPPED, USER_MISTAKE
from tests.conftest import MakeConfig
from tests.harness import errno_at
from tests.harness.processes import (
    LONG,
    LONG_STEPS,
    WAIT,
    start,
    start_command,
    timeless,
    timeless_result,
    train,
    train_command,
    wait_for_step,
)

needs_compiler = pytest.mark.skipif(errno_at.COMPILER is None, reason="no C compiler")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, smoke: MakeConfig) -> RunFolder:
    """With both checkpoints, stopped in its middle; tests take copies."""
    results = tmp_path_factory.mktemp("results")
    folder = create_run(results / "runs", "stopped", smoke(LONG))
    process = start(folder)
    wait_for_step(folder, 20)
    process.send_signal(signal.SIGTERM)
    process.wait()
    assert process.returncode == STOPPED
    assert (folder.path / "checkpoints" / "previous.pt").exists()
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, smoke: MakeConfig) -> RunFolder:
    folder = create_run(tmp_path_factory.mktemp("runs"), "whole", smoke(LONG))
    assert train(folder)[0] == DONE
    return folder


@pytest.fixture
def copy(stopped: RunFolder, tmp_path: Path) -> RunFolder:
    path = tmp_path / "results" / "runs" / stopped.path.name
    shutil.copytree(stopped.path, path)
    return RunFolder(path)


def kept(folder: RunFolder) -> dict[str, bytes]:
    """What an attempt that cannot read must not touch."""
    files = [*(folder.path / "checkpoints").iterdir(), folder.path / "metrics.jsonl"]
    return {file.name: file.read_bytes() for file in files}


def of(folder: RunFolder, name: str) -> list[dict[str, Any]]:
    lines = (folder.path / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == name]


@needs_compiler
@pytest.mark.parametrize(
    ("call", "error", "number"), [("open", errno.EACCES, 1), ("read", errno.ESTALE, 3)]
)
def test_a_checkpoint_that_cannot_be_read_ends_the_attempt_and_nothing_is_touched(
    call: str, error: int, number: int, copy: RunFolder, whole: RunFolder
) -> None:
    before = kept(copy)
    injected = errno_at.environment("checkpoints/last.pt", call, error, number)
    code, output = train_command(copy, env={**os.environ, **injected})
    assert code == USER_MISTAKE, output
    failure = copy.failure()
    assert failure is not None
    assert failure.kind == "data"
    assert f"last.pt: cannot be read: {os.strerror(error)}" in failure.line
    assert kept(copy) == before
    if (call, error) == ("read", errno.ESTALE):
        assert train(copy)[0] == DONE
        assert timeless(copy.metrics()) == timeless(whole.metrics())


def test_too_little_memory_for_a_checkpoint_is_told_as_that(
    copy: RunFolder, tmp_path: Path
) -> None:
    """The kernel grants no more memory than the process has before it reads 2 GB."""
    from repro.harness.runs import checkpoint
    from repro.harness.runs.failures import failure_of

    large = tmp_path / "large"
    checkpoint.save(large, {"step": 1, "weights": torch.zeros(500_000_000)})
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 500_000_000, limits[1]))
    try:
        with pytest.raises((MemoryError, RuntimeError)) as caught:
            checkpoint.find(large)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert failure_of(caught.value, 0).kind == "out_of_memory"
    assert (large / "last.pt").exists()


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


def of_nobody(file: Path) -> None:
    torch.save({}, file)


def of_another(file: Path) -> None:
    state = torch.load(file, weights_only=True)
    torch.save(state | {"owner": state["owner"] | {"run": "0123456789"}}, file)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:1000])


@pytest.mark.parametrize("damage", [flip_a_bit, of_nobody, of_another, cut])
def test_a_damaged_checkpoint_is_set_aside_by_name_and_the_one_before_is_taken(
    damage: Callable[[Path], None], copy: RunFolder, whole: RunFolder
) -> None:
    last = copy.path / "checkpoints" / "last.pt"
    damage(last)
    damaged = last.read_bytes()
    code, output = train(copy)
    assert code == DONE, output
    assert "it is now last.pt.aside1, previous.pt is taken" in output
    assert f"step 0 of {LONG_STEPS}" not in output
    assert last.with_name("last.pt.aside1").read_bytes() == damaged
    assert [event["file"] for event in of(copy, "checkpoint_set_aside")] == ["last.pt.aside1"]
    assert timeless(copy.metrics()) == timeless(whole.metrics())
    assert timeless_result(copy) == timeless_result(whole)


def test_where_no_checkpoint_serves_nothing_begins_again_before_it_is_asked_for(
    copy: RunFolder,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("last.pt", "previous.pt"):
        flip_a_bit(copy.path / "checkpoints" / name)
    before = kept(copy)
    for _ in range(2):  # however often
        code, output = train(copy)
        assert code == USER_MISTAKE, output
        assert f"repro retry --from-start {copy.id} begins at step 0" in output
        assert kept(copy) == before

    monkeypatch.setenv("REPRO_RESULTS", str(copy.path.parents[1]))
    assert main(["retry", copy.id, "--from-start", "--yes"]) == 0
    assert "its checkpoint is now last.pt.aside1" in capsys.readouterr().out
    assert (copy.path / "checkpoints" / "previous.pt.aside1").exists()
    steps = [event["step"] for event in copy.metrics() if event["kind"] == "step"]
    assert steps == list(range(1, LONG_STEPS + 1))


def test_checkpoints_of_earlier_versions_go_on_with_a_note(
    copy: RunFolder, whole: RunFolder
) -> None:
    last = copy.path / "checkpoints" / "last.pt"
    state = torch.load(last, weights_only=True)
    torch.save({key: state[key] for key in state.keys() - {"owner", "threads"}}, last)
    code, output = train(copy)
    assert code == DONE, output
    assert "does not say which run and images it is of" in output
    assert timeless_result(copy) == timeless_result(whole)


def test_a_run_goes_on_with_the_threads_it_began_with(
    copy: RunFolder, whole: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPRO_THREADS", "2")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    code, output = train_command(copy)
    assert code == DONE, output
    assert "goes on with 1 thread, as it began, not 2" in output
    assert timeless(copy.metrics()) == timeless(whole.metrics())
    env = json.loads((copy.path / "env.json").read_text())
    assert env["hardware"]["threads"] == 1


def test_images_that_changed_since_a_run_began_are_refused(
    tmp_path: Path, smoke: MakeConfig
) -> None:
    images = tmp_path / "images"
    for part, number in (("train", 20), ("val", 6)):
        for name in ("cat", "dog"):
            (images / part / name).mkdir(parents=True)
            for index in range(number):
                picture = Image.effect_noise((40, 40), 10 + index).convert("RGB")
                picture.save(images / part / name / f"{index}.png")
    settings = {"data": "folder", "data.resolution": 32, "paths.data": str(images)}
    settings |= {"train.batch_size": 8, "train.epochs": 40, "resources.data_workers": 0}
    folder = create_run(tmp_path / "runs", "images", smoke(settings))
    process = start_command(folder)
    wait_for_step(folder, 6)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=WAIT)
    assert process.returncode == STOPPED, output
    before = kept(folder)

    Image.effect_noise((40, 40), 99).convert("RGB").save(images / "train" / "cat" / "more.png")
    code, output = train(folder)
    assert code == USER_MISTAKE, output
    failure = folder.failure()
    assert failure is not None
    assert failure.line.startswith("the train images changed since step ")
    assert kept(folder) == before


@pytest.mark.parametrize("damage", ["emptied", "halved", "garbage", "removed"])
def test_metric_lines_that_a_resumed_run_lacks_are_noticed(damage: str, copy: RunFolder) -> None:
    file = copy.path / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    text = {"emptied": "", "halved": "".join(lines[len(lines) // 2 :])}
    text["garbage"] = "".join([*lines[:4], "{}\n", "no json\n", "\x00\n", *lines[7:]])
    if damage == "removed":
        file.unlink()
    else:
        file.write_text(text[damage])
    code, output = train(copy)
    assert code == DONE, output
    (missing,) = of(copy, "metrics_missing")
    lost = LONG_STEPS - sum(event["kind"] == "step" for event in copy.metrics())
    assert missing["steps"] == lost > 0
    assert f"metrics.jsonl lacks {lost} of" in output
    assert (copy.path / "metrics.jsonl.aside").exists() == (damage == "garbage")


def of_other_shapes(file: Path) -> None:
    state = torch.load(file, weights_only=True)
    name = next(iter(state["teacher"]))
    state["teacher"][name] = state["teacher"][name][..., :1].clone()
    torch.save(state, file)


def test_where_tensors_are_of_another_shape_the_checkpoint_before_is_taken(
    copy: RunFolder, whole: RunFolder
) -> None:
    last = copy.path / "checkpoints" / "last.pt"
    of_other_shapes(last)
    damaged = last.read_bytes()
    code, output = train(copy)
    assert code == DONE, output
    assert "last.pt does not fit this run (size mismatch for" in output
    assert "it is now last.pt.aside1, previous.pt is taken" in output
    assert last.with_name("last.pt.aside1").read_bytes() == damaged
    assert timeless(copy.metrics()) == timeless(whole.metrics())
    assert timeless_result(copy) == timeless_result(whole)


def test_where_no_tensors_fit_the_run_fails_and_its_files_stay(copy: RunFolder) -> None:
    for name in ("last.pt", "previous.pt"):
        of_other_shapes(copy.path / "checkpoints" / name)
    before = kept(copy)
    code, output = train(copy)
    assert code == USER_MISTAKE, output
    assert "no checkpoint serves (last.pt: does not fit this run (size mismatch for" in output
    assert f"repro retry --from-start {copy.id} begins at step 0" in output
    assert kept(copy) == before


def floors_of(folder: RunFolder) -> list[dict[str, Any]]:
    return [event for event in folder.metrics() if event["kind"] == "eval" and event["step"] == 0]


def test_a_run_that_is_stopped_before_its_first_step_keeps_the_floors(
    tmp_path: Path, smoke: MakeConfig, whole: RunFolder
) -> None:
    folder = create_run(tmp_path, "early", smoke(LONG))
    folder.request_cancel()
    assert train(folder)[0] == STOPPED
    assert floors_of(folder) == floors_of(whole)
    assert folder.step == 0
    folder.clear_cancel()
    code, output = train(folder)
    assert code == DONE, output
    assert f"step 0 of {LONG_STEPS}" in output
    assert "step 0: k-NN" not in output  # which it says as it evaluates
    assert timeless(folder.metrics()) == timeless(whole.metrics())
    assert timeless_result(folder) == timeless_result(whole)


def test_a_run_that_fails_in_its_first_epoch_keeps_floors_that_took_long(
    tmp_path: Path, smoke: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from repro.harness.worker import run
    from repro.train import Trainer

    monkeypatch.setattr(run, "FLOORS_SECONDS", 0.0)
    monkeypatch.setattr(run, "STOP_SIGNALS", ())
    monkeypatch.setattr(Trainer, "_step", lambda *_: 1 / 0)
    folder = create_run(tmp_path, "early", smoke(LONG))
    assert run.work(folder.path) == FAILED
    state = torch.load(folder.path / "checkpoints" / "last.pt", weights_only=True)
    assert state["step"] == 0
    assert state["accuracies"] == {
        name: floors_of(folder)[0][name]
        for name in ("knn", "student_knn", "knn_pixels", "knn_random")
    }


def test_a_signal_in_the_middle_of_a_checkpoint_cuts_nothing(
    tmp_path: Path, smoke: MakeConfig, whole: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from repro.harness.worker import run

    save = torch.save

    def warned(state: dict[str, Any], file: Any) -> None:
        for number in run.STOP_SIGNALS:
            os.kill(os.getpid(), number)
        save(state, file)

    folder = create_run(tmp_path, "warned", smoke(LONG | {"reporting.checkpoint_seconds": 0}))
    before = {number: signal.getsignal(number) for number in run.STOP_SIGNALS}
    monkeypatch.setattr(torch, "save", warned)
    try:
        assert run.work(folder.path) == STOPPED
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    monkeypatch.undo()
    assert 0 < folder.step < LONG_STEPS
    code, output = train(folder)
    assert code == DONE, output
    assert "aside" not in output
    assert timeless(folder.metrics()) == timeless(whole.metrics())
    assert timeless_result(folder) == timeless_result(whole)
