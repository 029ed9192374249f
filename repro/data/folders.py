"""Image folders and torchvision data sets: which images there are, with their labels.

Views and evaluation images are made of them in `from_files.py`.
"""

from __future__ import annotations

import inspect
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from PIL import Image
from torch.utils.data import ConcatDataset

from repro.config.schema import DataConfig, Resources
from repro.data.dataset import Dataset
from repro.data.disk.decoder import printable
from repro.data.disk.tree import ImageFiles, Tree, class_tree, flat_tree, has_classes
from repro.data.from_files import FileSplit, file_split
from repro.errors import UserError, nearest
from repro.terminal import count

UNLABELLED = "without classes: k-NN and other evaluations are left out"


def open_folder(
    config: DataConfig, root: str, resources: Resources, device: torch.device | None = None
) -> Dataset:
    """ROOT/train/CLASS/* and ROOT/val/CLASS/*, or pictures without classes: in ROOT/train, or in a
    ROOT without train and val.

    Raises:
        UserError: a missing folder, an empty class, classes that differ between the two.
    """
    if not root:
        raise UserError(
            f"data.kind=folder ({config.name}) needs paths.data=ROOT, a folder that holds "
            "train/CLASS/* and val/CLASS/*"
        )
    if flat := _unlabelled(Path(root)):
        return _without_classes(flat, config, resources, device)
    trees = [_image_tree(Path(root), part) for part in ("train", "val")]
    if trees[0].classes != trees[1].classes:
        odd = sorted(set(trees[0].classes) ^ set(trees[1].classes))
        raise UserError(
            f"paths.data={root}: train/ and val/ hold different classes, e.g. '{odd[0]}'"
        )

    (train, lost_train), (test, lost_test) = (
        file_split(tree.files.open, tree.files.name, tree.labels, config, resources, device)
        for tree in trees
    )
    notes = [line for tree in trees for line in tree.notes()]
    if _alike(*trees) and train.digest() == test.digest():
        notes.append(f"paths.data={root}: val/ holds the images of train/: k-NN finds each itself")
    lost = lost_train + lost_test
    notes += _said(lost)
    return Dataset(config.name, trees[0].classes, train, test, lost, tuple(notes))


def _said(lost: int) -> list[str]:
    return [f"left out: {count(lost, 'unreadable image')}"] if lost else []


def _unlabelled(root: Path) -> Tree | None:
    """The pictures of a folder that has no classes; None where it has some, or no pictures."""
    parts = [part for part in ("train", "val") if (root / part).is_dir()]
    if not root.is_dir() or parts == ["val"] or (parts and has_classes(root / "train")):
        return None
    tree = flat_tree(root / "train" if parts else root)
    return tree if len(tree.files) else None


def _without_classes(
    tree: Tree, config: DataConfig, resources: Resources, device: torch.device | None
) -> Dataset:
    train, lost = file_split(
        tree.files.open, tree.files.name, tree.labels, config, resources, device
    )
    pictures = count(len(train.labels_N), "picture")
    notes = (*tree.notes(), *_said(lost), f"{printable(tree.root)}: {pictures} {UNLABELLED}")
    return Dataset(config.name, [], train, train.subset([]), lost, notes)


def _alike(train: Tree, test: Tree) -> bool:
    """Whether both name the same files, before any is looked at."""
    if train.labels != test.labels:
        return False
    names = ([Path(t.files.name(i)).parts[-2:] for i in range(len(t.files))] for t in (train, test))
    return next(names) == next(names)


def _image_tree(root: Path, part: str) -> Tree:
    if not (root / part).is_dir():
        where = f"{root}/train" if (root / "train").is_dir() else "their folder"
        raise UserError(
            f"paths.data={root}: no folder '{part}' there; a folder data set needs "
            f"train/CLASS/* and val/CLASS/*, pictures without classes paths.data={where}"
        )
    return class_tree(root / part)


