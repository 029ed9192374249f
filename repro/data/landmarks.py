"""Queries, a database and which images of it show the same place (Table 3).

Revisited Oxford and Paris lie as their authors publish them: NAME/gnd_NAME.pkl and NAME/jpg/*.jpg.
The pickle is read without running what it may hold.

Where no benchmark is at hand, places are squares of the bundled photographs: a query is the square
in its surroundings, easy images show it nearly as it is, hard ones turned, scaled, blurred and
compressed, junk ones only a corner of it; the rest of the photographs is the haystack.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Generator, Tensor

from repro.config.schema import PHOTOGRAPHS
from repro.data.disk.orientation import STORED, upright
from repro.data.photographs import load_photograph
from repro.data.pictures import Pictures, compressed, levels, picture, turned
from repro.errors import UserError
from repro.randomness import generator

NAMES = ("roxford5k", "rparis6k")
SQUARE = 64  # pixels of a made place
CONTEXT = 24  # around it in the query image
PLACES = 2  # a photograph
EASY, HARD, JUNK, OTHERS = 4, 4, 2, 10
Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Truth:
    """Places in the database of what is easy and hard to find, and of what counts neither way."""

    easy: tuple[int, ...]
    hard: tuple[int, ...]
    junk: tuple[int, ...]
    box: Box  # of the object in the query image


@dataclass(frozen=True)
class Landmarks:
    """A retrieval benchmark; images are uint8 [3, H, W]."""

    database: Sequence[Tensor]
    whole_queries: Sequence[Tensor]
    query_names: Sequence[str]
    truths: Sequence[Truth]  # of each query

    def queries(self, cropped: bool) -> Iterator[Tensor]:
        """Whole images as stored, or cut to the box of what is looked for, and upright."""
        held = turned(self.whole_queries) if cropped else {}
        each = zip(self.whole_queries, self.query_names, self.truths, strict=True)
        for place, (image, name, truth) in enumerate(each):
            if cropped:
                yield upright(_cut(image, truth.box, name), held.get(place, STORED))
            else:
                yield image


def open_revisited(root: Path, name: str) -> Landmarks:
    """roxford5k or rparis6k; `root` is the folder of that name, or the one that holds it.

    Raises:
        UserError: a folder or a ground-truth file that is not the benchmark's.
    """
    assert name in NAMES, f"{name}: not a revisited benchmark"
    folder = root / name if (root / name).is_dir() else root
    file = folder / f"gnd_{name}.pkl"
    if not file.is_file():
        raise UserError(f"{root}: no {name}/gnd_{name}.pkl there, the benchmark's ground truth")
    try:
        content = _NumbersOnly(io.BytesIO(file.read_bytes()), encoding="latin1").load()
        truths = [_truth(entry) for entry in content["gnd"]]
        database, queries = [list(map(str, content[key])) for key in ("imlist", "qimlist")]
    except NO_TRUTH as e:
        line = (str(e).splitlines() or [""])[0]
        raise UserError(f"{file}: no ground truth of {name} ({type(e).__name__}: {line})") from None
    if len(truths) != len(queries):
        raise UserError(f"{file}: {len(queries)} queries, but ground truth for {len(truths)}")
    if not queries or not database:
        raise UserError(f"{file}: {len(queries)} queries and {len(database)} database images")
    places = {place for t in truths for place in (*t.easy, *t.hard, *t.junk)}
    if odd := places - set(range(len(database))):
        raise UserError(f"{file}: names image {min(odd)} of a database of {len(database)}")
    files = [[folder / "jpg" / f"{name}.jpg" for name in names] for names in (database, queries)]
    return Landmarks(Pictures(files[0]), Pictures(files[1]), list(map(str, files[1])), truths)


def make_landmarks() -> Landmarks:
    """Places in all sixteen photographs, the same every time."""
    database: list[Tensor] = []
    queries: list[Tensor] = []
    truths: list[Truth] = []

    def add(image: Tensor) -> int:
        database.append(image)
        return len(database) - 1

    for name in PHOTOGRAPHS:
        photograph, random = load_photograph(name), generator(0, f"landmarks {name}")
        squares = _squares(photograph, random)
        for top, left in squares:
            queries.append(_window(photograph, top - CONTEXT, left - CONTEXT, SQUARE + 2 * CONTEXT))
            inside = (max(0, left - CONTEXT), max(0, top - CONTEXT))
            box = (left - inside[0], top - inside[1])
            truths.append(
                Truth(
                    easy=tuple(add(_easy(photograph, top, left, random)) for _ in range(EASY)),
                    hard=tuple(add(_hard(photograph, top, left, random)) for _ in range(HARD)),
                    junk=tuple(add(_corner(photograph, top, left, i)) for i in range(JUNK)),
                    box=(*box, box[0] + SQUARE, box[1] + SQUARE),
                )
            )
        for _ in range(OTHERS):
            place = _free_place(photograph, squares, random)
            if place:
                add(_window(photograph, *place, SQUARE))
    return Landmarks(database, queries, ["a made query"] * len(queries), truths)


NO_TRUTH = (
    pickle.UnpicklingError, LookupError, TypeError, ValueError, EOFError, AttributeError,
    ArithmeticError, MemoryError, ImportError,
)  # fmt: skip


class _NumbersOnly(pickle.Unpickler):
    """Lists, dictionaries, text, numbers and numpy arrays, and nothing that runs."""

    MODULES = ("numpy", *(f"numpy.{core}.{name}" for core in ("core", "_core")
                          for name in ("multiarray", "numeric")))  # fmt: skip
    ALLOWED = ("_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer")
    # How protocols that Python 2 reads write the bytes of an array.
    BYTES = (("_codecs", "encode"), ("__builtin__", "bytes"), ("builtins", "bytes"))

    def find_class(self, module: str, name: str) -> Any:
        of_arrays = module in self.MODULES and name in self.ALLOWED
        if of_arrays or (module, name) in self.BYTES:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it holds {module}.{name}, which is no data")


def _truth(entry: dict[str, Any]) -> Truth:
    easy, hard, junk = (
        tuple(int(i) for i in np.ravel(entry[key])) for key in ("easy", "hard", "junk")
    )
    left, top, right, bottom = (float(value) for value in np.ravel(entry["bbx"]))
    return Truth(easy, hard, junk, (left, top, right, bottom))


def _cut(image: Tensor, box: Box, name: str) -> Tensor:
    left, top, right, bottom = (round(value) for value in box)
    cut = image[:, max(0, top) : bottom, max(0, left) : right]
    if not cut.numel():
        raise UserError(f"{name}: its box {box} holds no pixel of {list(image.shape[1:])}")
    return cut


def _window(photograph: Tensor, top: float, left: float, side: float) -> Tensor:
    """A square of a photograph, cut off at its edges."""
    first, last = (max(0, round(top)), max(0, round(left))), (round(top + side), round(left + side))
    return photograph[:, first[0] : last[0], first[1] : last[1]]


def _squares(photograph: Tensor, random: Generator) -> list[tuple[int, int]]:
    """Tops and lefts of places that do not overlap, one in the left half and one in the right."""
    _, height, width = photograph.shape
    half = width // PLACES
    corners = []
    for number in range(PLACES):
        top = int(torch.randint(height - SQUARE + 1, (1,), generator=random))
        left = number * half + int(torch.randint(half - SQUARE + 1, (1,), generator=random))
        corners.append((top, left))
    return corners


def _free_place(
    photograph: Tensor, squares: list[tuple[int, int]], random: Generator
) -> tuple[int, int] | None:
    """A window that shows nothing of the places; None if there is hardly room for one."""
    _, height, width = photograph.shape
    for _ in range(100):
        top = int(torch.randint(height - SQUARE + 1, (1,), generator=random))
        left = int(torch.randint(width - SQUARE + 1, (1,), generator=random))
        if all(abs(top - t) >= SQUARE or abs(left - x) >= SQUARE for t, x in squares):
            return top, left
    return None


def _easy(photograph: Tensor, top: int, left: int, random: Generator) -> Tensor:
    """Shifted by up to an eighth, slightly larger or smaller, and compressed a little."""
    shift = (torch.rand(2, generator=random) - 0.5) * SQUARE / 4
    side = SQUARE * (0.85 + 0.3 * float(torch.rand(1, generator=random)))
    window = _window(photograph, top + float(shift[0]), left + float(shift[1]), side)
    return compressed(window, 75)


def _hard(photograph: Tensor, top: int, left: int, random: Generator) -> Tensor:
    """Turned, at another scale, blurred, darker or brighter, and strongly compressed."""
    turn, scale, light = torch.rand(3, generator=random).tolist()
    side = SQUARE * (0.6 + 0.9 * scale)
    centre = (top + SQUARE / 2 - side / 2, left + SQUARE / 2 - side / 2)
    window = _window(photograph, *centre, side)
    image = picture(window).rotate(60 * turn - 30, Image.Resampling.BICUBIC)
    image = image.filter(ImageFilter.GaussianBlur(1.0)).point(lambda v: v * (0.6 + 0.8 * light))
    return compressed(levels(image), 25)


def _corner(photograph: Tensor, top: int, left: int, which: int) -> Tensor:
    """A window that shares a ninth of the place with it."""
    sign = 1 if which % 2 else -1
    return _window(photograph, top + sign * SQUARE * 2 / 3, left + sign * SQUARE * 2 / 3, SQUARE)
