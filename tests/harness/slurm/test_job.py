"""What a job gives its workers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from repro.harness.local.pool import Slot
from repro.harness.runs.store import create_run
from repro.harness.slurm import job
from tests.conftest import MakeConfig


@pytest.mark.parametrize(("ranks", "shown"), [(1, "GPU-a"), (2, None)])
def test_the_leader_of_several_ranks_sees_the_gpus_that_its_followers_see(
    ranks: int,
    shown: str | None,
    tmp_path: Path,
    smoke: MakeConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run of one rank sees its own GPU; ranks take theirs by their place among all of them."""
    given: list[Slot] = []

    class Pool:
        asked = 0

        def __init__(self, _: Any, slots: Sequence[Slot], *__: Any, **___: Any) -> None:
            given.extend(slots)

        def on_signal(self, *_: Any) -> None: ...

        def work(self) -> None: ...

    monkeypatch.setattr(job, "Pool", Pool)
    monkeypatch.setattr(job, "SIGNALS", ())
    monkeypatch.setattr(job, "visible_gpus", lambda: ["GPU-a", "GPU-b"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    folder = create_run(tmp_path, "one", smoke({"resources.ranks": ranks}))
    job._lead([folder], ranks, [])
    assert [slot.environment().get("CUDA_VISIBLE_DEVICES") for slot in given] == [shown]
