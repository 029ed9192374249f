"""Features in files: made once, in order, gone on with where they were stopped."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from repro.config.schema import ModelConfig
from repro.data.in_memory import MemorySplit
from repro.dino.backbones import build_backbone
from repro.errors import UserError
from repro.evals.features import files
from repro.evals.features.files import frozen_features, stream
from repro.evals.features.layers import Layers, extract_features, joined, layer_features

CPU = torch.device("cpu")


@pytest.fixture
def backbone() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_backbone(ModelConfig(dim=32, depth=2, heads=2, patch_size=8, drop_path=0.0), 16)


@pytest.fixture
def split(monkeypatch: pytest.MonkeyPatch) -> MemorySplit:
    monkeypatch.setattr(files, "BATCH", 8)
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (37, 3, 16, 16), dtype=torch.uint8, generator=random)
    return MemorySplit(images, torch.arange(37))


def plain(backbone: torch.nn.Module, split: MemorySplit, layers: Layers) -> Tensor:
    return layer_features(backbone.eval(), next(split.evaluation_batches(99)), layers)


@pytest.mark.parametrize("layers", [Layers(), Layers(2), Layers(1, pooled=True)])
def test_a_file_holds_what_one_forward_pass_gives(
    backbone: torch.nn.Module, split: MemorySplit, tmp_path: Path, layers: Layers
) -> None:
    expected = plain(backbone, split, layers)
    kept = frozen_features(backbone, split, layers, CPU, tmp_path)
    torch.testing.assert_close(kept, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(frozen_features(backbone, split, layers, CPU), kept)
    assert [path.suffix for path in tmp_path.iterdir() if path.suffix != ".lock"] == [".npy"]


def test_features_are_made_once_for_weights_images_and_layers(
    backbone: torch.nn.Module, split: MemorySplit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = frozen_features(backbone, split, Layers(), CPU, tmp_path)
    forwards: list[int] = []
    hook = backbone.register_forward_hook(lambda *_: forwards.append(1))
    assert torch.equal(frozen_features(backbone, split, Layers(), CPU, tmp_path), first)
    assert forwards == []
    frozen_features(backbone, split.subset(list(range(36))), Layers(), CPU, tmp_path)
    hook.remove()
    with torch.no_grad():
        next(backbone.parameters()).add_(1.0)
    changed = frozen_features(backbone, split, Layers(), CPU, tmp_path)
    assert not torch.allclose(changed, first)
    assert len(list(tmp_path.glob("*.npy"))) == 3


class Torn(MemorySplit):
    """Stops after two batches, as a killed job does."""

    def evaluation_batches(
        self, size: int, part: tuple[int, int] = (0, 1), first: int = 0
    ) -> Iterator[Tensor]:
        for number, batch in enumerate(super().evaluation_batches(size, part, first)):
            if number == 2:
                raise KeyboardInterrupt
            yield batch


def test_a_stopped_extraction_goes_on_behind_the_last_whole_row(
    backbone: torch.nn.Module, split: MemorySplit, tmp_path: Path
) -> None:
    expected = frozen_features(backbone, split, Layers(), CPU)
    with pytest.raises(KeyboardInterrupt):
        frozen_features(backbone, Torn(split.images_N, split.labels_N), Layers(), CPU, tmp_path)
    (unfinished,) = tmp_path.glob("*.unfinished")
    with unfinished.open("ab") as file:
        file.write(b"torn")  # part of a row
    lines: list[str] = []
    found = frozen_features(backbone, split, Layers(), CPU, tmp_path, lines.append)
    assert torch.equal(found, expected)
    assert lines[0].endswith("of 37 images were done before")
    assert not unfinished.exists()


@pytest.mark.parametrize("damaged", ["unfinished", "checks"])
def test_rows_that_changed_since_an_extraction_was_stopped_are_made_again(
    damaged: str,
    backbone: torch.nn.Module,
    split: MemorySplit,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(files, "BATCH", 8)
    expected = frozen_features(backbone, split, Layers(), CPU)
    torn = Torn(split.images_N, split.labels_N)
    for place in range(0, 100, 9):
        with pytest.raises(KeyboardInterrupt):
            frozen_features(backbone, torn, Layers(), CPU, tmp_path)
        (file,) = tmp_path.glob(f"*.{damaged}")
        spoilt = bytearray(file.read_bytes())
        spoilt[len(spoilt) * place // 100] ^= 4
        file.write_bytes(spoilt)
        assert torch.equal(frozen_features(backbone, split, Layers(), CPU, tmp_path), expected)
        assert not list(tmp_path.glob("*.checks"))
        next(tmp_path.glob("*.npy")).unlink()


def test_a_file_that_is_no_beginning_of_features_is_begun_again(
    backbone: torch.nn.Module, split: MemorySplit, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        frozen_features(backbone, Torn(split.images_N, split.labels_N), Layers(), CPU, tmp_path)
    (unfinished,) = tmp_path.glob("*.unfinished")
    unfinished.write_bytes(b"nothing like it")
    found = frozen_features(backbone, split, Layers(), CPU, tmp_path)
    assert torch.equal(found, frozen_features(backbone, split, Layers(), CPU))


@pytest.mark.parametrize("damage", ["flipped", "cut", "another", "shape", "earlier"])
def test_a_file_that_is_not_what_was_written_is_made_again(
    damage: str, backbone: torch.nn.Module, split: MemorySplit, tmp_path: Path
) -> None:
    expected = frozen_features(backbone, split, Layers(), CPU)
    frozen_features(backbone, split, Layers(), CPU, tmp_path)
    (file,) = tmp_path.glob("*.npy")
    whole = file.read_bytes()
    if damage == "flipped":
        spoilt = bytearray(whole)
        spoilt[len(whole) // 2] ^= 4
        file.write_bytes(spoilt)
    elif damage == "cut":
        file.write_bytes(whole[:1000])
    elif damage == "another":  # of other weights, under this name
        with torch.no_grad():
            next(backbone.parameters()).add_(1.0)
        other = tmp_path / "other"
        frozen_features(backbone, split, Layers(), CPU, other)
        file.write_bytes(next(other.glob("*.npy")).read_bytes())
        with torch.no_grad():
            next(backbone.parameters()).sub_(1.0)
        expected = frozen_features(backbone, split, Layers(), CPU)
    elif damage == "earlier":
        file.write_bytes(whole[:-16])
    else:
        np.save(file, np.zeros((3, 3), "float32"))
    found = frozen_features(backbone, split, Layers(), CPU, tmp_path)
    if damage != "another":
        assert file.read_bytes() == whole
    assert torch.equal(found, expected)


def test_no_flipped_bit_of_a_file_is_another_feature(
    backbone: torch.nn.Module, split: MemorySplit, tmp_path: Path
) -> None:
    expected = frozen_features(backbone, split, Layers(), CPU, tmp_path).clone()
    (file,) = tmp_path.glob("*.npy")
    whole, draw = file.read_bytes(), random.Random(0)
    for _ in range(30):
        spoilt = bytearray(whole)
        spoilt[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        file.write_bytes(spoilt)
        assert torch.equal(frozen_features(backbone, split, Layers(), CPU, tmp_path), expected)
        assert file.read_bytes() == whole


def test_several_devices_take_turns_and_the_order_stays(
    backbone: torch.nn.Module, split: MemorySplit
) -> None:
    batches = list(split.evaluation_batches(5))
    backbone.eval()
    one = torch.cat(list(stream(backbone, batches, Layers(), [CPU])))
    three = torch.cat(list(stream(backbone, batches, Layers(), [CPU, CPU, CPU])))
    assert torch.equal(one, three)


def test_a_full_disk_is_one_line(
    backbone: torch.nn.Module, split: MemorySplit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.npy, "write_array_header_1_0", full)
    with pytest.raises(UserError, match="cannot keep features: No space left on device"):
        frozen_features(backbone, split, Layers(), CPU, tmp_path)


@pytest.mark.parametrize(
    ("pixels", "sizes"), [(1, [8, 8, 8, 8, 5]), (16 * 16 * 16, [16, 16, 5]), (10**9, [37])]
)
def test_small_images_are_joined_to_batches_that_keep_a_gpu_busy(
    split: MemorySplit, pixels: int, sizes: list[int]
) -> None:
    batches = list(joined(split.evaluation_batches(8), pixels))
    assert [len(batch) for batch in batches] == sizes
    assert torch.equal(torch.cat(batches), next(split.evaluation_batches(99)))


def test_features_of_all_batches_stand_in_the_order_of_the_images(
    backbone: torch.nn.Module, split: MemorySplit
) -> None:
    expected = plain(backbone, split, Layers())
    torch.testing.assert_close(extract_features(backbone, split, 8, CPU), expected)
