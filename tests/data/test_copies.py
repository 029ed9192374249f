"""Copy-detection sets: Copydays' own layout, and copies of windows of photographs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from repro.data.copies import MANIPULATE, make_copies, open_copydays, strong_copy
from repro.data.pictures import levels, picture
from repro.errors import UserError
from repro.randomness import generator


def write(root: Path, names: dict[str, list[str]]) -> Path:
    for folder, files in names.items():
        (root / folder).mkdir(parents=True)
        for name in files:
            Image.new("RGB", (8, 8), (int(name[:4]) % 256, 0, 0)).save(root / folder / name)
    return root


ORIGINALS = ["200000.jpg", "200100.jpg"]


def test_the_benchmark_s_own_folders_are_read_and_matched_by_name(tmp_path: Path) -> None:
    names = {"original": ORIGINALS, "strong": ["200001.jpg", "200101.jpg", "200102.jpg"]}
    found = open_copydays(write(tmp_path, names))
    assert found.matches == [[0], [1], [1]]
    assert len(list(found.database)) == 2
    assert list(found.whitening) == []
    further = {"distractors": ["300000.jpg"], "whitening": ["300100.jpg", "300200.jpg"]}
    found = open_copydays(write(tmp_path, further))
    assert len(list(found.database)) == 3
    assert len(list(found.whitening)) == 2
    assert [image.shape for image in found.queries] == [(3, 8, 8)] * 3


def test_a_copy_without_original_and_a_missing_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="original: no such folder"):
        open_copydays(tmp_path)
    write(tmp_path, {"original": ORIGINALS, "strong": ["209900.jpg"]})
    with pytest.raises(UserError, match=r"209900\.jpg: no original begins with 2099"):
        open_copydays(tmp_path)


def test_made_copies_differ_from_their_originals_which_stand_first() -> None:
    made = make_copies()
    again = make_copies()
    originals = max(match[0] for match in made.matches) + 1
    assert originals == 64
    assert len(made.queries) == 128
    assert len(made.database) > originals
    for copy, (place,) in zip(made.queries, made.matches, strict=True):
        assert copy.shape == made.database[place].shape
        assert not torch.equal(copy, made.database[place])
    pairs = zip(made.queries, again.queries, strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("manipulate", MANIPULATE)
def test_every_manipulation_changes_a_picture_and_keeps_its_size(manipulate: object) -> None:
    original = make_copies().database[0]
    changed = levels(manipulate(picture(original), generator(0, "test")))  # type: ignore[operator]
    assert changed.shape == original.shape
    assert not torch.equal(changed, original)
    assert strong_copy(original, generator(0, "test")).shape == original.shape
