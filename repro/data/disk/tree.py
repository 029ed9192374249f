"""Which pictures lie in a folder: TREE/CLASS/**, as torchvision's ImageFolder orders them.

What a tool leaves behind (.ipynb_checkpoints, ._1.jpg, .DS_Store) is neither a class nor a picture.
Files with endings that the decoder does not know are left out and counted.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from repro.data.disk.decoder import is_hidden, is_picture, open_image, printable
from repro.errors import UserError
from repro.terminal import count


@dataclass(frozen=True)
class ImageFiles:
    """Paths in one block of memory: millions of strings would be copied into every process that
    decodes.
    """

    paths: NDArray[np.bytes_]

    @classmethod
    def of(cls, paths: list[Any]) -> ImageFiles:
        return cls(np.array([os.fsencode(path) for path in paths]))

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, place: int) -> str:
        return os.fsdecode(self.paths[place])

    def open(self, place: int) -> Image.Image:
        """Its pixels still undecoded; within `decoding()`."""
        return open_image(self.name(place))


@dataclass(frozen=True)
class Tree:
    """`left_out`: by ending, how many files are no pictures; `classes` is empty where there are
    none.
    """

    root: Path
    classes: list[str]
    files: ImageFiles
    labels: list[int]
    left_out: Counter[str] = field(default_factory=Counter)

    def notes(self) -> list[str]:
        """A line about what is there and not read."""
        if not self.left_out:
            return []
        most = ", ".join(f"{number} {ending}" for ending, number in self.left_out.most_common(4))
        files = count(sum(self.left_out.values()), "file")
        return [f"{printable(self.root)}: {files} left out, no picture by the ending ({most})"]


def class_tree(root: Path) -> Tree:
    """ROOT/CLASS/**.

    Raises:
        UserError: no class folder, or one without a picture.
    """
    classes = sorted(entry.name for entry in _entries(root) if entry.is_dir())
    if not classes:
        raise UserError(f"{printable(root)}: no class folder in it: CLASS/*.jpg")
    paths: list[str] = []
    labels: list[int] = []
    left_out: Counter[str] = Counter()
    empty = []
    for label, name in enumerate(classes):
        of_class = list(_pictures(root / name, left_out))
        if not of_class:
            empty.append(printable(name))
        paths += of_class
        labels += [label] * len(of_class)
    if empty:
        some = ", ".join(empty[:3]) + (", ..." if len(empty) > 3 else "")
        raise UserError(f"{printable(root)}: no picture in {some}; add images or remove")
    # Loose pictures beside the classes have none.
    left_out.update(f"{_ending(e.name)} without a class" for e in _entries(root) if _is_loose(e))
    return Tree(root, [printable(name) for name in classes], ImageFiles.of(paths), labels, left_out)


def flat_tree(root: Path) -> Tree:
    """All pictures of a folder and of the folders in it, without classes; perhaps none."""
    left_out: Counter[str] = Counter()
    paths = list(_pictures(root, left_out))
    return Tree(root, [], ImageFiles.of(paths), [0] * len(paths), left_out)


def has_classes(root: Path) -> bool:
    """Whether folders lie in it that could be classes."""
    return root.is_dir() and any(entry.is_dir() for entry in _entries(root))


def _is_loose(entry: os.DirEntry[str]) -> bool:
    return is_picture(entry.name) and not entry.is_dir()


def _pictures(folder: Path, left_out: Counter[str]) -> Iterator[str]:
    """Of a folder and of those in it, folder by folder, both by name."""
    found: list[tuple[str, list[str]]] = []

    def walk(inside: str, above: frozenset[str]) -> None:
        here = os.path.realpath(inside)
        if here in above:  # a link back
            return
        names = []
        for entry in _entries(inside):
            if entry.is_dir():
                walk(entry.path, above | {here})
            elif is_picture(entry.name):
                names.append(entry.name)
            else:
                left_out[_ending(entry.name)] += 1
        found.append((inside, sorted(names)))

    walk(str(folder), frozenset())
    for inside, names in sorted(found):
        for name in names:
            yield f"{inside}/{name}"


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    """What lies in a folder, but for what a tool left there.

    Raises:
        UserError: it cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not is_hidden(entry.name)]
    except OSError as error:
        raise UserError(f"{printable(folder)}: cannot be listed ({error.strerror})") from None


def _ending(name: str) -> str:
    stem, dot, ending = name.rpartition(".")
    return printable(f".{ending.lower()}") if stem and dot else "without ending"
