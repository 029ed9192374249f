"""Classification data sets whose parts are lists of files: iNaturalist 2018 and 2019, Places205.

They lie as their authors publish them. iNaturalist: train2018.json and val2018.json, in COCO's
format, whose file names begin at the folder itself. Places205: trainvalsplit_places205/*.csv with a
path and a class a line, beside the pictures.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repro.config.schema import DataConfig, Resources
from repro.data.dataset import Dataset
from repro.data.disk.tree import ImageFiles
from repro.data.from_files import FileSplit, file_split
from repro.errors import UserError

PLACES_LISTS = "trainvalsplit_places205"
PLACES_PICTURES = ("", "images256", "data/vision/torralba/deeplearning/images256")


@dataclass(frozen=True)
class Listed:
    """The files of a part and their classes."""

    files: Sequence[Path]
    classes: Sequence[int]


def open_inaturalist(config: DataConfig, root: Path, resources: Resources, year: int) -> Dataset:
    """Raises: UserError: lists that are missing or not iNaturalist's."""
    parts, names = [], []
    for part in ("train", "val"):
        file = root / f"{part}{year}.json"
        content = _json(file)
        try:
            files = {image["id"]: root / image["file_name"] for image in content["images"]}
            pairs = [(files[a["image_id"]], a["category_id"]) for a in content["annotations"]]
            names += [str(c["id"]) for c in content["categories"]]
        except (KeyError, TypeError) as error:
            raise UserError(f"{file}: not a list of iNaturalist {year} (no {error})") from None
        parts.append(Listed([file for file, _ in pairs], [int(label) for _, label in pairs]))
    return _dataset(config, parts[0], parts[1], list(dict.fromkeys(names)), resources)


def open_places205(config: DataConfig, root: Path, resources: Resources) -> Dataset:
    """Raises: UserError: lists or pictures that are missing."""
    parts = []
    for part in ("train", "val"):
        file = root / PLACES_LISTS / f"{part}_places205.csv"
        if not file.is_file():
            raise UserError(f"{file}: no such list; give the folder that holds {PLACES_LISTS}")
        lines = [line.rsplit(maxsplit=1) for line in file.read_text().splitlines() if line.strip()]
        if not all(len(line) == 2 and line[1].isdigit() for line in lines) or not lines:
            raise UserError(f"{file}: not lines of a path and the number of a class")
        folder = _folder_with(root, lines[0][0])
        parts.append(Listed([folder / name for name, _ in lines], [int(c) for _, c in lines]))
    names = [str(c) for c in range(max(max(part.classes) for part in parts) + 1)]
    return _dataset(config, parts[0], parts[1], names, resources)


def _dataset(
    config: DataConfig, train: Listed, test: Listed, names: list[str], resources: Resources
) -> Dataset:
    def split(part: Listed) -> tuple[FileSplit, int]:
        files = ImageFiles.of(list(part.files))
        return file_split(files.open, files.name, part.classes, config, resources)

    (train_split, lost_train), (test_split, lost_test) = split(train), split(test)
    return Dataset(config.name, names, train_split, test_split, lost_train + lost_test)


def _folder_with(root: Path, name: str) -> Path:
    for inside in PLACES_PICTURES:
        if (root / inside / name).is_file():
            return root / inside
    raise UserError(f"{root}: no {name}, which its list names, there or in {PLACES_PICTURES[1]}")


def _json(file: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(file.read_text())
    except FileNotFoundError:
        raise UserError(f"{file}: no such list") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{file}: not valid JSON ({error})") from None
    return content
