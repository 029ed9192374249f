"""Which files of a folder are pictures of which class."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from repro.data.disk.tree import class_tree, flat_tree, has_classes
from repro.errors import UserError
from tests.data.fuzz import examples


def fill(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


NAMES = st.text(st.sampled_from("ab-_. Z9é"), min_size=1, max_size=4).filter(
    lambda name: not name.startswith(".")
)


@settings(max_examples=examples(40), deadline=None)
@given(files=st.lists(st.lists(NAMES, min_size=1, max_size=3), min_size=1, max_size=8))
def test_ordinary_files_come_in_imagefolders_order(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[str]]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    for parts in files:
        path = root.joinpath("class " + parts[0], *(f"d{part}" for part in parts[1:]), "x.jpg")
        fill(root, str(path.relative_to(root)), str(path.with_name(parts[-1] + ".png")))
    theirs = torchvision.datasets.ImageFolder(str(root))
    ours = class_tree(root)
    paths = [ours.files.name(i) for i in range(len(ours.files))]
    assert list(zip(paths, ours.labels, strict=True)) == theirs.samples
    assert ours.classes == theirs.classes
    shutil.rmtree(root)


def test_what_tools_leave_is_neither_class_nor_picture(tmp_path: Path) -> None:
    fill(tmp_path, "cat/1.jpg", "cat/.ipynb_checkpoints/1-checkpoint.jpg",
         "cat/._1.jpg", "cat/.DS_Store", ".ipynb_checkpoints/2.jpg", "__MACOSX/cat/1.jpg",
         "@eaDir/1.jpg")  # fmt: skip
    tree = class_tree(tmp_path)
    assert tree.classes == ["cat"]
    assert len(tree.files) == 1
    assert not tree.notes()


def test_what_the_decoder_does_not_read_is_counted(tmp_path: Path) -> None:
    fill(tmp_path, "cat/1.gif", "cat/2.JFIF", "cat/3.heic", "cat/4.HEIC", "cat/notes.txt",
         "cat/README", "loose.jpg", "list.csv")  # fmt: skip
    tree = class_tree(tmp_path)
    assert len(tree.files) == 2
    (line,) = tree.notes()
    assert line.startswith(f"{tmp_path}: 5 files left out")
    assert "2 .heic" in line
    assert "1 .jpg without a class" in line


def test_classes_that_are_missing_or_empty_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no class folder in it"):
        class_tree(fill(tmp_path, "1.jpg"))
    with pytest.raises(UserError, match="no picture in bird, dog; add images or remove"):
        class_tree(fill(tmp_path, "cat/1.jpg", "dog/1.txt", "bird/.1.jpg"))
    with pytest.raises(UserError, match="cannot be listed"):
        class_tree(tmp_path / "nowhere")


def test_links_are_followed_once_and_odd_names_kept(tmp_path: Path) -> None:
    fill(tmp_path, "cat/1.jpg", "cat/more/2.jpg")
    (tmp_path / "cat" / "more" / "back").symlink_to(tmp_path / "cat")
    (tmp_path / "same").symlink_to(tmp_path / "cat")
    (tmp_path / "cat" / "gone.jpg").symlink_to(tmp_path / "gone.jpg")
    odd = os.fsencode(tmp_path) + b"/cat/\xe9.jpg"
    Path(os.fsdecode(odd)).touch()
    tree = class_tree(tmp_path)
    assert tree.classes == ["cat", "same"]
    assert tree.labels == [0] * 4 + [1] * 4
    assert os.fsdecode(odd) in [tree.files.name(i) for i in range(4)]


def test_a_folder_without_classes_is_all_its_pictures(tmp_path: Path) -> None:
    fill(tmp_path, "1.jpg", "deep/er/2.png", ".hidden/3.jpg", "words.txt")
    tree = flat_tree(tmp_path)
    assert [Path(tree.files.name(i)).name for i in range(2)] == ["1.jpg", "2.png"]
    assert len(tree.files) == 2
    assert tree.classes == []
    assert has_classes(tmp_path)
    assert not has_classes(tmp_path / "deep" / "er")
    Image.new("L", (2, 2)).save(tmp_path / "1.jpg")
    assert tree.files.open(0).size == (2, 2)
