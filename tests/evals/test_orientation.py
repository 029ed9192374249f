"""Pictures with an orientation, in the real layouts of four benchmarks: official numbers are of the
pixels as stored, as the authors' loaders read them, clean ones of upright pictures with masks and
boxes turned along.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from repro.config.schema import ModelConfig
from repro.data.composites import make_composites
from repro.data.copies import open_copydays
from repro.data.disk.orientation import BACK, upright
from repro.data.landmarks import open_revisited
from repro.data.pictures import levels, open_picture
from repro.data.scenes import open_voc
from repro.data.videos import make_clip, open_davis
from repro.dino.backbones import build_backbone
from repro.evals.attention import jaccard_protocol
from repro.evals.copy_detection import copy_protocol
from repro.evals.retrieval import Setting, retrieval_protocol
from repro.evals.video import video_protocol
from tests.data.disk.test_orientation import save

CPU = torch.device("cpu")
TINY = ModelConfig(name="tiny", dim=32, depth=2, heads=2, patch_size=8)
PLAIN, TAGGED, UPRIGHT = "plain", "tagged", "upright"  # the same stored pixels, and what is seen
Measure = Callable[[Path], dict[str, float]]


def backbone() -> torch.nn.Module:
    torch.manual_seed(3)
    return build_backbone(TINY, 32).eval()


def write(path: Path, pixels: torch.Tensor, held: int, kind: str) -> None:
    """A picture without loss, whatever its ending says."""
    shown = upright(pixels, held) if kind == UPRIGHT else pixels
    image = Image.fromarray(shown.permute(1, 2, 0).numpy())
    save(path, image, held if kind == TAGGED else 1)


def turned_mask(marks: torch.Tensor, held: int, kind: str) -> Image.Image:
    return Image.fromarray((upright(marks, held) if kind == UPRIGHT else marks).numpy())


def voc(root: Path, kind: str) -> None:
    for folder in ("JPEGImages", "SegmentationObject", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    made = make_composites(64, 1, "test")
    for place in range(8):
        held = (1, 6, 3, 8, 5, 2, 7, 4)[place]
        image, mask = made.images_N3SS[place][:, :48], made.masks_NSS[place][:48]
        write(root / f"JPEGImages/{place}.jpg", image, held, kind)
        marks = turned_mask(mask.to(torch.uint8), held, kind)
        marks.save(root / f"SegmentationObject/{place}.png")
    names = "\n".join(map(str, range(8)))
    (root / "ImageSets/Segmentation/val.txt").write_text(names)


def oxford(root: Path, kind: str) -> None:
    folder = root / "roxford5k"
    (folder / "jpg").mkdir(parents=True)
    made = make_composites(48, 2, "test").images_N3SS
    for place in range(32):
        held = {3: 6, 9: 3, 20: 8}.get(place, 1)
        write(folder / f"jpg/i{place}.jpg", made[place], held, kind)
    truths = []
    for number in range(4):
        held, (left, top, right, bottom) = 3 if number % 2 else 1, (4, 6, 44, 40)
        write(folder / f"jpg/q{number}.jpg", made[2 * number + 1].flip(2), held, kind)
        box = (left, top, right, bottom)
        if kind == UPRIGHT and held == 3:
            box = (48 - right, 48 - bottom, 48 - left, 48 - top)
        easy, hard = [2 * number], [2 * number + 1]
        truths.append({"easy": easy, "hard": hard, "junk": [], "bbx": box})
    names: dict[str, Any] = {"imlist": [f"i{i}" for i in range(32)]}
    names |= {"qimlist": [f"q{i}" for i in range(4)], "gnd": truths}
    (folder / "gnd_roxford5k.pkl").write_bytes(pickle.dumps(names))


def copydays(root: Path, kind: str) -> None:
    made = make_composites(48, 2, "test").images_N3SS
    for folder, first in (("original", 0), ("strong", 1), ("whitening", 0)):
        (root / folder).mkdir(parents=True)
        for place in range(16):
            held = {2: 6, 5: 3, 11: 7}.get(place, 1)
            name = f"{place:04}{folder}.jpg"
            write(root / folder / name, made[2 * place % 32 + first], held, kind)


def davis(root: Path, kind: str) -> None:
    for folder in ("ImageSets/2017", "JPEGImages/480p/clip", "Annotations/480p/clip"):
        (root / folder).mkdir(parents=True)
    (root / "ImageSets/2017/val.txt").write_text("clip\n")
    frames, marks = make_clip(1, 5, 64)
    for time in range(5):
        write(root / f"JPEGImages/480p/clip/{time:05}.jpg", frames[time], 3, kind)
        mask = turned_mask(marks[time], 3, kind)
        mask.save(root / f"Annotations/480p/clip/{time:05}.png")


MEASURES: dict[str, tuple[Callable[[Path, str], None], Measure]] = {
    "voc": (voc, lambda root: jaccard_protocol(backbone(), open_voc(root), 64, CPU)),
    "oxford": (oxford, lambda root: retrieval_protocol(
        backbone(), open_revisited(root, "roxford5k"), Setting(40, (1.0,)), CPU
    )),
    "copydays": (copydays, lambda root: copy_protocol(backbone(), open_copydays(root), 32, CPU)),
}  # fmt: skip


@pytest.mark.parametrize("layout", MEASURES)
def test_official_numbers_are_of_stored_pixels_and_clean_ones_of_upright_pictures(
    tmp_path: Path, layout: str
) -> None:
    build, measure = MEASURES[layout]
    numbers = {}
    for kind in (PLAIN, TAGGED, UPRIGHT):
        build(tmp_path / kind, kind)
        numbers[kind] = measure(tmp_path / kind)
    official = [key for key in numbers[PLAIN] if not key.endswith("_clean")]
    assert {key: numbers[TAGGED][key] for key in official} == {
        key: numbers[PLAIN][key] for key in official
    }
    for key in set(numbers[PLAIN]) - set(official):
        assert numbers[TAGGED][key] == pytest.approx(numbers[UPRIGHT][key], abs=1e-4)
    assert numbers[PLAIN] != numbers[UPRIGHT]  # so that each of the above could fail


def test_video_frames_are_turned_as_opencv_does_and_masks_in_the_clean_tier_alone(
    tmp_path: Path,
) -> None:
    numbers = {}
    for kind in (TAGGED, UPRIGHT):
        davis(tmp_path / kind, kind)
        numbers[kind], _ = video_protocol(backbone(), open_davis(tmp_path / kind), 0, CPU, len)
    for key in ("j_mean_clean", "f_mean_clean"):
        assert numbers[TAGGED][key] == pytest.approx(numbers[UPRIGHT][key], abs=1e-4)
    # Officially a mask lies beside the object of its turned frame.
    assert numbers[TAGGED]["j_mean"] < numbers[UPRIGHT]["j_mean"] - 10


def test_a_mask_that_was_drawn_on_the_upright_picture_fits_it(tmp_path: Path) -> None:
    voc(tmp_path, TAGGED)
    mask = tmp_path / "SegmentationObject" / "1.png"
    before = list(open_voc(tmp_path))[1]
    Image.fromarray(upright(_marks(mask), 6).numpy()).save(mask)
    after = list(open_voc(tmp_path))[1]
    assert before.held == after.held == 6
    assert torch.equal(before.objects_OHW, after.objects_OHW)
    assert BACK[6] == 8


def _marks(path: Path) -> torch.Tensor:
    pixels: NDArray[np.uint8] = np.array(Image.open(path))
    return torch.from_numpy(pixels)


def test_the_visualisers_square_is_bilinear(tmp_path: Path) -> None:
    from repro.data.scenes import squeezed

    voc(tmp_path, PLAIN)
    scene = next(iter(open_voc(tmp_path)))
    photo = tmp_path / "JPEGImages" / "0.jpg"
    theirs = Image.open(photo).convert("RGB").resize((40, 40), Image.Resampling.BILINEAR)
    assert torch.equal(squeezed(scene, 40).image_3HW, levels(theirs))
    assert torch.equal(scene.image_3HW, open_picture(photo))
    assert squeezed(scene, 40).objects_OHW.shape == (1, 40, 40)
