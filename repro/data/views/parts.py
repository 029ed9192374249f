"""A batch worked through in parts (`resources.accumulate`): which images, in all their views."""

from __future__ import annotations

from torch import Tensor


def parts_of(images: int, count: int) -> list[slice]:
    """The images of a rank in `count` equal parts."""
    size = images // count
    return [slice(start, start + size) for start in range(0, images, size)]


def images_of(views: Tensor, count: int, rows: slice) -> Tensor:
    """Some images of view-major [count x B, 3, side, side], in all `count` views."""
    return views.view(count, -1, *views.shape[1:])[:, rows].flatten(0, 1)
