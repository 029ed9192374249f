"""Red, green and blue in 8 bits from the pixels of any mode that PIL reads.

PIL itself cuts deep pictures off at 255. Here each is scaled from its own range: whole numbers from
the smallest usual depth that holds them (a 16-bit file may hold 8, 10, 12 or 14 bits), floats from
[0, 1], [0, 255] or [-1, 1], and whatever fits none of these from its lowest to its highest value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

DEEP = ("I", "F")  # PIL's modes of whole numbers and floats; I;16, I;16B ... besides
DEPTHS = (8, 10, 12, 14, 16)  # bits


def to_rgb(image: Image.Image) -> Image.Image:
    """Red, green and blue, 8 bits each, from any mode that PIL reads."""
    if image.mode in DEEP or image.mode.startswith("I;16"):
        image = Image.fromarray(in_8_bits(np.asarray(image)))
    return image.convert("RGB")


def in_8_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Grey values of any range as levels; what is no number is black."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return np.zeros(values.shape, np.uint8)
    start, end = _range(float(finite.min()), float(finite.max()), values.dtype.kind == "f")
    with np.errstate(invalid="ignore"):
        shares = (values.astype(np.float64) - start) / (end - start)
    levels = np.nan_to_num(shares * 255, nan=0.0, posinf=255.0, neginf=0.0)
    return levels.round().clip(0, 255).astype(np.uint8)


def _range(low: float, high: float, floats: bool) -> tuple[float, float]:
    """The values that become black and white."""
    if floats:
        usual = [(0.0, 1.0), (0.0, 255.0), (-1.0, 1.0)]
    else:
        usual = [(0.0, 2.0**bits - 1) for bits in DEPTHS]
    for start, end in usual:
        if start <= low and high <= end:
            return start, end
    return low, high if high > low else low + 1
