"""Which images an answer is about, and all that it rests on.

An answer that was kept serves again only where nothing has changed that could change a number: the
weights, the images, how they are shown, what was asked for, the device, the code.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repro import kept
from repro.files import file_digest
from repro.harness.evaluation.classification import labelled
from repro.harness.evaluation.names import PROTOCOLS
from repro.harness.evaluation.protocol import Subject
from repro.harness.runs.evaluations import Request

if TYPE_CHECKING:
    from repro.evals.weights.networks import Weights

CODE = ("data", "dino", "evals", "harness/evaluation", "randomness.py")  # which make a number
PACKAGES = (
    "numpy", "opencv-python-headless", "pillow", "scikit-image", "scikit-learn", "timm", "torch",
    "torchvision",
)  # fmt: skip


def items_of(request: Request, subject: Subject) -> str:
    """Digest of the test items, alike wherever they lie and at whatever size they are shown."""
    protocol = PROTOCOLS[request.protocol]
    if not protocol.over:
        return ""
    if not protocol.benchmarks:
        return labelled(request, subject).test.digest()
    files = _digest(_files(request.root, times=False)) if request.root else ""
    return _digest([request.source, files])


def rests_on(request: Request, subject: Subject, weights: Weights, seen: dict[str, Any]) -> str:
    """Digest of all that makes the numbers of any weights on any images.

    Args:
        seen: how images are shown to the network.
    """
    config, protocol = subject.config, PROTOCOLS[request.protocol]
    parts = [weights.digest, weights.network, repr(weights.model), repr(sorted(seen.items()))]
    parts += [str(subject.side), subject.device.type, repr(request.published), _code()]
    parts += [str(config.seed), repr(config.eval)]
    root = Path(request.root)
    if protocol.benchmarks:
        parts += _files(request.root, times=True) if request.root else []
    elif protocol.over:
        dataset = labelled(request, subject)
        parts += [f"{dataset.unreadable_images}", *dataset.classes]
        parts += [f"{s.fingerprint()} {s.digest()}" for s in (dataset.train, dataset.test)]
        parts += [file_digest(root)] if root.is_file() else []  # a list of training images
    return _digest(parts)


def _files(root: str, times: bool) -> Iterator[str]:
    """A line for each file of a folder, through links: name, size and, if asked for, its time."""
    visited = set()
    for folder, inside, names in os.walk(root, followlinks=True):
        inside.sort()
        if (here := os.path.realpath(folder)) in visited:
            inside.clear()  # links that run in a circle
            continue
        visited.add(here)
        for name in sorted(names):
            path = os.path.join(folder, name)  # noqa: PTH118  of a hundred thousand files
            if os.path.isfile(path):  # noqa: PTH113
                stat = os.stat(path)  # noqa: PTH116
                time = stat.st_mtime_ns if times else ""
                yield f"{os.path.relpath(path, root)} {stat.st_size} {time}"


def _digest(parts: Any) -> str:
    summary = hashlib.sha256()
    for part in parts:
        summary.update(f"{part}\n".encode(errors="surrogateescape"))
    return summary.hexdigest()[:16]


@cache
def _code() -> str:
    return kept.digest([], CODE, PACKAGES)
