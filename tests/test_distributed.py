"""How a process joins the others: which GPU it takes, how long it waits, what it leaves."""

from __future__ import annotations

import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from repro import distributed
from repro.distributed import joined, open_store, own_gpu, take_place


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
    take_place(2, "cuda")
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
    take_place(2, device)
    with pytest.raises(ValueError, match="unreadable"), joined(2, device):
        raise ValueError("unreadable")
    assert seen["ended"] == ended


def test_local_ranks_count_round_the_gpus_that_a_process_sees() -> None:
    assert [own_gpu(rank, 8) for rank in (0, 7)] == [0, 7]
    assert [own_gpu(rank, 1) for rank in (0, 1, 7)] == [0, 0, 0]


def gathered(rank: int, ranks: int, meeting: str, out: str) -> None:
    """A rank's part of the test below: its share of 0, 1, 2, ... and what it receives."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=ranks)
    found = {}
    for rows_at_once in (1, 2, 100):
        distributed.PIECE = rows_at_once * ranks * 3 * 4
        for total in (4, 5, 6, 7):
            rows = torch.arange(3.0 * total).reshape(total, 3)
            mine = distributed.share(rows, (rank, ranks))
            found[rows_at_once, total] = distributed.gather_shares(mine, total)
    found[0] = distributed.gather(torch.full((2, 1), float(rank)), dim=1)
    found[1] = torch.tensor(distributed.of_first(1 / 3 + rank), dtype=torch.float64)
    torch.save(found, f"{out}.{rank}")
    dist.destroy_process_group()


@pytest.mark.parametrize("ranks", [2, 3])
def test_shares_of_unequal_length_come_together_as_they_were(tmp_path: Path, ranks: int) -> None:
    where = str(tmp_path / "meeting"), str(tmp_path / "found")
    run_all(gathered, [(r, ranks, *where) for r in range(ranks)])
    for rank in range(ranks):
        found = torch.load(f"{where[1]}.{rank}")
        assert found.pop(0).tolist() == [[float(r) for r in range(ranks)]] * 2
        assert float(found.pop(1)) == 1 / 3
        for (_, total), rows in found.items():
            whole = torch.arange(3.0 * total).reshape(total, 3)
            assert torch.equal(rows, whole if rank == 0 else whole[:0])


def joining(rank: int, port: int, listening: socket.socket | None) -> None:
    """Rank 1 opens its data for longer than a group waits."""
    store = open_store("127.0.0.1", port, listening.detach() if listening else None)
    os.environ |= {"WORLD_SIZE": "2", "RANK": str(rank)}
    distributed.PATIENCE = timedelta(seconds=4)
    time.sleep(8 * rank)
    with joined(2, "cpu", store):
        assert distributed.any_rank(rank == 1)


def test_ranks_wait_for_the_slowest_data_longer_than_for_each_other() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    run_all(joining, [(0, port, listening), (1, port, None)])


def run_all(target: Callable[..., None], arguments: list[tuple[Any, ...]]) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=target, args=own) for own in arguments]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
