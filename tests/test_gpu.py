"""What can be said of a GPU without one: words and parsing. The rest is in tests/gpu."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from repro import gpu

GIB = 2**30
CUDA = torch.device("cuda", 0)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    """140 GiB, of which 20 are free, this process's allocator has 100 and it had used 98."""
    answers = {
        "mem_get_info": (20 * GIB, 140 * GIB),
        "memory_reserved": 100 * GIB,
        "max_memory_allocated": 98 * GIB,
        "get_per_process_memory_fraction": 1.0,
        "get_device_name": "NVIDIA H200",
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda _, answer=answer: answer)


ASKED = """CUDA out of memory. Tried to allocate 32.50 GiB. GPU 0 has a total capacity of 140.00 GiB
of which 20.00 GiB is free. Process 7 has 19.00 GiB memory in use. Including non-PyTorch memory,
this process has 101.00 GiB memory in use."""
UNASKED = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
USED = "; most in use 98.0 GiB of 100.0 GiB taken"


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            ASKED,
            "32.50 GiB more, on NVIDIA H200 (140.0 GiB; 19.0 GiB held by others, 20.0 GiB free)",
        ),
        (UNASKED, "on NVIDIA H200 (140.0 GiB; 20.0 GiB held by others, 20.0 GiB free)"),
    ],
)
def test_it_is_said_what_was_asked_for_and_who_holds_the_rest(
    card: None, message: str, words: str
) -> None:
    assert gpu.memory_words(RuntimeError(message), CUDA) == words + USED


def test_a_driver_that_answers_nothing_leaves_torchs_own_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def dead(_: torch.device) -> None:
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(torch.cuda, "mem_get_info", dead)
    assert gpu.memory_words(RuntimeError(f"{UNASKED}\nmore"), CUDA) == UNASKED


def test_a_share_of_the_card_to_which_torch_is_held_is_said(
    card: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda _: 0.05)
    assert "(140.0 GiB, 5% of it allowed;" in gpu.memory_words(RuntimeError(), CUDA)


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12", "535.183.01"),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build",
            "580.65.06",
        ),
        ("something else", None),
    ],
)
def test_the_drivers_version_is_read_from_the_kernels_own_file(
    line: str, version: str | None, tmp_path: Path
) -> None:
    file = tmp_path / "version"
    assert gpu.driver(file) is None
    file.write_text(f"{line}\nGCC version: gcc 12\n")
    assert gpu.driver(file) == version


def test_the_same_bits_every_time_are_asked_of_all_libraries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("init", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: None)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    try:
        gpu.prepare(torch.device("cpu"), deterministic=True)
        assert not torch.are_deterministic_algorithms_enabled()
        gpu.prepare(CUDA, deterministic=True)
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        torch.use_deterministic_algorithms(False)
        torch.utils.deterministic.fill_uninitialized_memory = True
        torch.backends.cudnn.allow_tf32 = True


def test_torch_lets_no_convolution_round_to_tf32_once_a_gpu_is_prepared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("init", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: None)
    before = torch.backends.cudnn.allow_tf32
    try:
        torch.backends.cudnn.allow_tf32 = True  # torch's default
        gpu.prepare(torch.device("cpu"))
        assert torch.backends.cudnn.conv.fp32_precision == "tf32"
        gpu.prepare(CUDA)
        assert torch.backends.cudnn.conv.fp32_precision != "tf32"
        assert torch.backends.cuda.matmul.fp32_precision == "ieee"
    finally:
        torch.backends.cudnn.allow_tf32 = before
