"""Protocols with data of their own kind: retrieval, copies, masks and videos (Sec. 4.2.1, 4.2.2;
Tables 3 to 5, Figure 4), and throughput, which needs none (Table 1).

For each of them something made here can stand for the paper's benchmark.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from repro.errors import UserError
from repro.harness.evaluation.protocol import Subject
from repro.harness.runs.evaluations import Request

if TYPE_CHECKING:
    from torch import Tensor

    from repro.data.copies import Copies
    from repro.data.landmarks import Landmarks
    from repro.data.scenes import Scenes
    from repro.data.videos import Videos

COMPOSITES, CROPS, COPIES, CLIPS = "composites", "crops", "copies", "clips"  # what is made here


def attention(request: Request, subject: Subject) -> dict[str, float]:
    from repro.data.scenes import VOC_SIDE, CompositeScenes, open_voc
    from repro.evals.attention import jaccard_protocol

    made_here = request.source == COMPOSITES
    scenes: Scenes = CompositeScenes() if made_here else open_voc(Path(request.root))
    size = 0 if made_here else VOC_SIDE
    device, keep = subject.device, subject.keep
    metrics = jaccard_protocol(subject.backbone, scenes, size, device, keep)

    def keep_random(number: str, items: Tensor | Sequence[float]) -> None:
        keep(number.replace("jaccard", "jaccard_random"), items)

    floor = jaccard_protocol(subject.untrained(), scenes, size, device, keep_random)
    return metrics | {
        "jaccard_random": floor["jaccard"],
        "jaccard_random_clean": floor["jaccard_clean"],
    }


def retrieval(request: Request, subject: Subject) -> dict[str, float]:
    from repro.data.landmarks import make_landmarks, open_revisited
    from repro.evals.retrieval import MADE, SETTINGS, retrieval_protocol

    if request.source == CROPS:
        landmarks: Landmarks = make_landmarks()
        setting = MADE
    else:
        if request.source not in SETTINGS:
            known = ", ".join(SETTINGS)
            raise UserError(f"retrieval: {request.source} is none of {known}, {CROPS} (made here)")
        landmarks = open_revisited(Path(request.root), request.source)
        setting = SETTINGS[request.source]
    device = subject.device
    return retrieval_protocol(subject.backbone, landmarks, setting, device, keep=subject.keep)


def copies(request: Request, subject: Subject) -> dict[str, float]:
    from repro.data.copies import make_copies, open_copydays
    from repro.evals.copy_detection import MADE_SIDE, SIDE, copy_protocol

    made_here = request.source == COPIES
    size = request.data.partition("-")[2]
    if size and not (size.isdecimal() and int(size)):
        raise UserError(f"copies: {request.data}: after the dash goes a side, e.g. copydays-224")
    side = subject.side or (MADE_SIDE if made_here else int(size or SIDE))
    images: Copies = make_copies() if made_here else open_copydays(Path(request.root))
    return copy_protocol(subject.backbone, images, side, subject.device, keep=subject.keep)


def video(request: Request, subject: Subject) -> dict[str, float]:
    from repro.data.videos import MadeClips, open_davis
    from repro.evals.video import SIDE, video_protocol

    made_here = request.source == CLIPS
    videos: Videos = MadeClips() if made_here else open_davis(Path(request.root))
    side = 0 if made_here else SIDE
    device, keep = subject.device, subject.keep
    metrics, by_sequence = video_protocol(subject.backbone, videos, side, device, keep=keep)
    subject.details["sequences"] = by_sequence
    return metrics


def throughput(_request: Request, subject: Subject) -> dict[str, float]:
    from repro.evals.throughput import images_per_second, peak_memory
    from repro.gpu import count_memory_from_here

    device, side = subject.device, subject.config.data.resolution
    subject.details["resolution"] = side
    count_memory_from_here(device)  # other evaluations in this process needed more
    speed = images_per_second(subject.backbone, side, device)
    return {"images_per_second": speed, "peak_memory_GB": peak_memory(device) / 1e9}
