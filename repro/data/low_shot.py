"""Low-shot subsets of the training images (App. A, Tables 10 and 12: 1 % and 10 % of ImageNet).

The paper uses SimCLR's published lists of file names; a list is taken where one is given. Without
one, a share of every class is drawn, at least one image each, by a generator of its own: the subset
depends on the data alone, and 1 % lies within 10 %.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from repro.data.dataset import Dataset, Split
from repro.data.from_files import FileSplit
from repro.errors import UserError
from repro.randomness import generator


def low_shot(dataset: Dataset, share: float, listed: str = "") -> Dataset:
    """The data set with fewer training images.

    Args:
        share: of every class, rounded, at least one image.
        listed: a text file with one file name a line, e.g. SimCLR's 1percent.txt.

    Raises:
        UserError: a list that is missing or names images that are not there.
    """
    train = dataset.train
    chosen = _listed(train, Path(listed)) if listed else draw(train.labels_N, share)
    return replace(dataset, train=train.subset(chosen))


def draw(labels_N: Tensor, share: float) -> list[int]:
    """Places of `share` of the images of every class, in order."""
    places: list[int] = []
    for label in torch.unique(labels_N).tolist():
        of_class = (labels_N == label).nonzero().flatten()
        number = max(1, round(share * len(of_class)))
        order = torch.randperm(len(of_class), generator=generator(0, f"low-shot {label}"))
        places += of_class[order[:number]].tolist()
    return sorted(places)


def _listed(train: Split, path: Path) -> list[int]:
    if not path.is_file():
        raise UserError(f"{path}: no such list of training images")
    if not isinstance(train, FileSplit):
        raise UserError(f"{path}: these training images have no file names to be listed by")
    listed = {Path(line.strip()).name for line in path.read_text().splitlines() if line.strip()}
    names = [Path(train.describe(place)).name for place in train.kept]
    if not listed:
        raise UserError(f"{path}: an empty list")
    if lost := listed - set(names):
        raise UserError(
            f"{path}: {len(lost)} of its {len(listed)} images are not there, e.g. {min(lost)}"
        )
    return [place for place, name in enumerate(names) if name in listed]
