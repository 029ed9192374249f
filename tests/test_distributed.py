"""How a process joins the others: which GPU it takes, how long it waits, what it leaves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist

from repro import distributed
from repro.distributed import joined, own_gpu


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What torch is asked for, instead of what it would do with GPUs."""
    seen: dict[str, Any] = {"ended": 0}

    def begin(backend: str, **settings: object) -> None:
        seen.update(settings, backend=backend)

    def end() -> None:
        seen["ended"] += 1

    monkeypatch.setattr(dist, "init_process_group", begin)
    monkeypatch.setattr(dist, "destroy_process_group", end)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: seen.update(device=device))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    return iter([seen])


@pytest.mark.parametrize(("visible", "index"), [(8, 1), (1, 0)])
def test_a_rank_takes_its_gpu_before_it_joins(
    calls: Iterator[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, visible: int, index: int
) -> None:
    # --gpus-per-task shows a rank its own GPU alone, whatever its local rank.
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    seen = next(calls)
    with joined(2, "cuda"):
        pass
    assert seen["device"] == torch.device("cuda", index)
    assert (seen["backend"], seen["timeout"]) == ("nccl", distributed.PATIENCE)
    assert seen["ended"] == 1


@pytest.mark.parametrize(("device", "ended"), [("cuda", 0), ("cpu", 1)])
def test_after_an_error_nothing_is_waited_for_that_other_ranks_have_to_do(
    calls: Iterator[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, device: str, ended: int
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    seen = next(calls)
    with pytest.raises(ValueError, match="unreadable"), joined(2, device):
        raise ValueError("unreadable")
    assert seen["ended"] == ended


def test_local_ranks_count_round_the_gpus_that_a_process_sees() -> None:
    assert [own_gpu(rank, 8) for rank in (0, 7)] == [0, 7]
    assert [own_gpu(rank, 1) for rank in (0, 1, 7)] == [0, 0, 0]
