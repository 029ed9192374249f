"""What the doctor's test job finds on its node: here, this machine."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from repro.files import write_json
from repro.harness.slurm import probe as module
from repro.harness.slurm.probe import Node, lock_reaches, probe, read_node


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHECKPOINT_BYTES", 10**6)


def probed(folder: Path) -> tuple[Node, bool | None]:
    """What the job of another process finds, and whether its lock reaches here."""
    answer = folder / "answer.json"
    job = threading.Thread(target=probe, args=(str(answer),))
    job.start()
    while (node := read_node(answer)) is None:
        time.sleep(0.05)
    reaches = lock_reaches(answer)
    job.join(10)
    assert not job.is_alive()
    return node, reaches


def test_the_probe_tells_what_its_node_is_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "train").touch()
    folders = [str(tmp_path / "full"), "/nowhere", "$NO_SUCH_VARIABLE/x"]
    write_json(tmp_path / "answer.data", folders)
    node, reaches = probed(tmp_path)
    assert node.cpus >= 1
    assert node.import_ == ""
    assert abs(node.time - node.written) < 5
    assert node.checkpoint_seconds > 0
    faults = [node.data[folder] for folder in folders]
    assert faults[0] == ""
    assert "No such file" in faults[1]
    assert "NO_SUCH_VARIABLE is not set" in faults[2]
    assert (node.lock, reaches) == ("", True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answer.json", "full"]


def test_a_lock_that_stays_on_its_node_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Emulated: a file system whose flock knows only its own node lets both have it."""
    monkeypatch.setattr(module.fcntl, "flock", lambda *_: None)
    assert probed(tmp_path)[1] is False


def test_a_lock_that_the_job_no_longer_holds_tells_nothing(tmp_path: Path) -> None:
    assert lock_reaches(tmp_path / "answer.json") is None
    assert not (tmp_path / "answer.lock").exists()


def test_a_file_system_without_locks_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(module.fcntl, "flock", refuse)
    probe(str(tmp_path / "answer.json"))
    node = read_node(tmp_path / "answer.json")
    assert node is not None
    assert node.lock == "No locks available"
