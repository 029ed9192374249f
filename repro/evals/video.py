"""Video object segmentation without training (Sec. 4.2.2, Table 5; the authors' script).

The masks of the first frame are handed from frame to frame: a patch takes the labels of the five
most similar patches of the first and the seven previous frames, within 12 patches of its place,
weighted by exp(cosine / 0.1). Labels are kept as shares, enlarged bilinearly, stretched to [0, 1]
object by object, and the largest wins. Features are the final-norm patch tokens of the last block.

Two tiers. `official` as the authors' script, which normalises with a deviation of 0.228 for red
(ImageNet's is 0.229) and turns frames, as OpenCV reads them, but not their masks; `clean` with
ImageNet's, and masks turned along.

Shapes: T frames, H x W pixels, h x w patches, P patches, C objects and the background, N context
frames.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize, one_hot

from repro.data.disk.masks import VOID
from repro.data.videos import Video, Videos
from repro.data.views.kinds import IMAGENET_MEAN, IMAGENET_STD
from repro.dino.vit import DinoViT
from repro.errors import UserError
from repro.evals.attention import patch_of
from repro.evals.features.layers import last_blocks
from repro.evals.judged import Keep, forget
from repro.evals.video_scores import Marks, ObjectScore, benchmark, score_video

PREVIOUS = 7  # frames before the current one, beside the first
RADIUS = 12  # patches
NEIGHBOURS = 5
TEMPERATURE = 0.1
TARGETS = 1024  # patches of the current frame at a time, which bounds memory
SIDE = 480  # pixels of the shorter side; the longer one is rounded down to a multiple of 64
DEVIATIONS = {"": (0.228, 0.224, 0.225), "_clean": IMAGENET_STD}


@dataclass(frozen=True)
class Context:
    """A frame that labels come from: unit features [P, D] and shares of labels [P, C]."""

    features_PD: Tensor
    labels_PC: Tensor


@torch.no_grad()
def propagate(features_PD: Tensor, context: list[Context], grid: tuple[int, int]) -> Tensor:
    """The shares of labels of a frame's patches, [P, C]."""
    sources_SD = torch.cat([frame.features_PD for frame in context])
    labels_SC = torch.cat([frame.labels_PC for frame in context])
    places_P2 = _places(grid).to(features_PD.device)
    shares = []
    for start in range(0, len(features_PD), TARGETS):
        rows = slice(start, start + TARGETS)
        affinity_QS = (features_PD[rows] @ sources_SD.T / TEMPERATURE).exp()
        apart_QP = (places_P2[rows][:, None] - places_P2[None]).abs().amax(dim=2)
        far_QS = (apart_QP > RADIUS).repeat(1, len(context))
        affinity_QS.masked_fill_(far_QS, 0)
        top_Qk = affinity_QS.topk(min(NEIGHBOURS, len(sources_SD)), dim=1).values
        affinity_QS.masked_fill_(affinity_QS < top_Qk[:, -1:], 0)
        shares.append(affinity_QS / affinity_QS.sum(dim=1, keepdim=True) @ labels_SC)
    return torch.cat(shares)


