"""Runs that share a GPU: MPS where it works, turns where anything about it does not."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from repro.harness.local import card
from repro.harness.local.card import CONTROL, shared_cards
from repro.harness.local.pool import Slot, dispatch, make_slots, runs_a_gpu
from repro.harness.runs import variables
from repro.harness.runs.environment import environment
from tests.conftest import MakeConfig
from tests.harness.local.test_pool import planned, runs
from tests.harness.processes import wait_for

__all__ = ["runs"]

# Machines without a GPU have no MPS: this is a control daemon as far as a pool talks to it. It
# serves until it is told to quit, and has a server once a process has been there.
DAEMON = """#!/bin/sh
here=$CUDA_MPS_PIPE_DIRECTORY
test -z "$CUDA_VISIBLE_DEVICES" || exit 3
if [ "$1" = -f ]; then
    echo $$ > $here/daemon
    while [ ! -e $here/quit ]; do sleep 0.05; done
    exit 0
fi
test -e $here/daemon || exit 1
read command
case $command in
    get_server_list) test ! -e $here/used || echo 4711 ;;
    quit) touch $here/quit ;;
esac
"""
USES = "import os, pathlib; pathlib.Path(os.environ['CUDA_MPS_PIPE_DIRECTORY'], 'used').touch()"


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program that stands for the control daemon, on the path."""
    program = tmp_path / "bin" / CONTROL
    program.parent.mkdir()
    program.write_text(DAEMON)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setattr(card, "PROBE", USES)
    monkeypatch.setattr(card, "START_SECONDS", 1.0)
    monkeypatch.setattr(card, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(card, "PROBE_SECONDS", 5.0)
    return program


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_runs_that_share_a_card_use_a_daemon_of_the_pool_which_ends_with_it(daemon: Path) -> None:
    said: list[str] = []
    with shared_cards(3, said.append) as shared:
        folder = Path(shared["CUDA_MPS_PIPE_DIRECTORY"])
        pid = int((folder / "daemon").read_text())
        assert is_alive(pid)
        assert shared == variables.RUNS_A_GPU.holding(3) | {
            "CUDA_MPS_PIPE_DIRECTORY": str(folder),
            "CUDA_MPS_LOG_DIRECTORY": str(folder),
        }
    assert said == ["3 runs a GPU, side by side (MPS)"]
    wait_for(lambda: not is_alive(pid), "the daemon to end")
    assert not folder.exists()


KILLED = """
import os, signal
from repro.harness.local import card
card.PROBE = os.environ["PROBE"]
with card.shared_cards(2, print) as shared:
    print(shared["CUDA_MPS_PIPE_DIRECTORY"], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_daemon_of_a_killed_pool_ends(daemon: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROBE", USES)
    done = subprocess.run(
        [sys.executable, "-c", KILLED], capture_output=True, text=True, check=False
    )
    folder = Path(done.stdout.splitlines()[-1])
    pid = int((folder / "daemon").read_text())
    wait_for(lambda: not is_alive(pid), "the daemon to end")
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("script", "probe", "why"),
    [
        ("#!/bin/sh\nexit 1\n", USES, "-f ended with 1"),
        ('#!/bin/sh\ntest "$1" = -f || exit 1\nsleep 60\n', USES, "does not answer"),
        ("#!/bin/sh\nsleep 60\n", USES, "timed out"),
        (DAEMON, "raise SystemExit('the driver says 805')", "tried it: the driver says 805"),
        (DAEMON, "", "used the GPU without it"),
        (DAEMON, "import time; time.sleep(60)", "timed out"),
    ],
    ids=["refuses", "deaf", "hangs", "unusable", "unused", "stuck"],
)
def test_where_mps_does_not_work_runs_take_turns_and_nothing_is_left(
    script: str, probe: str, why: str, daemon: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.write_text(script)
    monkeypatch.setattr(card, "PROBE", probe)
    started: list[card.Mps] = []
    close = card.Mps.close
    monkeypatch.setattr(card.Mps, "close", lambda self: started.append(self) or close(self))
    said: list[str] = []
    with shared_cards(2, said.append) as shared:
        assert shared == variables.RUNS_A_GPU.holding(2)
    assert said[0].startswith("2 runs a GPU, in turns (no MPS: ")
    assert why in said[0]
    (mps,) = started
    assert mps.daemon.poll() is not None
    assert not Path(mps.folder).exists()


def test_without_the_program_runs_take_turns_and_a_run_alone_asks_for_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    said: list[str] = []
    with shared_cards(2, said.append) as shared:
        assert shared == variables.RUNS_A_GPU.holding(2)
    assert said == [f"2 runs a GPU, in turns (no MPS: no {CONTROL} here)"]
    with shared_cards(1, said.append) as shared:
        assert shared == {}
    assert len(said) == 1


def test_the_driver_is_asked_by_the_probe_itself() -> None:
    """Here it finds no driver, or one that answers; it never ends in a mistake of its own."""
    done = subprocess.run(
        [sys.executable, "-c", card.PROBE], capture_output=True, text=True, check=False
    )
    last = (done.stderr.strip().splitlines() or [""])[-1]
    assert done.returncode == 0 or "libcuda" in last or last.startswith("the driver says")


def test_how_many_runs_share_a_card_is_counted_over_the_slots() -> None:
    assert runs_a_gpu(make_slots(5, [], 4)) == 1
    assert runs_a_gpu(make_slots(5, ["GPU-a", "GPU-b"])) == 1
    assert runs_a_gpu(make_slots(5, ["GPU-a", "GPU-b"], 5)) == 3
    assert runs_a_gpu([Slot(1, "GPU-a,GPU-b")]) == 1


def test_a_pool_tells_its_workers_how_they_share_and_forks_them_warm(
    daemon: Path, smoke: MakeConfig, runs: Path
) -> None:
    console = Console(file=io.StringIO(), width=300)
    todo = planned(*(smoke({"seed": n, "resources.device": "auto"}) for n in range(2)))
    outcome = dispatch(todo, runs, 2, 1, console, gpus=["GPU-none"])
    output = console.file.getvalue()  # type: ignore[attr-defined]
    assert "2 runs a GPU, side by side (MPS)" in output
    assert "no warm process" not in output
    assert len(outcome.done) == 2, output


def test_what_a_run_notes_of_its_machine_says_who_shared_the_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "a card")
    monkeypatch.setattr("repro.gpu.description", lambda _: {})
    assert "runs_a_gpu" not in environment("cuda")["hardware"]
    monkeypatch.setenv(*next(iter(variables.RUNS_A_GPU.holding(4).items())))
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)
    hardware = environment("cuda")["hardware"]
    assert (hardware["runs_a_gpu"], hardware["mps"]) == (4, False)
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", "/somewhere")
    assert environment("cuda")["hardware"]["mps"] is True
    assert "mps" not in environment("cpu")["hardware"]
