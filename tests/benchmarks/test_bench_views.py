"""Views from JPEG files of ImageNet's usual size, on one core, and what decoding alone takes."""

from __future__ import annotations

import io

import pytest
import torch
from PIL import Image
from pytest_benchmark.fixture import BenchmarkFixture

from repro.config.schema import PHOTOGRAPHS, ViewsConfig
from repro.data.from_files import _Collate
from repro.data.photographs import load_photograph
from repro.data.views import fast as fast_views
from repro.data.views.kinds import to_pixels, view_kinds
from repro.data.views.reference import view_transform
from tests.benchmarks.measure import FULL, Against, compare, use_threads

IMAGES = 16 if FULL else 2
KINDS = {"ImageNet's size": (500, 375), "photographs of 12 megapixels": (4000, 3000)}
TRANSFORMS = [view_transform(kind, ViewsConfig()) for kind in view_kinds(ViewsConfig())]


def jpegs(size: tuple[int, int], count: int) -> list[bytes]:
    files = []
    for name in PHOTOGRAPHS[:count]:
        photograph = Image.fromarray(load_photograph(name).permute(1, 2, 0).numpy())
        content = io.BytesIO()
        photograph.resize(size, Image.Resampling.BICUBIC).save(content, "JPEG", quality=92)
        files.append(content.getvalue())
    return files


@pytest.mark.parametrize("reduced", [False, True], ids=["whole", "reduced"])
def test_ten_views_of_a_jpeg(benchmark: BenchmarkFixture, reduced: bool) -> None:
    use_threads(1)
    kind = list(KINDS)[1 if reduced else 0]
    files = jpegs(KINDS[kind], 2 if reduced else IMAGES)

    def decode(content: bytes) -> Image.Image:
        return Image.open(io.BytesIO(content))

    collate = _Collate([2, 8])

    def fast() -> None:
        torch.manual_seed(0)
        views = [fast_views.make_views(decode(c), TRANSFORMS, reduced) for c in files]
        for batch in collate(views):
            to_pixels(batch)

    def plain() -> None:
        torch.manual_seed(0)
        images = [decode(content).convert("RGB") for content in files]
        collate([[transform(image) for transform in TRANSFORMS] for image in images])

    def bare() -> None:
        for content in files:
            decode(content).convert("RGB")

    seconds = compare(
        benchmark,
        f"2 x 224 + 8 x 96 from JPEGs, {kind}" + (", decoded at reduced size" if reduced else ""),
        fast,
        baseline=Against("torchvision on PIL", plain),
        limit=Against("decoding alone, at full size", bare),
        rounds=3,
    )
    benchmark.extra_info["images_per_second_and_core"] = len(files) / seconds["ours"]