def follow(
    backbone: nn.Module,
    video: Video,
    side: int,
    deviation: tuple[float, float, float],
    device: torch.device,
) -> list[Marks]:
    """The number of the object at every pixel of every frame, from the first frame's mask.

    Args:
        side: of the shorter side of a frame, see `SIDE`; 0: frames as they are.

    Raises:
        UserError: a backbone without patch tokens, frames smaller than a patch, or a frame and a
            mask of other sizes than the first mask.
    """
    if not isinstance(backbone, DinoViT):
        raise UserError("video segmentation: this backbone is no plain ViT and has no patch tokens")
    first = video.marks[0]
    height, width = first.shape
    patch = patch_of(backbone)
    size = _size(height, width, side)
    grid = (size[0] // patch, size[1] // patch)
    if 0 in grid:
        raise UserError(f"video {video.name}: frames of {height} x {width}, less than a patch")

    def features(time: int) -> Tensor:
        frame = video.frames[time]
        for what, shape in (("frame", frame.shape[1:]), ("mask", video.marks[time].shape)):
            if shape != first.shape:
                sizes = f"{list(shape)}, the first mask {list(first.shape)}"
                raise UserError(f"video {video.name}: {what} {time} is {sizes}")
        pixels = _pixels(frame, size, deviation)
        whole = pixels[:, :, : grid[0] * patch, : grid[1] * patch].to(device)
        ((_, tokens_BPD),) = last_blocks(backbone, whole)
        return normalize(tokens_BPD[0], dim=1)

    start = Context(features(0), _shares(first, grid).to(device))
    recent: deque[Context] = deque(maxlen=PREVIOUS)
    predicted: list[Marks] = [first.numpy()]
    for time in range(1, len(video.frames)):
        now_PD = features(time)
        labels_PC = propagate(now_PD, [start, *recent], grid)
        recent.append(Context(now_PD, labels_PC))
        predicted.append(_decide(labels_PC, grid, patch, (height, width)))
    return predicted


def video_protocol(
    backbone: nn.Module,
    videos: Videos,
    side: int,
    device: torch.device,
    say: Callable[[str], None] = print,
    keep: Keep = forget,
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """J&F, J and F of both tiers in percent, and the official ones by sequence.

    Args:
        say: takes a line for each video.
        keep: takes J&F, J and F of each object, by number.

    Raises:
        UserError: unreadable frames or masks, or a video that cannot be scored.
    """
    backbone.eval()
    scores: dict[str, list[ObjectScore]] = {tier: [] for tier in DEVIATIONS}
    by_sequence = {}
    for number, video in enumerate(videos, 1):
        for tier, deviation in DEVIATIONS.items():
            one = video.with_marks_turned() if tier else video
            truth = [marks.numpy() for marks in one.marks]
            masks = follow(backbone, one, side, deviation, device)
            by_object = score_video(video.name, masks, truth)
            scores[tier] += by_object
            if not tier:
                by_sequence[video.name] = benchmark(by_object)
        mean = by_sequence[video.name]["jf_mean"]
        say(f"video {number} of {len(videos)}, {video.name}: J&F {mean:.1f} %")
    for tier, of_tier in scores.items():
        keep(f"jf_mean{tier}", [(one.j + one.f) / 2 for one in of_tier])
        keep(f"j_mean{tier}", [one.j for one in of_tier])
        keep(f"f_mean{tier}", [one.f for one in of_tier])
    metrics = {
        f"{key}{tier}": value
        for tier, of_tier in scores.items()
        for key, value in benchmark(of_tier).items()
    }
    return metrics, by_sequence


def _size(height: int, width: int, side: int) -> tuple[int, int]:
    """The shorter side becomes `side`, the longer one a multiple of 64 (the authors' rounding)."""
    if not side:
        return height, width
    if height > width:
        return max(64, int(side * height / width // 64 * 64)), side
    return side, max(64, int(side * width / height // 64 * 64))


def _pixels(frame: Tensor, size: tuple[int, int], deviation: tuple[float, float, float]) -> Tensor:
    """Normalised, [1, 3, H', W'], resized by OpenCV as the script does."""
    levels = frame.permute(1, 2, 0).numpy()
    if levels.shape[:2] != size:
        levels = cv2.resize(np.ascontiguousarray(levels), size[::-1])
    pixels = torch.from_numpy(levels).float() / 255
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(deviation)
    return ((pixels - mean) / std).permute(2, 0, 1)[None]


def _shares(marks_HW: Tensor, grid: tuple[int, int]) -> Tensor:
    """The first frame's labels at the patches' places, by the nearest pixel, [P, C]."""
    marks = torch.where(marks_HW == VOID, 0, marks_HW)
    small = torch.from_numpy(_nearest(marks.numpy(), grid))
    classes = int(marks.max()) + 1
    return one_hot(small.long().flatten(), classes).float()


def _decide(labels_PC: Tensor, grid: tuple[int, int], patch: int, size: tuple[int, int]) -> Marks:
    """Shares enlarged to pixels, each stretched to [0, 1]; the largest wins.

    A label with the same share everywhere keeps it: an object that fills the frame still wins.
    """
    small = labels_PC.T.reshape(1, -1, *grid)
    shares_CHW = interpolate(small, scale_factor=patch, mode="bilinear", align_corners=False)[0]
    low = shares_CHW.amin(dim=(1, 2), keepdim=True)
    high = shares_CHW.amax(dim=(1, 2), keepdim=True)
    level = high - low <= 1e-6 * high
    stretched_CHW = torch.where(level, shares_CHW, (shares_CHW - low) / (high - low))
    winner: Marks = stretched_CHW.argmax(dim=0).to(torch.uint8).cpu().numpy()
    return _nearest(winner, size)


def _nearest(marks_HW: Marks, size: tuple[int, int]) -> Marks:
    """At another size by PIL, as the script does it: where a pixel lies just between two others, as
    one in each row of DAVIS does, torch takes the other one.
    """
    if marks_HW.shape == size:
        return marks_HW
    resized = Image.fromarray(marks_HW).resize(size[::-1], Image.Resampling.NEAREST)
    return np.array(resized, dtype=np.uint8)


def _places(grid: tuple[int, int]) -> Tensor:
    """Row and column of every patch, [P, 2]."""
    rows, columns = torch.meshgrid(*(torch.arange(n) for n in grid), indexing="ij")
    return torch.stack([rows.flatten(), columns.flatten()], dim=1)
