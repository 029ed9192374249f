"""Which GPUs a process may use, as the driver, the device files or the environment say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from repro import hardware
from repro.hardware import free_gpu_memory, visible_gpus

WHOLE = "GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77"
DIVIDED = "GPU-d5daf6d5-1f1f-4b9f-9a3c-1d0c1f0f6a11"
PARTS = ["MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f", "MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb"]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file to be written in the place of nvidia-smi."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    file = tmp_path / "nvidia-smi"
    file.touch(0o755)
    return file


@pytest.fixture
def two_device_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "dev"
    folder.mkdir()
    for name in ("nvidia0", "nvidia3", "nvidiactl", "nvidia-uvm"):
        (folder / name).touch()
    found = hardware._device_files(folder)
    monkeypatch.setattr(hardware, "_device_files", lambda: found)


def test_of_a_divided_card_a_process_can_have_a_part_but_not_the_whole(program: Path) -> None:
    program.write_text(
        "#!/bin/sh\n"
        f"echo 'GPU 0: NVIDIA A100-SXM4-40GB (UUID: {WHOLE})'\n"
        f"echo 'GPU 1: NVIDIA H200 (UUID: {DIVIDED})'\n"
        f"echo '  MIG 1g.18gb     Device  0: (UUID: {PARTS[0]})'\n"
        f"echo '  MIG 1g.18gb     Device  1: (UUID: {PARTS[1]})'\n"
    )
    assert visible_gpus() == [WHOLE, *PARTS]


def test_a_driver_that_fails_has_no_gpus(program: Path, two_device_files: None) -> None:
    program.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed because it could not'\nexit 9\n")
    assert visible_gpus() == []


def test_a_driver_that_hangs_is_not_waited_for(
    program: Path, two_device_files: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "SECONDS_TO_ANSWER", 0.2)
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    assert visible_gpus() == ["0", "1"]


def test_without_nvidias_tools_the_device_files_are_counted_as_cuda_does(
    two_device_files: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", "")
    assert visible_gpus() == ["0", "1"]


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        ("NoDevFiles", []),  # what SLURM sets for a job without GPUs
        ("none", []),
        ("1, 0", ["1", "0"]),
        ("0,-1,1", ["0"]),  # CUDA stops reading there
        (PARTS[0], PARTS[:1]),
        (f"MIG-{DIVIDED}/1/0", [f"MIG-{DIVIDED}/1/0"]),  # as drivers before 470 name a part
    ],
)
def test_a_choice_made_outside_is_read_as_cuda_reads_it(
    chosen: str, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert visible_gpus() == names


def test_free_memory_of_a_gpu_is_what_the_driver_says_or_not_known(program: Path) -> None:
    program.write_text('#!/bin/sh\ntest "$2" = GPU-a && echo 143000 || echo "[N/A]"\n')
    assert free_gpu_memory("GPU-a") == 143000 * 2**20
    assert free_gpu_memory("MIG-b") is None
