"""Image folders and torchvision data sets: which images there are, with their labels.

Views and evaluation images are made of them in `from_files.py`.
"""

from __future__ import annotations

import inspect
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image
from torch.utils.data import ConcatDataset

from repro.config.schema import DataConfig, Resources
from repro.data.dataset import Dataset
from repro.data.from_files import FileSplit, file_split
from repro.errors import UserError, nearest


def open_folder(
    config: DataConfig, root: str, resources: Resources, device: torch.device | None = None
) -> Dataset:
    """ROOT/train/CLASS/* and ROOT/val/CLASS/*.

    Raises:
        UserError: a missing folder, an empty class, classes that differ between the two.
    """
    if not root:
        raise UserError(
            f"data.kind=folder ({config.name}) needs paths.data=ROOT, a folder that holds "
            "train/CLASS/* and val/CLASS/*"
        )
    trees = [_image_tree(Path(root), part) for part in ("train", "val")]
    if trees[0].classes != trees[1].classes:
        odd = sorted(set(trees[0].classes) ^ set(trees[1].classes))
        raise UserError(
            f"paths.data={root}: train/ and val/ hold different classes, e.g. '{odd[0]}'"
        )

    def split(tree: torchvision.datasets.ImageFolder) -> tuple[FileSplit, int]:
        # One block of memory: millions of strings would be copied into every process that decodes.
        files = np.array([os.fsencode(file) for file, _ in tree.samples])

        def describe(place: int) -> str:
            return os.fsdecode(files[place])

        def open_(place: int) -> Image.Image:
            return Image.open(io.BytesIO(Path(describe(place)).read_bytes()))

        return file_split(open_, describe, tree.targets, config, resources, device)

    (train, lost_train), (test, lost_test) = split(trees[0]), split(trees[1])
    return Dataset(config.name, trees[0].classes, train, test, lost_train + lost_test)


def _image_tree(root: Path, part: str) -> torchvision.datasets.ImageFolder:
    if not (root / part).is_dir():
        raise UserError(
            f"paths.data={root}: no folder '{part}' there; a folder data set needs "
            "train/CLASS/* and val/CLASS/*"
        )
    try:
        return torchvision.datasets.ImageFolder(str(root / part))
    except FileNotFoundError as error:
        # "Found no valid file for the classes a, b. Supported extensions are: ..."
        raise UserError(
            f"{root / part}: {str(error).split('. ')[0]}; add images or remove"
        ) from None


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
        def describe(place: int) -> str:
            return f"{config.name} {part} image {place}"

        labels = _labels(source)
        return file_split(lambda i: source[i][0], describe, labels, config, resources, device)

    train, lost_train = split(train_set, "train")
    test, lost_test = split(test_set, "test")
    labels = torch.cat([train.labels_N, test.labels_N])
    names = getattr(train_set, "classes", None) or [str(i) for i in range(int(labels.max()) + 1)]
    return Dataset(config.name, list(names), train, test, lost_train + lost_test)


class _Joined(ConcatDataset[Any]):
    """Two parts of one data set as one."""

    def __init__(self, first: Any, second: Any) -> None:
        super().__init__([first, second])
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
