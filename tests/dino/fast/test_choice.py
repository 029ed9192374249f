"""How a kernel is chosen, and that it is remembered."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from repro.dino.fast.choice import fastest


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "repro-dino" / "kernels.json"


def asked(slow: str, cost: float = 0.003) -> tuple[str, list[str]]:
    calls: list[str] = []

    def candidate(name: str) -> Callable[[], object]:
        def call() -> None:
            calls.append(name)
            time.sleep(cost if name == slow else 0.001)

        return call

    answer = fastest("which?", "cpu", {name: candidate(name) for name in ("usual", "other")})
    return answer, calls


@pytest.mark.usefixtures("cache")
def test_the_usual_kernel_stays_unless_another_is_clearly_faster() -> None:
    assert asked(slow="other")[0] == "usual"
    assert asked(slow="usual")[0] == "usual"  # remembered, not measured again


def test_an_answer_is_remembered_for_this_machine(cache: Path) -> None:
    assert asked(slow="usual")[0] == "other"
    answer, calls = asked(slow="other")
    assert (answer, calls) == ("other", [])
    (key,) = json.loads(cache.read_text())
    assert "which?" in key
    assert torch.__version__ in key
    assert f"{torch.get_num_threads()} threads" in key


def test_a_torn_cache_is_made_anew_and_a_missing_folder_is_no_obstacle(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.parent.mkdir()
    cache.write_text('{"half')
    assert asked(slow="usual")[0] == "other"
    assert json.loads(cache.read_text())
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/nowhere")
    assert asked(slow="usual")[0] == "other"
