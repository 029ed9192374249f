"""Classification benchmarks in their own layouts: iNaturalist, Places205, CIFAR, Flowers, Cars."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image

from repro.config.schema import DataConfig, DataKind, Resources
from repro.data.dataset import Dataset
from repro.data.datasets import open_dataset
from repro.data.listed import open_inaturalist, open_places205
from repro.errors import UserError

SMALL = DataConfig(name="small", resolution=16, eval_resize=16)


def picture(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 20), (level, level, level)).save(path)


def images_of(data: Dataset) -> torch.Tensor:
    return torch.cat(list(data.train.evaluation_batches(8)))


@pytest.fixture
def inaturalist(tmp_path: Path) -> Path:
    for part, numbers in (("train", [0, 1, 2]), ("val", [3])):
        content: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
        for number in numbers:
            name = f"train_val2018/Plantae/{number % 2}/{number}.jpg"
            picture(tmp_path / name, 60 * number)
            content["images"].append({"id": number, "file_name": name})
            content["annotations"].append({"image_id": number, "category_id": number % 2})
        content["categories"] = [{"id": 0, "name": "a"}, {"id": 1, "name": "b"}]
        (tmp_path / f"{part}2018.json").write_text(json.dumps(content))
    return tmp_path


def test_inaturalist_is_read_from_its_lists(inaturalist: Path) -> None:
    data = open_inaturalist(SMALL, inaturalist, Resources(), 2018)
    assert data.train.labels_N.tolist() == [0, 1, 0]
    assert data.test.labels_N.tolist() == [1]
    assert len(data.classes) == 2
    assert images_of(data).shape == (3, 3, 16, 16)


def test_lists_that_are_not_inaturalist_s_are_named(inaturalist: Path) -> None:
    with pytest.raises(UserError, match=r"train2019\.json: no such list"):
        open_inaturalist(SMALL, inaturalist, Resources(), 2019)
    (inaturalist / "train2018.json").write_text('{"images": []}')
    with pytest.raises(UserError, match="not a list of iNaturalist 2018"):
        open_inaturalist(SMALL, inaturalist, Resources(), 2018)
    (inaturalist / "train2018.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        open_inaturalist(SMALL, inaturalist, Resources(), 2018)


@pytest.mark.parametrize("inside", ["", "data/vision/torralba/deeplearning/images256"])
def test_places205_is_read_from_its_lists(tmp_path: Path, inside: str) -> None:
    lists = tmp_path / "trainvalsplit_places205"
    lists.mkdir()
    for part, names in (
        ("train", ["a/abbey/x.jpg 0", "b/bar/y.jpg 1"]),
        ("val", ["a/abbey/z.jpg 0"]),
    ):
        (lists / f"{part}_places205.csv").write_text("\n".join(names) + "\n")
        for line in names:
            picture(tmp_path / inside / line.split()[0], 90)
    data = open_places205(SMALL, tmp_path, Resources())
    assert data.train.labels_N.tolist() == [0, 1]
    assert images_of(data).shape == (2, 3, 16, 16)
    (lists / "val_places205.csv").write_text("only-a-path.jpg\n")
    with pytest.raises(UserError, match="not lines of a path and the number of a class"):
        open_places205(SMALL, tmp_path, Resources())
    (lists / "val_places205.csv").unlink()
    with pytest.raises(UserError, match="give the folder that holds trainvalsplit_places205"):
        open_places205(SMALL, tmp_path, Resources())


def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files are accepted in place of the published ones, whose digests are fixed."""
    for module in ("cifar", "flowers102", "stanford_cars"):
        name = f"torchvision.datasets.{module}"
        for check in ("check_integrity", "check_md5"):
            monkeypatch.setattr(
                f"{name}.{check}", lambda path, *_: Path(path).exists(), raising=False
            )


def torchvision(name: str) -> DataConfig:
    return replace(SMALL, kind=DataKind.torchvision, name=name)


def test_cifar10_is_read_from_its_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known(monkeypatch)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    batch = {"data": np.zeros((2, 3072), dtype=np.uint8), "labels": [3, 7]}
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        (folder / name).write_bytes(pickle.dumps(batch))
    names = {"label_names": [str(i) for i in range(10)]}
    (folder / "batches.meta").write_bytes(pickle.dumps(names))
    data = open_dataset(torchvision("CIFAR10"), str(tmp_path))
    assert data.train.labels_N.tolist() == [3, 7] * 5
    assert len(data.classes) == 10


def test_flowers_train_and_validation_images_are_both_for_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(monkeypatch)
    folder = tmp_path / "flowers-102"
    for number in range(1, 7):
        picture(folder / "jpg" / f"image_{number:05}.jpg", 20 * number)
    scipy.io.savemat(folder / "imagelabels.mat", {"labels": [[1, 2, 1, 2, 1, 2]]})
    scipy.io.savemat(
        folder / "setid.mat", {"trnid": [[1, 2]], "valid": [[3, 4]], "tstid": [[5, 6]]}
    )
    data = open_dataset(torchvision("Flowers102"), str(tmp_path))
    assert data.train.labels_N.tolist() == [0, 1, 0, 1]
    assert data.test.labels_N.tolist() == [0, 1]
    assert images_of(data).shape == (4, 3, 16, 16)


def test_cars_are_read_from_their_annotations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(monkeypatch)
    root = tmp_path / "stanford_cars"
    (root / "devkit").mkdir(parents=True)
    files = {"train": "devkit/cars_train_annos.mat", "test": "cars_test_annos_withlabels.mat"}
    fields = [("fname", "O"), ("class", "O")]
    for part, file in files.items():
        names = ["00001.jpg", "00002.jpg"]
        for name in names:
            picture(root / f"cars_{part}" / name, 99)
        rows = np.array([(name, c) for c, name in enumerate(names, 1)], dtype=fields)
        scipy.io.savemat(root / file, {"annotations": rows})
    makes = np.array(["AM General", "Acura"], dtype=object)
    scipy.io.savemat(root / "devkit" / "cars_meta.mat", {"class_names": makes})
    data = open_dataset(torchvision("StanfordCars"), str(tmp_path))
    assert data.train.labels_N.tolist() == data.test.labels_N.tolist() == [0, 1]
    assert images_of(data).shape == (2, 3, 16, 16)
