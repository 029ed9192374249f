"""Frozen features once per checkpoint, data set and choice of layers (App. F).

They are streamed: batches go through one or several devices in turn and into a file, which is then
mapped into memory, so that memory does not grow with the data set. The file's name is a digest of
all that makes them: weights, heads, kernels and device, images and what is done to them, layers,
and the code of networks and data; it ends in a digest of that name and of its content, and what is
damaged, or another's, is made again. An extraction that was stopped goes on behind the last batch
that is whole, by a check of each that is kept beside; two processes that want the same features
make them once.

Shapes: N images, B of a batch, F width of the features.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from io import BytesIO
from pathlib import Path
from struct import Struct
from typing import IO, Any, cast

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor, nn

from repro.data.dataset import Split
from repro.dino.vit import DinoViT
from repro.errors import UserError
from repro.evals.features.layers import Layers, for_device, layer_features
from repro.kept import digest
from repro.locks import hold

BATCH = 128
CHECK = 16  # bytes of the digest behind the rows
BATCH_CHECK = Struct("<II")  # of a batch of rows: how many, and the CRC-32 of their bytes
CHUNK = 2**24  # bytes that are digested at once
SAID_EVERY = 100  # batches between two lines of progress
CODE = ("dino", "data", "evals/features")  # of which features are made
PACKAGES = ("numpy", "pillow", "timm", "torch", "torchvision")


def frozen_features(
    backbone: nn.Module,
    split: Split,
    layers: Layers,
    device: torch.device,
    folder: Path | None = None,
    say: Callable[[str], None] = print,
) -> Tensor:
    """The features of all images, [N, F], fp32 on the CPU.

    Args:
        folder: where files of features are kept; None: make them in memory.
        say: takes a line of progress now and then.

    Raises:
        UserError: an unreadable image, or a full disk.
    """
    backbone.eval()
    devices = devices_like(device)
    if folder is None:
        return torch.cat(list(stream(backbone, split.evaluation_batches(BATCH), layers, devices)))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{_digest(backbone, split, layers, device)}.npy"
    with hold(path.with_suffix(".lock"), "waits for as long as it takes", math.inf):
        if not _serves(path, len(split.labels_N)):
            try:
                _write(path, backbone, split, layers, devices, say)
            except OSError as error:
                raise UserError(f"{path}: cannot keep features: {error.strerror}") from None
    return torch.from_numpy(np.load(path, mmap_mode="c"))


def devices_like(device: torch.device) -> list[torch.device]:
    """All devices of this kind that the process sees."""
    if device.type != "cuda":
        return [device]
    numbers = range(torch.cuda.device_count())
    return [
        torch.device("cuda", n) for n in sorted(numbers, key=lambda n: n != device_number(device))
    ]


def device_number(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index


@torch.no_grad()
def stream(
    backbone: nn.Module,
    batches: Iterable[Tensor],
    layers: Layers,
    devices: Sequence[torch.device],
) -> Iterator[Tensor]:
    """Features of batches in their order, [B, F] on the CPU; devices take turns.

    GPUs work while later batches are read: a result is fetched when every device has another one.
    """
    replicas = [copy.deepcopy(backbone).to(device) for device in devices[1:]]
    networks = [backbone.to(devices[0]), *replicas]
    waiting: deque[Tensor] = deque()
    for number, images in enumerate(for_device(batches, devices[0])):
        turn = number % len(devices)
        pixels = images.to(devices[turn], non_blocking=True)
        waiting.append(layer_features(networks[turn], pixels, layers))
        if len(waiting) > len(devices):
            yield waiting.popleft().cpu()
    while waiting:
        yield waiting.popleft().cpu()


def _write(
    path: Path,
    backbone: nn.Module,
    split: Split,
    layers: Layers,
    devices: Sequence[torch.device],
    say: Callable[[str], None],
) -> None:
    unfinished, checks = path.with_suffix(".unfinished"), path.with_suffix(".checks")
    images = len(split.labels_N)
    done = _whole_rows(unfinished, checks, images)
    if done:
        say(f"features: {done:,} of {images:,} images were done before")
    with unfinished.open("ab") as file, checks.open("ab") as beside:
        batches = stream(backbone, split.evaluation_batches(BATCH, first=done), layers, devices)
        for number, features_BF in enumerate(batches, 1):
            if not file.tell():
                file.write(_header(images, features_BF.shape[1]))
            rows = features_BF.numpy().astype("<f4").tobytes()
            file.write(rows)
            beside.write(BATCH_CHECK.pack(len(features_BF), zlib.crc32(rows)))
            done += len(features_BF)
            if number % SAID_EVERY == 0:
                say(f"features: {done:,} of {images:,} images")
    assert done == images, f"{done} features of {images} images"
    with unfinished.open("r+b") as file:
        check = _check_of(file, path.stem, file.seek(0, os.SEEK_END))
        file.write(check)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    checks.unlink()


def _serves(path: Path, images: int) -> bool:
    """Whether a file is there that holds what was written, for so many images."""
    with suppress(OSError, ValueError), path.open("rb") as file:
        npy.read_magic(file)
        (rows, width), _, kind = npy.read_array_header_1_0(file)
        end = file.tell() + 4 * rows * width
        if (rows, kind) == (images, np.dtype("<f4")):
            check = _check_of(file, path.stem, end)
            return file.read() == check
    return False


def _check_of(file: IO[bytes], name: str, end: int) -> bytes:
    """The digest of the first `end` bytes of a file of this name, which is then read so far."""
    summary = hashlib.blake2b(name.encode(), digest_size=CHECK)
    file.seek(0)
    while chunk := file.read(min(CHUNK, end - file.tell())):
        summary.update(chunk)
    return summary.digest()


def _header(rows: int, width: int) -> bytes:
    header = BytesIO()
    what = {"descr": "<f4", "fortran_order": False, "shape": (rows, width)}
    npy.write_array_header_1_0(header, what)
    return header.getvalue()


def _whole_rows(unfinished: Path, checks: Path, images: int) -> int:
    """How many rows an earlier attempt left, up to the first batch that is torn or damaged."""
    if not unfinished.is_file():
        checks.unlink(missing_ok=True)
        return 0
    rows, whole = 0, 0
    with unfinished.open("r+b") as file, checks.open("a+b") as beside:
        beside.seek(0)
        kept = beside.read()
        try:
            npy.read_magic(file)
            (planned, width), _, _ = npy.read_array_header_1_0(file)
        except ValueError:
            planned = width = 0
        end = file.tell()
        file.seek(0)
        if planned == images and width and file.read(end) == _header(images, width):
            for begin in range(0, len(kept) - BATCH_CHECK.size + 1, BATCH_CHECK.size):
                count, check = BATCH_CHECK.unpack_from(kept, begin)
                size = min(count, images - rows + 1) * 4 * width
                content = file.read(size)
                if not len(content) == size == count * 4 * width or zlib.crc32(content) != check:
                    break
                rows, end, whole = rows + count, file.tell(), begin + BATCH_CHECK.size
        file.truncate(end if rows else 0)
        beside.truncate(whole)
    return rows


def _digest(backbone: nn.Module, split: Split, layers: Layers, device: torch.device) -> str:
    parts = (2, layers, split.fingerprint(), split.digest(), device.type, _code())
    summary = hashlib.sha256("/".join(map(str, parts)).encode())
    summary.update(_computation(backbone).encode())
    for name, tensor in sorted(backbone.state_dict().items()):
        summary.update(name.encode())
        summary.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return summary.hexdigest()[:20]


def _computation(backbone: nn.Module) -> str:
    """What no tensor tells of how a network computes."""
    if isinstance(backbone, DinoViT):
        heads = [block.attn.num_heads for block in cast(Any, backbone.blocks)]
        return json.dumps([heads, backbone.kernels.words()], sort_keys=True)
    return repr(backbone)


@cache
def _code() -> str:
    """Of the networks, the images and the libraries below them."""
    return digest([], CODE, PACKAGES)
