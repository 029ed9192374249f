"""`make gpu` itself: limits hold, results are there as they come, and a bare copy finds its parts.

Sessions run in processes of their own, with steps that are scripted here, in copies of the files
that would be carried to another machine. The rehearsal in `.ci/run` runs the real steps.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from repro.errors import UserError
from repro.harness.runs.environment import code_version
from tests.gpu import bounded, carried, outcomes, wheels
from tests.gpu.session import Asked, Step, all_steps, chosen

ROOT = Path(__file__).parents[2]
MOST_CARRIED = 64 * 2**20  # bytes
FOR_WHEELS = 16 * 2**20  # of them; those of wheels.PACKAGES take much less
# A session whose steps are the lines of SCRIPT, each a name, its seconds and a program.
DRIVER = """
import json, os, sys
from tests.gpu import session, outcomes
session.LEAST = 0
session.all_steps = lambda asked: [
    session.Step(name, seconds, ["-c", program], {}, outcomes.last_line)
    for name, seconds, program in json.loads(os.environ["SCRIPT"])
]
sys.exit(session.main())
"""
SLEEPER = """
import pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
pathlib.Path("sleeper").write_text(str(child.pid))
print("asleep", flush=True)
time.sleep(600)
"""
Script = list[tuple[str, float, str]]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The files of this project as they travel: no git, no results, nothing ignored."""
    return make_copy(tmp_path / "copy", "repro", "tests", "pyproject.toml", "requirements.txt")


def make_copy(folder: Path, *parts: str) -> Path:
    for name in travelling(*parts):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def travelling(*parts: str) -> list[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", *parts]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def start(copy: Path, script: Script, **variables: str) -> subprocess.Popen[str]:
    """A session in a copy, without the network."""
    private = subprocess.run(["unshare", "-n", "true"], check=False, capture_output=True)
    prefix = [] if private.returncode else ["unshare", "-n"]
    asked = {"GPU_REHEARSAL": "cpu", "GPU_OUT": str(copy / "out"), "SCRIPT": json.dumps(script)}
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "WHEELS", "AUTHORS")}
    return subprocess.Popen(
        [*prefix, sys.executable, "-c", DRIVER],
        cwd=copy,
        env=kept | {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PYTHONPATH": str(copy)}
        | asked | variables,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def run(copy: Path, script: Script, **variables: str) -> tuple[int, str]:
    process = start(copy, script, **variables)
    printed, _ = process.communicate(timeout=60)
    return process.returncode, printed


def told(printed: str, step: str) -> str:
    """What a step's line on the terminal ends with."""
    (line,) = (line for line in printed.splitlines() if line.startswith(f"{step} "))
    return line.rpartition("  ")[2].strip()


def states(copy: Path) -> dict[str, str]:
    summary = json.loads((copy / "out" / "summary.json").read_text())
    return {name: step["state"] for name, step in summary["steps"].items()}


def alive(pid: int) -> bool:
    return bounded.processes().get(pid, (0, "Z"))[1] != "Z"


def sleeper(copy: Path) -> int:
    for _ in range(200):
        if (copy / "sleeper").exists() and (told := (copy / "sleeper").read_text()):
            return int(told)
        time.sleep(0.05)
    raise AssertionError("the step never began")


def test_a_step_that_overruns_is_killed_with_its_children_and_the_next_one_runs(
    copy: Path,
) -> None:
    code, printed = run(copy, [("hangs", 2, SLEEPER), ("next", 2, "print('it is fine')")])
    assert code == 1
    assert not alive(sleeper(copy))
    assert states(copy) == {"hangs": "timed out", "next": "done"}
    assert [told(printed, name) for name in ("hangs", "next")] == ["asleep", "it is fine"]
    log = (copy / "out" / "session.log").read_text()
    assert log.index("asleep") < log.index("it is fine")


def test_what_a_finished_step_leaves_running_is_ended(copy: Path) -> None:
    leaves = SLEEPER.replace("time.sleep(600)", "")
    assert run(copy, [("leaves", 5, leaves)])[0] == 0
    assert states(copy) == {"leaves": "done"}
    assert not alive(sleeper(copy))


def test_a_step_that_fails_does_not_stop_the_others(copy: Path) -> None:
    code, printed = run(copy, [("breaks", 2, "sys.exit()"), ("next", 2, "print(1)")])
    assert code == 1
    assert states(copy) == {"breaks": "failed", "next": "done"}
    assert "NameError: name 'sys' is not defined" in printed


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_session_that_is_cut_off_has_told_what_it_found(copy: Path, how: signal.Signals) -> None:
    script = [("first", 5.0, "print('found')"), ("second", 60.0, SLEEPER), ("third", 5.0, "")]
    process = start(copy, script)
    child = sleeper(copy)
    process.send_signal(how)
    process.communicate(timeout=30)
    assert process.returncode
    ended = "running" if how is signal.SIGKILL else "interrupted"
    assert states(copy) == {"first": "done", "second": ended, "third": "waiting"}
    summary = json.loads((copy / "out" / "summary.json").read_text())
    assert summary["steps"]["first"]["outcome"] == "found"
    assert alive(child) == (how is signal.SIGKILL)
    if how is signal.SIGKILL:
        parent = bounded.processes()[child][0]
        os.kill(child, signal.SIGKILL)
        if parent != 1:
            os.kill(parent, signal.SIGKILL)


def test_with_fewer_minutes_all_limits_are_shorter(copy: Path) -> None:
    script = [("one", 30.0, ""), ("two", 90.0, "")]
    assert run(copy, script, GPU_MINUTES="1")[0] == 0
    summary = json.loads((copy / "out" / "summary.json").read_text())
    assert summary["steps"]["one"]["limit"] == 15
    assert summary["steps"]["two"]["limit"] == 45


def test_a_session_takes_no_more_than_its_minutes(copy: Path) -> None:
    begun = time.monotonic()
    code, _ = run(copy, [("one", 30, SLEEPER), ("two", 30, SLEEPER)], GPU_MINUTES="0.05")
    assert code == 1
    assert set(states(copy).values()) == {"timed out"}
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"GPU_STEPS": "correctnes"}, "did you mean correctness?"),
        ({"GPU_MINUTES": "eight"}, "GPU_MINUTES=eight: not a number"),
        ({"GPU_REHEARSAL": "tpu"}, "GPU_REHEARSAL=tpu"),
        ({"AUTHORS": "nowhere"}, "no such folder"),
        ({"GPU_REHEARSAL": "", "CUDA_VISIBLE_DEVICES": ""}, "GPU_REHEARSAL=cpu rehearses"),
    ],
)
def test_a_mistake_is_told_in_one_line(copy: Path, variables: dict[str, str], words: str) -> None:
    if Path("/dev/nvidiactl").exists() and "CUDA_VISIBLE_DEVICES" in variables:
        pytest.skip("there is a GPU here")
    code, printed = run(copy, [("correctness", 5, "")], **variables)
    assert code == 2
    assert words in printed
    assert len(printed.splitlines()) == 1


