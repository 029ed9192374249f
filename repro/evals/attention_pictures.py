"""Pictures and videos of the last layer's self-attention (Figures 1 and 3).

For a picture: every head's map over the image, and the mask that keeps 60 % of its mass. For a
video or a folder of frames: each frame beside its mean map.

Shapes: A heads, H x W pixels, h x w patches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from repro.data.disk.decoder import ENDINGS
from repro.data.pictures import open_upright, pictures_in, resize
from repro.data.views.kinds import normalise
from repro.errors import UserError
from repro.evals.attention import attention_maps, keep_mass, patch_of, to_image

COLOURS = "inferno"
VISIBLE = 0.65  # of a map over its picture
FRAMES_A_SECOND = 25.0  # of a folder of frames
CODEC = "mp4v"
LONGEST = 20  # times the shorter side of a picture that can be drawn
LOWEST = 0.6  # inches of a row of a sheet
MOVING = (".gif", ".webp")  # endings of pictures that may be videos
Levels = NDArray[np.uint8]  # [H, W, 3]


def default_side(image_size: int) -> int:
    """The shorter side of a picture: 480 pixels for networks trained at 224, and in proportion."""
    return round(480 / 224 * image_size)


def draw_picture(
    backbone: nn.Module, path: Path, side: int, folder: Path, device: torch.device
) -> list[Path]:
    """A sheet of all heads, and each head's map and mask as files of their own.

    Raises:
        UserError: an unreadable picture, one smaller than a patch, or a backbone without attention.
    """
    image, maps_Ahw, patch = look(backbone, open_upright(path), side, device)
    masks_Ahw = keep_mass(maps_Ahw)
    height, width = image.shape[:2]
    folder.mkdir(parents=True, exist_ok=True)
    heads = len(maps_Ahw)
    columns = min(6, heads)
    rows = 1 + 2 * math.ceil(heads / columns)
    row_height = max(LOWEST, 2 * height / width)
    figure = Figure(figsize=(2 * columns, rows * row_height), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel in panels.flat:
        panel.set_axis_off()
    mean = over(image, maps_Ahw.mean(dim=0), patch)
    for panel, picture, title in ((panels[0][0], image, path.name), (panels[0][-1], mean, "mean")):
        panel.imshow(picture)
        panel.set_title(title, fontsize=8)
    written = []
    for head in range(heads):
        row, column = 1 + 2 * (head // columns), head % columns
        mask = to_image(masks_Ahw[head], height, width, patch).numpy()[..., None]
        shown = (over(image, maps_Ahw[head], patch), np.where(mask, image, image // 5))
        for offset, (what, picture) in enumerate(zip(("map", "mask"), shown, strict=True)):
            panel = panels[row + offset][column]
            panel.imshow(picture)
            panel.set_title(f"head {head + 1}, {what}", fontsize=8)
            file = folder / f"{path.stem}-head{head + 1}-{what}.png"
            mpl.image.imsave(file, np.ascontiguousarray(picture))
            written.append(file)
    sheet = folder / f"{path.stem}-attention.png"
    figure.savefig(sheet, dpi=150)
    return [sheet, *written]


def draw_video(
    backbone: nn.Module, path: Path, side: int, folder: Path, device: torch.device
) -> Path:
    """NAME-attention.mp4: every frame beside its mean map.

    Raises:
        UserError: no readable frame, frames of several sizes, or an output that cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file, writer = folder / f"{path.stem}-attention.mp4", None
    rate, first = frame_rate(path), None
    for number, frame in enumerate(read_frames(path), 1):
        first = first or frame.shape
        if frame.shape != first:
            sizes = " and ".join(f"{width} x {height}" for _, height, width in (first, frame.shape))
            raise UserError(
                f"{path}: frames 1 and {number} are {sizes} pixels; a video has one size"
            )
        image, maps_Ahw, patch = look(backbone, frame, side, device)
        both = np.concatenate([image, over(image, maps_Ahw.mean(dim=0), patch)], axis=1)
        if writer is None:
            size = (both.shape[1], both.shape[0])
            writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*CODEC), rate, size)
            if not writer.isOpened():
                raise UserError(f"{file}: cannot write a video there")
        writer.write(np.ascontiguousarray(both[..., ::-1]))
    if writer is None:
        raise UserError(f"{path}: no frame in it")
    writer.release()
    return file


def read_frames(path: Path) -> Iterator[Tensor]:
    """The frames of a video file, or the pictures of a folder by name, uint8 [3, H, W].

    Raises:
        UserError: no such file, or one that is no video; OpenCV would take a torn picture for one.
    """
    if path.is_dir():
        yield from map(open_upright, pictures_in(path))
        return
    if not path.is_file():
        raise UserError(f"{path}: no such video, and no folder of frames")
    if path.suffix.lower() in ENDINGS and path.suffix.lower() not in MOVING:
        raise UserError(f"{path}: a picture, no video; --image draws it")
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise UserError(f"{path}: not a video that OpenCV reads; a folder of frames works too")
    try:
        while True:
            there, frame = capture.read()
            if not there:
                return
            yield torch.from_numpy(frame[..., ::-1].copy()).permute(2, 0, 1)
    finally:
        capture.release()


def frame_rate(path: Path) -> float:
    """Frames a second; of a folder, and where a file does not say, 25."""
    if path.is_dir():
        return FRAMES_A_SECOND
    capture = cv2.VideoCapture(str(path))
    rate = float(capture.get(cv2.CAP_PROP_FPS))
    capture.release()
    return rate if math.isfinite(rate) and rate > 0 else FRAMES_A_SECOND


def look(
    backbone: nn.Module, image: Tensor, side: int, device: torch.device
) -> tuple[Levels, Tensor, int]:
    """The image with its shorter side at `side` and cut to whole patches, its maps, the patch."""
    height, width = image.shape[-2:]
    if max(height, width) > LONGEST * min(height, width):
        raise UserError(f"a picture of {width} x {height} pixels is too narrow to be drawn")
    scale = side / min(height, width)
    size = (max(1, round(scale * height)), max(1, round(scale * width)))
    pixels = resize(image[None], size)
    maps_Ahw = attention_maps(backbone, normalise(pixels.to(device).float() / 255))[0].cpu()
    if not bool(maps_Ahw.isfinite().all()):
        raise UserError("self-attention that is not finite: the training diverged")
    patch = patch_of(backbone)
    rows, columns = (patch * count for count in maps_Ahw.shape[-2:])
    levels = pixels[0, :, :rows, :columns].permute(1, 2, 0).numpy()
    return levels, maps_Ahw, patch


def over(image: Levels, map_hw: Tensor, patch: int) -> Levels:
    """A map in colours over its picture, from its smallest value to its largest."""
    low, high = float(map_hw.min()), float(map_hw.max())
    shares = (map_hw - low) / max(high - low, 1e-12)
    pixels = to_image(shares, image.shape[0], image.shape[1], patch).numpy()
    coloured = 255 * mpl.colormaps[COLOURS](pixels)[..., :3]
    mixed: Levels = (VISIBLE * coloured + (1 - VISIBLE) * image).round().astype(np.uint8)
    return mixed
