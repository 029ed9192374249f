"""A bounded part of `damaged_store`: bits flipped and files cut in a whole store, a seed's draw."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.damaged_store import damage, make


@pytest.mark.slow
def test_no_damage_of_a_store_changes_a_number_without_being_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REPRO_RESULTS", "XDG_CACHE_HOME", "REPRO_THREADS"):
        monkeypatch.setenv(name, "")  # so that what `make` sets goes with this test
    store = make(tmp_path, 1)
    assert "healthy" in store.said
    assert "interrupted  3/" in store.said
    for _ in damage(store, flips=4, cuts=3):
        pass
    assert store.wrong == []
    assert store.outcomes.total() == 7
    assert store.outcomes["named"] > 1