def open_torchvision(
    config: DataConfig, root: str, resources: Resources, device: torch.device | None = None
) -> Dataset:
    """A torchvision data set by class name, downloaded by torchvision where a network exists.

    Raises:
        UserError: an unknown name, or files that are neither there nor can be downloaded.
    """
    # getattr, because torchvision imports some of its names on demand
    everything = {
        name: getattr(torchvision.datasets, name) for name in torchvision.datasets.__all__
    }
    known = {name: kind for name, kind in everything.items() if inspect.isclass(kind)}
    if config.name not in known:
        raise UserError(
            f"data.name={config.name} is not a torchvision data set; "
            f"nearest: {nearest(config.name, known)}"
        )
    if not root:
        raise UserError(f"data.kind=torchvision ({config.name}) needs paths.data=FOLDER")
    kind = known[config.name]
    train_set = _torchvision_part(kind, root, ("train",))
    if config.name == "Flowers102":  # 2,040 images, as in DeiT's table of data sets
        further = _torchvision_part(kind, root, ("val",))
        train_set = _Joined(train_set, further)
    test_set = _torchvision_part(kind, root, ("test", "val", "valid"))

    def split(source: Any, part: str) -> tuple[FileSplit, int]:
        images = _files(source) or _OfTorchvision(source, config.name, part)
        labels = _labels(source)
        return file_split(images.open, images.name, labels, config, resources, device)

    train, lost_train = split(train_set, "train")
    test, lost_test = split(test_set, "test")
    labels = torch.cat([train.labels_N, test.labels_N])
    names = getattr(train_set, "classes", None) or [str(i) for i in range(int(labels.max()) + 1)]
    lost = lost_train + lost_test
    return Dataset(config.name, list(names), train, test, lost, tuple(_said(lost)))


@dataclass(frozen=True)
class _OfTorchvision:
    """Images that have no files of their own."""

    source: Any
    data: str
    part: str

    def open(self, place: int) -> Image.Image:
        image: Image.Image = self.source[place][0]
        return image

    def name(self, place: int) -> str:
        return f"{self.data} {self.part} image {place}"


FILES = ("samples", "_samples", "imgs", "_image_files", "_images", "images")  # torchvision's names


def _files(source: Any) -> ImageFiles | None:
    """The files of a torchvision data set that has one for each image."""
    for name in FILES:
        listed = getattr(source, name, None)
        if not (isinstance(listed, list) and listed and len(listed) == len(source)):
            continue
        paths = [entry[0] if isinstance(entry, tuple) else entry for entry in listed]
        named = all(isinstance(path, str | os.PathLike) for path in paths)
        if named and Path(paths[0]).is_file():
            return ImageFiles.of(paths)
    return None


class _Joined(ConcatDataset[Any]):
    """Two parts of one data set as one."""

    def __init__(self, first: Any, second: Any) -> None:
        super().__init__([first, second])
        files = _files(first), _files(second)
        if files[0] and files[1]:
            self.samples = [part.name(i) for part in files if part for i in range(len(part))]
        self.targets = _labels(first) + _labels(second)
        self.classes = getattr(first, "classes", None)


def _torchvision_part(kind: Any, root: str, names: tuple[str, ...]) -> Any:
    """Train or test part; torchvision's classes take `train=bool` or `split=name`."""
    parameters = inspect.signature(kind).parameters
    # What lies there first: some sets can no longer be downloaded.
    downloads = [{"download": False}, {"download": True}] if "download" in parameters else [{}]
    if "train" in parameters:
        choices: list[dict[str, Any]] = [{"train": names[0] == "train"}]
    elif "split" in parameters:
        choices = [{"split": name} for name in names]
    else:
        raise UserError(
            f"data.name={kind.__name__} has no train and test part; use a folder data set instead"
        )
    problem: Exception | None = None
    for choice in choices:
        for download in downloads:
            try:
                return kind(root=root, **choice, **download)
            except (ValueError, RuntimeError, OSError) as error:
                problem = error if download != {"download": False} and not problem else problem
    reason = " ".join(str(problem).split())
    raise UserError(f"{kind.__name__}: {reason} (paths.data={root})") from None


def _labels(source: Any) -> list[int]:
    for name in ("targets", "labels", "_labels"):
        if hasattr(source, name):
            return [int(label) for label in getattr(source, name)]
    return [int(source[i][1]) for i in range(len(source))]
