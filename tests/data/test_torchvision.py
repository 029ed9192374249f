"""Data sets of torchvision: opened by name, known by files or, without any, by pixels."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from repro.config.schema import DataConfig, DataKind, Resources
from repro.data import from_files
from repro.data.datasets import open_dataset
from repro.data.from_files import file_split
from repro.errors import UserError
from tests.data.test_folders import CONFIG, views_of, write_tree


def test_torchvisions_files_are_known_by_place_and_content(tmp_path: Path) -> None:
    """As a person replaces pictures, or keeps two sets under one name."""
    config = DataConfig(kind=DataKind.torchvision, name="Country211", resolution=32, eval_resize=36)
    roots = [tmp_path / name for name in ("a", "b")]
    for root in roots:
        write_tree(root / "country211", parts=("train", "test", "valid"))
    prints = [open_dataset(config, str(root)).test.fingerprint() for root in roots]
    changed = roots[0] / "country211" / "test" / "camera" / "0.png"
    Image.new("L", (90, 60)).save(changed)
    prints.append(open_dataset(config, str(roots[0])).test.fingerprint())
    assert len(set(prints)) == 3
    changed.write_bytes(b"torn")
    with pytest.raises(UserError, match=str(changed)):
        list(open_dataset(config, str(roots[0])).test.evaluation_batches(10))


def test_images_without_files_are_known_by_their_pixels() -> None:
    def split(level: int) -> from_files.FileSplit:
        def open_(place: int) -> Image.Image:
            return Image.new("L", (8, 8), level * (place == 1))

        return file_split(open_, lambda i: f"Set train image {i}", [0, 1], CONFIG, Resources())[0]

    assert split(7).fingerprint() == split(7).fingerprint() != split(8).fingerprint()


def test_of_a_small_set_without_files_every_image_is_looked_at() -> None:
    """A replaced picture among hundreds, which a sample of 64 would miss."""

    def split(other: int) -> from_files.FileSplit:
        def open_(place: int) -> Image.Image:
            return Image.new("L", (8, 8), 7 * (place == other))

        labels = [place % 2 for place in range(300)]
        name = "Set train image {}".format
        return file_split(open_, name, labels, CONFIG, Resources())[0]

    prints = {split(other).fingerprint() for other in range(100, 120)}
    assert len(prints) == 20


def test_a_torchvision_data_set_is_opened_by_name(tmp_path: Path) -> None:
    write_tree(tmp_path / "country211", parts=("train", "test", "valid"))
    config = DataConfig(kind=DataKind.torchvision, name="Country211", resolution=32, eval_resize=36)
    data = open_dataset(config, str(tmp_path))
    assert data.classes == ["camera", "rocket"]
    assert len(data.test.labels_N) == 6
    assert views_of(data)[0][0].shape == (6, 3, 32, 32)


def test_an_unknown_torchvision_name_gets_the_nearest(tmp_path: Path) -> None:
    config = DataConfig(kind=DataKind.torchvision, name="CIFR10")
    with pytest.raises(UserError, match="nearest: CIFAR10"):
        open_dataset(config, str(tmp_path))
