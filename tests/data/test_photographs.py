"""The bundled photographs: sixteen real images, no pixel shared by train and test."""

from __future__ import annotations

import pytest
import torch

from repro.config.schema import PHOTOGRAPHS, DataConfig, DataKind
from repro.data import in_memory
from repro.data.datasets import open_dataset
from repro.data.in_memory import MemorySplit
from repro.data.photographs import cut_tiles, load_photograph
from repro.errors import UserError

SMALL = DataConfig(
    kind=DataKind.photographs, name="skimage16", resolution=32, train_tiles=6, test_tiles=3
)


def test_sixteen_photographs_give_labelled_tiles() -> None:
    data = open_dataset(SMALL, "")
    assert data.classes == list(PHOTOGRAPHS)
    assert len(data.classes) == 16
    assert data.train.labels_N.tolist() == [i for i in range(16) for _ in range(6)]
    assert data.test.labels_N.tolist() == [i for i in range(16) for _ in range(3)]
    batches = list(data.test.evaluation_batches(20))
    assert [len(batch) for batch in batches] == [20, 20, 8]
    assert batches[0].shape[1:] == (3, 32, 32)


def test_tiles_are_the_same_every_time_and_do_not_depend_on_a_seed() -> None:
    torch.manual_seed(1)
    first = torch.cat(list(open_dataset(SMALL, "").train.evaluation_batches(50)))
    torch.manual_seed(2)
    again = torch.cat(list(open_dataset(SMALL, "").train.evaluation_batches(50)))
    assert torch.equal(first, again)


def test_the_digest_is_of_pixels_and_labels_and_of_a_part_of_them_where_they_are_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = open_dataset(SMALL, "")
    split = data.train
    assert isinstance(split, MemorySplit)
    assert split.digest() == open_dataset(SMALL, "").train.digest() != data.test.digest()
    for place in (0, 95):
        images_N = split.images_N.clone()
        images_N[place, 2, 31, 31] ^= 1
        assert MemorySplit(images_N, split.labels_N).digest() != split.digest()
    assert MemorySplit(split.images_N, split.labels_N.flip(0)).digest() != split.digest()
    monkeypatch.setattr(in_memory, "DIGESTED", split.images_N.nbytes // 2)
    of_half = split.digest()
    images_N = split.images_N.clone()
    images_N[1] ^= 1
    assert MemorySplit(images_N, split.labels_N).digest() == of_half
    images_N[2] ^= 1
    assert MemorySplit(images_N, split.labels_N).digest() != of_half
    assert split.subset(list(range(95))).digest() != of_half  # the number shows in any case


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_train_tiles_come_from_the_left_half_and_test_tiles_from_the_right(name: str) -> None:
    photograph = load_photograph(name)
    assert photograph.dtype == torch.uint8
    assert photograph.shape[0] == 3
    half = photograph.shape[-1] // 2
    marked = torch.zeros_like(photograph)
    marked[..., half:] = 1
    train = cut_tiles(marked[..., :half], SMALL, 20, f"{name} train")
    test = cut_tiles(marked[..., half:], SMALL, 20, f"{name} test")
    assert int(train.max()) == 0
    assert int(test.min()) == 1


def test_a_tile_is_a_piece_of_the_photograph() -> None:
    photograph = load_photograph("camera")
    tile = cut_tiles(photograph, SMALL, 1, "camera train")[0]
    windows = photograph[0].unfold(0, 32, 1).unfold(1, 32, 1)
    assert bool((windows == tile[0]).flatten(2).all(-1).any())


def test_a_tile_is_resized_to_the_resolution() -> None:
    config = DataConfig(kind=DataKind.photographs, resolution=16, tile=48, train_tiles=2)
    tiles = cut_tiles(load_photograph("astronaut"), config, 2, "astronaut train")
    assert tiles.shape == (2, 3, 16, 16)


@pytest.mark.slow
def test_a_tile_larger_than_half_a_photograph_is_refused() -> None:
    config = DataConfig(kind=DataKind.photographs, tile=200)
    with pytest.raises(
        UserError, match=r"data\.tile=200 is larger than half a photograph \(coins: 303x192"
    ):
        open_dataset(config, "")
