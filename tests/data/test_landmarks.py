"""Retrieval sets: the revisited benchmarks' own layout, and places cut from photographs."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from repro.data.landmarks import CONTEXT, EASY, HARD, JUNK, SQUARE, make_landmarks, open_revisited
from repro.errors import UserError


def write(root: Path, gnd: Any) -> Path:
    """roxford5k/gnd_roxford5k.pkl and three pictures."""
    folder = root / "roxford5k"
    (folder / "jpg").mkdir(parents=True)
    for number, name in enumerate(("all_souls_1", "ashmolean_2", "query_3")):
        Image.new("RGB", (20, 10), (80 * number, 0, 0)).save(folder / "jpg" / f"{name}.jpg")
    (folder / "gnd_roxford5k.pkl").write_bytes(pickle.dumps(gnd, protocol=2))
    return root


GND = {
    "imlist": ["all_souls_1", "ashmolean_2"],
    "qimlist": ["query_3"],
    "gnd": [
        {
            "bbx": [2.4, 1.0, 12.6, 9.0],
            "easy": np.array([0]),
            "hard": np.array([1], dtype=np.int32),
            "junk": np.array([], dtype=np.int64),
        }
    ],
}


@pytest.mark.parametrize("inside", ["", "roxford5k"])
def test_the_benchmark_s_own_files_are_read(tmp_path: Path, inside: str) -> None:
    found = open_revisited(write(tmp_path, GND) / inside, "roxford5k")
    (truth,) = found.truths
    assert (truth.easy, truth.hard, truth.junk) == ((0,), (1,), ())
    assert [int(image[0, 0, 0]) for image in found.database] == [0, pytest.approx(80, abs=3)]
    (whole,), (cut,) = list(found.queries(False)), list(found.queries(True))
    assert whole.shape == (3, 10, 20)
    assert cut.shape == (3, 8, 11)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch /tmp/never",)


@pytest.mark.parametrize(
    ("gnd", "words"),
    [
        ({"imlist": [], "qimlist": []}, "no ground truth of roxford5k"),
        (GND | {"qimlist": ["a", "b"]}, "2 queries, but ground truth for 1"),
        ({"imlist": [], "qimlist": [], "gnd": []}, "0 queries and 0 database images"),
        (GND | {"imlist": ["all_souls_1"]}, "names image 1 of a database of 1"),
        ({"gnd": Evil()}, "which is no data"),
        ([1, 2], "no ground truth"),
    ],
)
def test_a_file_that_is_no_ground_truth_is_refused_and_never_run(
    tmp_path: Path, gnd: Any, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        open_revisited(write(tmp_path, gnd), "roxford5k")
    assert not Path("/tmp/never").exists()


def test_a_folder_without_ground_truth_and_a_box_without_pixels_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no roxford5k/gnd_roxford5k\.pkl there"):
        open_revisited(tmp_path, "roxford5k")
    far = [GND["gnd"][0] | {"bbx": [50.0, 50.0, 60.0, 60.0]}]  # type: ignore[operator]
    found = open_revisited(write(tmp_path, GND | {"gnd": far}), "roxford5k")
    with pytest.raises(UserError, match=r"its box .* holds no pixel"):
        list(found.queries(True))


def test_made_places_are_found_where_they_were_put() -> None:
    made = make_landmarks()
    queries, database = list(made.queries(True)), list(made.database)
    assert len(queries) == 32
    assert all(query.shape == (3, SQUARE, SQUARE) for query in queries)
    whole = next(made.queries(False))
    assert whole.shape[1] <= SQUARE + 2 * CONTEXT
    used: list[int] = []
    for truth in made.truths:
        assert (len(truth.easy), len(truth.hard), len(truth.junk)) == (EASY, HARD, JUNK)
        used += [*truth.easy, *truth.hard, *truth.junk]
    assert len(used) == len(set(used))
    assert len(database) > len(used)  # the haystack
    assert all(torch.equal(a, b) for a, b in zip(database, make_landmarks().database, strict=True))
