"""Pictures without classes train; what they are evaluated on, if anything, has some."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from repro.config.schema import DataConfig, DataKind, LossKind, Operation, RunConfig
from repro.data.datasets import count_training_images, open_dataset
from repro.errors import UserError
from repro.sizing import check_method
from repro.train import Trainer
from tests.data.test_folders import CONFIG, views_of, write_tree

CPU = torch.device("cpu")


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    write_tree(tmp_path / "made")
    shutil.move(tmp_path / "made" / "train", tmp_path / "flat")
    return tmp_path / "flat"


@pytest.mark.parametrize("layout", ["nested", "flat", "train"])
def test_a_folder_of_pictures_trains(flat: Path, tmp_path: Path, layout: str) -> None:
    root = flat
    if layout != "nested":
        root = tmp_path / "other"
        inside = root / "train" if layout == "train" else root
        inside.mkdir(parents=True)
        for number, file in enumerate(sorted(flat.rglob("*.png"))):
            shutil.copy(file, inside / f"{number}.png")
    data = open_dataset(CONFIG, str(root))
    assert data.classes == []
    assert data.judged is None
    assert len(data.train.labels_N) == 6
    assert len(data.test.labels_N) == 0
    assert views_of(data)[0][0].shape == (6, 3, 32, 32)
    assert set(data.digests()) == {"train"}
    assert data.notes[-1].endswith(
        "6 pictures without classes: k-NN and other evaluations are left out"
    )
    assert count_training_images(CONFIG, str(root)) == 6


def test_evaluations_are_made_on_another_folder(flat: Path, tmp_path: Path) -> None:
    labelled = write_tree(tmp_path / "labelled", images=2)
    data = open_dataset(CONFIG, str(flat), labelled=str(labelled))
    assert data.judged is data.labelled
    assert data.labelled is not None
    assert data.labelled.classes == ["camera", "rocket"]
    assert len(data.train.labels_N) == 6
    assert set(data.digests()) == {"train", "test", "labelled"}
    assert not any("left out" in line for line in data.notes)
    with pytest.raises(UserError, match=r"paths\.labelled=.*needs train/CLASS"):
        open_dataset(CONFIG, str(flat), labelled=str(flat))


def test_classes_that_are_half_there_are_not_taken_for_none(flat: Path, tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    shutil.move(flat, tmp_path / "half" / "train")
    with pytest.raises(
        UserError, match=r"no folder 'val' there.*without classes paths\.data=.*/train"
    ):
        open_dataset(CONFIG, str(tmp_path / "half"))
    shutil.move(tmp_path / "half" / "train", tmp_path / "half" / "val")
    with pytest.raises(UserError, match="no folder 'train' there"):
        open_dataset(CONFIG, str(tmp_path / "half"))


@pytest.mark.parametrize("judged", [False, True])
def test_a_training_without_classes_leaves_k_nn_out(
    flat: Path, tmp_path: Path, smoke_config: RunConfig, judged: bool
) -> None:
    smoke_config.data = DataConfig(DataKind.folder, "flat", resolution=32, eval_resize=32)
    smoke_config.train.batch_size, smoke_config.train.epochs = 2, 1
    labelled = str(write_tree(tmp_path / "labelled", images=2)) if judged else ""
    trainer = Trainer(
        smoke_config, open_dataset(smoke_config.data, str(flat), labelled=labelled), CPU
    )
    events = list(trainer.run())
    result = trainer.result()
    accuracies = [e[key] for e in events if e["kind"] == "eval" for key in ("knn", "student_knn")]
    assert all((accuracy is not None) == judged for accuracy in accuracies)
    assert (result["metrics"]["knn"] is not None) == judged
    assert result["counts"]["classes"] == (2 if judged else 0)
    assert result["counts"]["test_images"] == (4 if judged else None)
    assert result["counts"]["train_images"] == 6
    assert result["metrics"]["loss"] > 0


def test_labels_as_targets_need_classes(flat: Path, smoke_config: RunConfig) -> None:
    smoke_config.target.operation = Operation.labels
    with pytest.raises(UserError, match="labels as targets need train/CLASS"):
        Trainer(smoke_config, open_dataset(CONFIG, str(flat)), CPU)


def test_only_prototypes_are_sized(smoke_config: RunConfig) -> None:
    check_method(smoke_config)
    assert count_training_images(smoke_config.data, "") == smoke_config.data.images_made
    smoke_config.loss.kind = LossKind.mse
    with pytest.raises(UserError, match=r"--size-to-data: loss\.kind=mse"):
        check_method(smoke_config)