def need(copy: Path, *names: str) -> None:
    """Let the copy's package ask for more."""
    text = (copy / "pyproject.toml").read_text()
    more = "".join(f'    "{name}>=1",\n' for name in names)
    (copy / "pyproject.toml").write_text(
        text.replace("dependencies = [\n", f"dependencies = [\n{more}")
    )


def make_wheel(folder: Path, name: str, needs: str = "", tag: str = "py3-none-any") -> None:
    folder.mkdir(exist_ok=True)
    info = f"{name}-1.0.dist-info"
    asks = f"Requires-Dist: {needs}\n" if needs else ""
    files = {
        f"{name}.py": "VALUE = 'from a wheel'\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{asks}\nRead me\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(folder / f"{name}-1.0-{tag}.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)


def test_what_is_missing_comes_from_the_folder_of_wheels_and_nothing_else_is_touched(
    copy: Path,
) -> None:
    need(copy, "carried_pack")
    make_wheel(copy / "wheels", "carried_pack", needs="also_carried")
    make_wheel(copy / "wheels", "also_carried", needs='torch; extra == "all"')
    make_wheel(copy / "wheels", "numpy")  # it is there: not replaced
    program = "import also_carried, carried_pack, numpy; print(carried_pack.VALUE, numpy.ndarray)"
    code, printed = run(copy, [("step", 20, program)], WHEELS="wheels")
    assert code == 0, printed
    assert "from a wheel <class 'numpy.ndarray'>" in printed
    assert not list((copy / "results/gpu/site").glob("numpy*"))


def test_missing_wheels_are_named(copy: Path) -> None:
    need(copy, "carried_pack", "other_pack")
    for variables in ({}, {"WHEELS": "nowhere"}):
        code, printed = run(copy, [("step", 5, "")], **variables)
        assert code == 2
        assert "carried_pack, other_pack" in printed or "carried_pack other_pack" in printed
        assert len(printed.splitlines()) == 1
    make_wheel(copy / "wheels", "carried_pack", needs="also_carried")
    make_wheel(copy / "wheels", "other_pack", tag="cp27-cp27m-linux_x86_64")
    code, printed = run(copy, [("step", 5, "")], WHEELS="wheels")
    assert code == 2
    assert "no wheel of other-pack, also-carried" in printed
    assert "make gpu-wheels" in printed


def test_a_torch_that_is_too_old_is_not_replaced(copy: Path) -> None:
    text = (copy / "pyproject.toml").read_text()
    (copy / "pyproject.toml").write_text(text.replace('"torch>=2.11"', '"torch>=99.1"'))
    code, printed = run(copy, [("step", 5, "")], WHEELS="wheels")
    assert code == 2
    assert "99.1 or newer is needed" in printed


