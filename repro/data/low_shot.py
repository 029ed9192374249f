"""Low-shot subsets of the training images (App. A, Tables 10 and 12: 1 % and 10 % of ImageNet).

The paper uses SimCLR's published lists of file names; a list is taken where one is given. Without
one, a share of every class is drawn, at least one image each, by a generator of its own: the subset
depends on the data alone, and 1 % lies within 10 %.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from repro.data.dataset import Dataset, Split
from repro.data.disk.decoder import printable
from repro.data.from_files import FileSplit
from repro.errors import UserError
from repro.randomness import generator

Parts = tuple[str, ...]  # of a path


def low_shot(dataset: Dataset, share: float, listed: str = "") -> Dataset:
    """The data set with fewer training images.

    Args:
        share: of every class, rounded, at least one image.
        listed: a text file with an image a line, by its name where that is the name of one image
            alone (SimCLR's 1percent.txt), or by the end of its path: CLASS/NAME.

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
    text = os.fsdecode(path.read_bytes())
    listed = {PurePosixPath(line.strip()).parts for line in text.splitlines() if line.strip()}
    if not listed:
        raise UserError(f"{path}: an empty list")
    places: dict[Parts, list[int]] = {}
    depths = {len(parts) for parts in listed}
    for number, place in enumerate(train.kept):
        parts = Path(train.describe(place)).parts
        for depth in depths:
            places.setdefault(parts[-depth:], []).append(number)
    if lost := [parts for parts in listed if parts not in places]:
        raise UserError(
            f"{path}: {len(lost)} of its {len(listed)} images are not there, e.g. {_word(lost)}"
        )
    if several := [parts for parts in listed if len(places[parts]) > 1]:
        word = _word(several)
        raise UserError(
            f"{path}: {word} is the name of {len(places[PurePosixPath(word).parts])} images; write "
            f"CLASS/{word}"
        )
    return sorted({number for parts in listed for number in places[parts]})


def _word(some: Iterable[Parts]) -> str:
    return printable("/".join(min(some)))
