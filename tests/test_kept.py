"""Answers kept in the user's cache: made once, never believed when spoilt, never in the way."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from repro.errors import UserError
from repro.kept import KEPT, MOST, Answers, digest


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "repro-dino"


def never(*_: object) -> Any:
    raise AssertionError("this is known already")


def learned(name: str, state: str = "", **answers: Any) -> None:
    kept = Answers(name, state)
    for key, answer in answers.items():
        assert kept.get(key, type(answer), lambda answer=answer: answer) == answer
    kept.save()


def test_an_answer_is_made_once_and_read_by_whoever_asks_later(folder: Path) -> None:
    learned("primes", one=[2, 3])
    later = Answers("primes")
    assert "one" in later
    assert later.get("one", list[int], never) == [2, 3]
    assert json.loads((folder / "primes.json").read_text())["answers"] == {"one": [2, 3]}


def test_new_and_kept_answers_have_the_same_types_and_are_nobody_else_s() -> None:
    kept = Answers("pairs")
    first = kept.get("a", tuple[int, list[int]], lambda: (1, [2]))
    first[1].append(3)
    assert kept.get("a", tuple[int, list[int]], never) == (1, [2])
    kept.save()
    assert Answers("pairs").get("a", tuple[int, list[int]], never) == (1, [2])


@pytest.mark.parametrize(
    "content",
    [b'{"a": 4', b"[]", b"", b'{"a": "words"}', b'{"a": null}', b"\xff\xfe", b'{"a": 5}'],
    ids=["torn", "a list", "empty", "text", "null", "no text at all", "not one of them"],
)
def test_a_spoilt_file_is_neither_believed_nor_an_error(content: bytes, folder: Path) -> None:
    folder.mkdir()
    (folder / "numbers.json").write_bytes(content)
    assert Answers("numbers").get("a", Literal[3, 4], lambda: 4) == 4
    kept = Answers("numbers")
    assert kept.get_for_good("a", Literal[3, 4], lambda _: 4) == 4
    assert Answers("numbers").get("a", Literal[3, 4], never) == 4


def test_what_others_wrote_meanwhile_stays(folder: Path) -> None:
    ours, theirs = Answers("both"), Answers("both")
    ours.get("a", int, lambda: 1)
    theirs.get("b", int, lambda: 2)
    theirs.save()
    ours.save()
    assert json.loads((folder / "both.json").read_text())["answers"] == {"a": 1, "b": 2}


def test_it_is_written_when_the_process_ends(folder: Path) -> None:
    program = "from repro.kept import Answers; Answers('ends').get('a', int, lambda: 7)"
    ended = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert not ended.stderr
    assert Answers("ends").get("a", int, never) == 7


@pytest.mark.usefixtures("holder")
def test_a_process_that_ends_and_may_start_no_thread_writes_and_waits_for_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ending(_: threading.Thread) -> None:  # as Python 3.12 and newer
        raise RuntimeError("can't create new thread at interpreter shutdown")

    kept = Answers("stuck")
    assert kept.get("a", int, lambda: 7) == 7
    monkeypatch.setattr(threading.Thread, "start", ending)
    kept.save()
    assert Answers("stuck").get("a", int, never) == 7


@pytest.mark.parametrize("ask", [Answers.get, Answers.get_for_good])
def test_a_folder_that_cannot_be_written_is_no_mistake(
    ask: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/nowhere")
    kept = Answers("nowhere")
    assert ask(kept, "a", int, lambda *_: 1) == 1
    kept.save()


def test_of_several_processes_one_makes_what_is_for_good() -> None:
    program = (
        "import os, time\nfrom repro.kept import Answers\n"
        "def make(_): time.sleep(0.5); return os.getpid()\n"
        "print(Answers('who').get_for_good('a', int, make))"
    )
    command = [sys.executable, "-c", program]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert len({process.communicate()[0] for process in running}) == 1


def test_an_answer_that_is_not_settled_is_made_anew_from_the_kept_one() -> None:
    kept = Answers("better")
    assert kept.get_for_good("a", int, lambda earlier: 1 if earlier is None else 9) == 1
    for answer in (2, 3, 3):
        assert Answers("better").get_for_good("a", int, lambda a: a + 1, lambda a: a == 3) == answer


@pytest.fixture
def holder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of the answers "stuck", while nobody waits for long."""
    monkeypatch.setattr("repro.kept.PATIENCE", 0.2)
    folder.mkdir()
    program = (
        "import fcntl, sys, time\nfile = open(sys.argv[1], 'a')\n"
        "fcntl.flock(file, fcntl.LOCK_EX)\nprint('held', flush=True)\ntime.sleep(60)"
    )
    command = [sys.executable, "-c", program, str(folder / ".stuck.lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.mark.usefixtures("holder")
def test_a_lock_that_is_not_to_be_had_holds_nobody_up_and_nothing_is_kept(folder: Path) -> None:
    kept = Answers("stuck")
    begun = time.monotonic()
    for answer in range(100):
        assert kept.get_for_good("a", int, lambda _, answer=answer: answer) == answer
    assert kept.get("b", int, lambda: 7) == 7
    kept.save()
    assert not (folder / "stuck.json").exists()
    assert time.monotonic() - begun < 100 * 0.2  # waited once, not for each


@pytest.mark.usefixtures("holder")
def test_without_the_lock_what_is_kept_serves_though_it_is_not_settled(folder: Path) -> None:
    (folder / "stuck.json").write_text('{"a": 3}')
    assert Answers("stuck").get_for_good("a", int, never, lambda _: False) == 3


def test_a_lock_that_comes_too_late_is_given_back(
    holder: subprocess.Popen[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Answers("stuck").get_for_good("a", int, lambda _: 1) == 1
    holder.kill()
    monkeypatch.setattr("repro.kept.PATIENCE", 60.0)
    assert Answers("stuck").get_for_good("a", int, lambda _: 2) == 2
    assert json.loads((folder / "stuck.json").read_text())["answers"] == {"a": 2}


def test_a_mistake_while_answering_is_raised_and_not_kept(folder: Path) -> None:
    def mistake(*_: object) -> int:
        raise UserError("no such row")

    kept = Answers("mistakes")
    for ask in (kept.get, kept.get_for_good):
        with pytest.raises(UserError, match="no such row"):
            ask("a", int, mistake)
    kept.save()
    assert not (folder / "mistakes.json").exists()


def test_a_digest_changes_with_files_code_and_versions(tmp_path: Path) -> None:
    file = tmp_path / "one.yaml"
    file.write_text("a: 1")
    before = digest([file], ["config"], ["msgspec"])
    assert digest([file], ["config"], ["msgspec"]) == before
    file.write_text("a: 2")
    others = [digest([file], ["config"], ["msgspec"]), digest([file], ["config"], ["numpy"])]
    others += [digest([file], ["kept.py"], ["msgspec"]), digest([], ["config"], ["msgspec"])]
    assert len({before, *others}) == 5


def test_only_the_latest_states_are_kept(folder: Path) -> None:
    for state in range(KEPT + 2):
        learned("states", str(state), a=state)
    assert len(list(folder.glob("states-?.json"))) == KEPT
    assert Answers("states", str(KEPT + 1)).get("a", int, never) == KEPT + 1


def test_no_flipped_bit_of_a_file_is_another_answer(folder: Path) -> None:
    learned("numbers", a=12345, b=[1.5, 2.5])
    file = folder / "numbers.json"
    content, draw, made = file.read_bytes(), random.Random(0), 0
    for _ in range(200):
        damaged = bytearray(content)
        damaged[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        file.write_bytes(damaged)
        kept = Answers("numbers")
        made += "a" not in kept
        assert kept.get("a", int, lambda: 12345) == 12345
        assert kept.get("b", list[float], lambda: [1.5, 2.5]) == [1.5, 2.5]
    assert made > 150


def test_answers_under_another_name_are_no_answers(folder: Path) -> None:
    learned("ours", a=1)
    (folder / "theirs.json").write_bytes((folder / "ours.json").read_bytes())
    assert "a" not in Answers("theirs")


def test_the_newest_answers_are_kept_and_a_file_does_not_grow_for_ever(folder: Path) -> None:
    kept = Answers("many")
    for number in range(MOST + 5):
        kept.get(str(number), int, lambda number=number: number)
    kept.save()
    later = Answers("many")
    assert [str(number) in later for number in (0, 4, 5, MOST + 4)] == [False, False, True, True]