@pytest.fixture
def full_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that has all wheels already, and what `make gpu-wheels` adds to it."""
    monkeypatch.setattr(wheels, "fetch", lambda *a: pytest.fail(f"{a} would be fetched"))
    folder, versions = tmp_path / "wheels", wheels.locked()
    folder.mkdir()
    for name in wheels.PACKAGES:
        (folder / f"{name.replace('-', '_')}-{versions[name]}-py3-none-any.whl").touch()
    wheels.make(folder, list(wheels.PACKAGES), "3.12")
    return folder


KNOWN = "from repro.harness.runs.environment import code_version; print(code_version()['git_sha'])"


def test_a_copy_without_git_knows_its_commit(copy: Path, full_wheels: Path) -> None:
    code, printed = run(copy, [("step", 5, KNOWN)], WHEELS=str(full_wheels))
    assert code == 0, printed
    sha = code_version()["git_sha"]
    assert printed.startswith(f"commit {sha[:12]}")
    assert told(printed, "step") == sha


def test_the_commit_of_other_code_is_not_taken(copy: Path, full_wheels: Path) -> None:
    with (copy / "repro/train.py").open("a") as file:
        file.write("# edited on the way\n")
    code, printed = run(copy, [("step", 5, KNOWN)], WHEELS=str(full_wheels))
    assert code == 0, printed
    assert printed.startswith("version unknown: ")
    assert told(printed, "step") == "None"


def test_a_wheel_that_is_not_there_is_fetched_in_the_tested_version(
    full_wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[tuple[Any, ...]] = []
    monkeypatch.setattr(wheels, "fetch", lambda *a: fetched.append(a))
    wheels.make(full_wheels, ["Hydra_core", "rich"], "3.13")
    assert fetched == [(full_wheels, f"rich=={wheels.locked()['rich']}", "3.13")]
    with pytest.raises(UserError, match="no-such-pack"):
        wheels.make(full_wheels, ["no_such_pack"], "3.13")


def test_the_wheels_that_are_made_are_those_that_this_project_asks_for() -> None:
    direct = {carried.canonical(name) for name in carried.requirements()}
    needed_by = {"antlr4-python3-runtime": "omegaconf"}
    for name in wheels.PACKAGES:
        assert name in direct or needed_by[name] in direct


def test_what_is_carried_stays_small() -> None:
    size = sum((ROOT / name).stat().st_size for name in travelling())
    assert size + FOR_WHEELS < MOST_CARRIED


def test_a_long_output_loses_its_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "LOG_BYTES", 100)
    log = tmp_path / "log"
    log.write_text("before\n")
    program = "print('begins'); print('x' * 1000); print('ends')"
    ended = bounded.run([sys.executable, "-c", program], {}, log, 20)
    assert (ended.exit_code, ended.timed_out) == (0, False)
    assert ended.output.startswith("begins")
    assert ended.output.endswith("ends\n")
    assert log.read_text() == "before\n" + ended.output
    assert len(ended.output) < 250


TESTS = """
import pytest
@pytest.mark.parametrize("n", [1, 2])
def test_good(n): pass
def test_bad(): assert 1 == 2, "one is not two"
def test_left_out(): pytest.skip("for a reason")
@pytest.fixture
def broken(): raise ValueError("no such thing")
def test_without(broken): pass
"""


@pytest.mark.parametrize("processes", [[], ["-p", "xdist.plugin", "-n", "2"]])
def test_the_outcome_of_pytest_is_read_from_what_it_prints(
    tmp_path: Path, processes: list[str]
) -> None:
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -ra\n")
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *processes]
    command += ["-p", "tests.gpu.at_once"]
    alone = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    output = subprocess.run(
        command, check=False, cwd=tmp_path, env=alone, capture_output=True, text=True
    ).stdout
    line, found = outcomes.of_pytest(output)
    assert found["tests"] == {"passed": 2, "failed": 1, "skipped": 1, "error": 1}
    assert line.startswith("2 passed, ")
    assert "one is not two" in found["failed"]["test_some.py::test_bad"]
    assert "no such thing" in found["failed"]["test_some.py::test_without"]
    cut_off = output[: output.index("== ERRORS")]
    assert outcomes.of_pytest(cut_off)[1]["tests"] == found["tests"]
    assert "one is not two" in cut_off
    assert "no such thing" in cut_off


def test_what_prints_something_else_is_told_by_its_last_line() -> None:
    assert outcomes.of_pytest("usage: pytest\nno such option\n")[0] == "no such option"
    assert outcomes.of_doctor("Traceback:\nValueError: x\n\n")[0] == "ValueError: x"
    assert outcomes.last_line("")[0] == "it printed nothing"


def test_steps_are_chosen_by_name_in_their_own_order(tmp_path: Path) -> None:
    asked = Asked("cuda", tmp_path, None, tmp_path, [], None)
    steps = all_steps(asked)
    assert sum(step.seconds for step in steps) == 8 * 60
    assert [step.name for step in chosen(steps, ["speed", "doctor"])] == ["doctor", "speed"]
    speed = next(step for step in steps if step.name == "speed")
    assert isinstance(speed, Step)
    assert speed.variables["BENCH_AUTHORS"] == str(tmp_path)
