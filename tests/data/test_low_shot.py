"""Low-shot subsets: a share of every class, or what a published list names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from repro.config.schema import DataConfig, DataKind, Resources
from repro.data.dataset import Dataset
from repro.data.datasets import open_dataset
from repro.data.from_files import file_split
from repro.data.low_shot import draw, low_shot
from repro.errors import UserError
from tests.data.fuzz import answer, examples

LABELS = st.lists(st.integers(0, 5), min_size=1, max_size=200).map(torch.tensor)


@given(labels=LABELS, share=st.floats(0.01, 1.0))
def test_every_class_keeps_its_share_and_at_least_one_image(
    labels: torch.Tensor, share: float
) -> None:
    chosen = draw(labels, share)
    assert chosen == sorted(set(chosen))
    for label in torch.unique(labels).tolist():
        kept = sum(int(labels[place]) == label for place in chosen)
        assert kept == max(1, round(share * int((labels == label).sum())))


@given(labels=LABELS)
def test_one_percent_lies_within_ten_percent_and_all_is_all(labels: torch.Tensor) -> None:
    assert set(draw(labels, 0.01)) <= set(draw(labels, 0.1))
    assert draw(labels, 1.0) == list(range(len(labels)))


def test_test_images_stay_and_training_images_go() -> None:
    data = open_dataset(DataConfig(kind=DataKind.photographs, resolution=32, train_tiles=20), "")
    few = low_shot(data, 0.1)
    assert len(few.train.labels_N) == 2 * 16
    assert few.test is data.test
    every = torch.cat(list(data.train.evaluation_batches(999)))
    kept = torch.cat(list(few.train.evaluation_batches(999)))
    assert torch.equal(kept, every[draw(data.train.labels_N, 0.1)])


@pytest.fixture
def tree(tmp_path: Path) -> Dataset:
    for part in ("train", "val"):
        for number, name in enumerate(("n01", "n02")):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(3):
                path = tmp_path / part / name / f"{name}_{i}.JPEG"
                Image.new("RGB", (40, 40), (90 * number + 20 * i, 0, 0)).save(path)
    config = DataConfig(name="tiny", resolution=32, eval_resize=32)
    return open_dataset(config, str(tmp_path), Resources())


def test_a_published_list_of_file_names_is_taken(tree: Dataset, tmp_path: Path) -> None:
    listed = tmp_path / "1percent.txt"
    listed.write_text("n02_1.JPEG\nn01_0.JPEG\n\n")
    few = low_shot(tree, 0.01, str(listed))
    assert few.train.labels_N.tolist() == [0, 1]
    images = torch.cat(list(few.train.evaluation_batches(8)))
    every = torch.cat(list(tree.train.evaluation_batches(8)))
    assert torch.equal(images, every[[0, 4]])


def test_images_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for number, name in enumerate(("cat", "dog")):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(3):
                Image.new("L", (40, 40), 9 * number + i).save(tmp_path / part / name / f"{i}.png")
    data = open_dataset(DataConfig(name="pets", resolution=32, eval_resize=32), str(tmp_path))
    listed = tmp_path / "list.txt"
    every = torch.cat(list(data.train.evaluation_batches(9)))
    for lines in ("dog/1.png\ncat/0.png\n", "train/dog/1.png\n./cat/0.png\r\ncat/0.png\n"):
        listed.write_text(lines)
        few = low_shot(data, 0.1, str(listed))
        assert few.train.labels_N.tolist() == [0, 1]
        images = torch.cat(list(few.train.evaluation_batches(9)))
        assert torch.equal(images, every[[0, 4]])
    listed.write_text("1.png\ndog/2.png\n")
    with pytest.raises(UserError, match=r"1\.png is the name of 2 images; write CLASS/1\.png"):
        low_shot(data, 0.1, str(listed))
    listed.write_text("dog/cat/1.png\n")
    with pytest.raises(UserError, match=r"1 of its 1 images are not there, e\.g\. dog/cat/1\.png"):
        low_shot(data, 0.1, str(listed))


@settings(max_examples=examples(100), deadline=None)
@given(content=st.one_of(st.binary(max_size=60), st.sampled_from([b"n01_1.JPEG\n/\n", b"..\n"])))
def test_any_bytes_are_a_list_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_bytes(content)
    split, _ = file_split(Image.open, "n01/n01_{}.JPEG".format, [0, 0], DataConfig(), Resources())  # type: ignore[arg-type]
    data = Dataset("two", ["n01"], split, split)
    chosen = answer(lambda: low_shot(data, 0.5, str(path)).train.labels_N)
    assert path.name in chosen if isinstance(chosen, str) else 1 <= len(chosen) <= 2


@pytest.mark.parametrize(
    ("content", "words"),
    [("n01_0.JPEG\nn09_7.JPEG\n", "1 of its 2 images are not there, e.g. n09_7"), ("", "empty")],
)
def test_a_list_that_does_not_fit_is_refused(
    tree: Dataset, tmp_path: Path, content: str, words: str
) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text(content)
    with pytest.raises(UserError, match=words):
        low_shot(tree, 0.01, str(listed))
    with pytest.raises(UserError, match="no such list"):
        low_shot(tree, 0.01, str(tmp_path / "nowhere.txt"))
