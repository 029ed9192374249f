"""Batches of views and of evaluation images from images that are decoded one at a time.

Every image's randomness derives from (seed, step, image), so the number of decoding processes never
changes a result, and both paths draw the same crops and colours. Evaluation: resize, centre crop,
normalise (App. F.1).

The processes that decode live as long as a training. They heed the trainer alone: SLURM signals
every process of a job, and a trainer whose decoders end cannot go on to a checkpoint.

Shapes: N images, B images of a batch, R the evaluation resolution.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset
from torchvision import transforms as T

from repro.config.schema import CodePath, DataConfig, Resources, ViewsConfig
from repro.data.disk.decoder import UnreadableError, decoding, printable, read_regular
from repro.data.disk.levels import to_rgb
from repro.data.views import fast as fast_views
from repro.data.views.kinds import view_kinds
from repro.data.views.reference import to_tensor, view_transform
from repro.distributed import share
from repro.errors import UserError
from repro.randomness import image_seed, seed_everything

MakeViews = Callable[[Image.Image], list[Tensor]]
Work = list[list[tuple[int, int]]]  # batches of (place of an image, seed)
SIZES, CONTENTS = 4096, 64  # files that a digest looks at
LOOKED_AT = 1 << 28  # bytes of pixels: all of CIFAR's and SVHN's images
LEVELS = 2  # counts how files have been read into levels: features of another way are others
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


@dataclass(frozen=True)
class FileSplit:
    """Images behind a function that opens one of them."""

    open: Callable[[int], Image.Image]  # pixels may still be undecoded
    describe: Callable[[int], str]  # how an error names image i
    kept: Sequence[int]  # positions of the readable images
    labels_N: Tensor
    config: DataConfig
    resources: Resources
    pinned: bool = False  # batches are made for a GPU, in memory that it copies by itself
    idle: list[tuple[ViewsConfig, _Loader]] = field(default_factory=list, init=False, compare=False)

    def subset(self, places: list[int]) -> FileSplit:
        kept = [self.kept[place] for place in places]
        return replace(self, kept=kept, labels_N=self.labels_N[places])

    def fingerprint(self) -> str:
        """Of names, sizes and times of the files, and of resizing; pixels are read only where an
        image has no file of its own.
        """
        config = self.config
        resizing = (config.eval_resize, config.resolution, config.eval_interpolation.name)
        summary = hashlib.sha256(f"{LEVELS}/{resizing}".encode())
        in_files = True
        for place in self.kept:
            name = self.describe(place)
            stat = Path(name).stat() if Path(name).is_file() else None
            in_files &= stat is not None
            line = f"{name}/{stat and (stat.st_size, stat.st_mtime_ns)}\n"
            summary.update(line.encode(errors="surrogateescape"))
        if not in_files:
            summary.update(self.digest().encode())
            for place in self._small():
                summary.update(self._content(place))
        return summary.hexdigest()

    def digest(self) -> str:
        """Of labels and names (the last two parts of a path) of all images, sizes of `SIZES` and
        contents of `CONTENTS` of them, evenly chosen: folders of millions lie on slow disks.
        """
        names = (self.describe(place).rsplit("/", 2)[-2:] for place in self.kept)
        summary = hashlib.sha256("\n".join(map("/".join, names)).encode(errors="surrogateescape"))
        summary.update(self.labels_N.numpy().tobytes())
        for place in _evenly(self.kept, SIZES):
            with suppress(OSError):
                summary.update(f"\n{Path(self.describe(place)).stat().st_size}".encode())
        for place in _evenly(self.kept, CONTENTS):
            summary.update(self._content(place))
        return summary.hexdigest()[:16]

    def _small(self) -> Sequence[int]:
        """All images, where to look at every one of them takes a second."""
        with suppress(UnreadableError), decoding():
            width, height = self.open(self.kept[0]).size
            if 3 * width * height * len(self.kept) <= LOOKED_AT:
                return self.kept
        return []

    def _content(self, place: int) -> bytes:
        """Bytes of an image's file; where it has none of its own, its pixels."""
        with suppress(OSError):
            return read_regular(self.describe(place))
        with suppress(UnreadableError), decoding():
            return to_rgb(self.open(place)).tobytes()
        return b""

    def evaluation_batches(
        self, size: int, part: tuple[int, int] = (0, 1), first: int = 0
    ) -> Iterator[Tensor]:
        interpolation = T.InterpolationMode[self.config.eval_interpolation.name.upper()]
        resize = T.Resize(self.config.eval_resize, interpolation=interpolation)
        crop = T.Compose([resize, T.CenterCrop(self.config.resolution), to_tensor()])
        work = [(i, 0) for i in share(torch.arange(len(self.labels_N)), part)[first:].tolist()]
        batches = [work[i : i + size] for i in range(0, len(work), size)]
        for (images,) in self._loader(_OneByOne([crop]), [1]).load(batches):
            yield images

    def view_batches(
        self,
        batches: list[Tensor],
        config: ViewsConfig,
        seed: int,
        first_step: int,
        part: tuple[int, int] = (0, 1),
    ) -> Iterator[list[Tensor]]:
        work = _seeded([share(batch, part) for batch in batches], seed, first_step)
        of_these = self.idle and self.idle[-1][0] == config  # of the epoch before
        loader = (
            self.idle.pop()[1]
            if of_these
            else self._loader(self._make_views(config), config.counts)
        )
        yield from loader.load(work)
        self.idle[:] = [(config, loader)]

    def transformed_batches(
        self,
        batches: list[Tensor],
        transform: Callable[[Image.Image], Tensor],
        seed: int,
        first_step: int,
    ) -> Iterator[Tensor]:
        work = _seeded(batches, seed, first_step)
        for (images,) in self._loader(_OneByOne([transform]), [1]).load(work):
            yield images

    def _make_views(self, config: ViewsConfig) -> MakeViews:
        transforms = [view_transform(kind, config) for kind in view_kinds(config)]
        if self.resources.path is CodePath.fast:
            reduced = self.config.reduced_decoding
            return _Fast(transforms, reduced)
        return _OneByOne(transforms)

    def _loader(self, make_views: MakeViews, groups: list[int]) -> _Loader:
        return _Loader(_Views(replace(self), make_views), groups, self.resources, self.pinned)


class _Loader:
    """The processes that make batches of views of images, for one epoch after the other."""

    def __init__(
        self, views: _Views, groups: list[int], resources: Resources, pinned: bool
    ) -> None:
        self.work = _Batches()
        workers = resources.data_workers
        self.loader: DataLoader[Any] = DataLoader(
            views,
            batch_sampler=self.work,
            num_workers=workers,
            persistent_workers=workers > 0,
            multiprocessing_context=start_method() if workers else None,
            worker_init_fn=_HeedTheTrainerAlone(os.getpid()),
            collate_fn=_Collate(groups),
            pin_memory=pinned,
        )

    def load(self, work: Work) -> Iterator[list[Tensor]]:
        """Batches of views, [views of a group x B, 3, side, side] for each group of equal size."""
        self.work.batches = work
        # Processes begin deaf to them, and stay so.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            batches = iter(self.loader)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for batch in batches:
            if isinstance(batch, UserError):
                raise batch
            yield batch


class _Batches(Sampler[list[tuple[int, int]]]):
    """What is to be loaded next."""

    batches: Work

    def __init__(self) -> None:
        self.batches = []

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def start_method() -> str:
    """How processes that decode begin: as whoever runs this chose, else by fork, which is at once.

    A fork after CUDA is up is safe as long as the child never touches it: only the thread that pins
    memory does, here. On a Mac no fork is safe, as its own libraries start threads.
    """
    chosen = multiprocessing.get_start_method(allow_none=True)
    return chosen or ("spawn" if sys.platform == "darwin" else "fork")


@dataclass(frozen=True)
class _HeedTheTrainerAlone:
    """Of the stop signals, wait for one that the trainer itself sends, and end."""

    trainer: int  # its process; the parent may be a server that forks

    def __call__(self, _: int) -> None:
        if not hasattr(signal, "sigwaitinfo"):  # a Mac; the trainer ends them by SIGTERM
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            return
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)

        def wait() -> None:
            while signal.sigwaitinfo(STOP_SIGNALS).si_pid != self.trainer:
                pass
            os._exit(0)

        threading.Thread(target=wait, daemon=True).start()


def _seeded(batches: list[Tensor], seed: int, first_step: int) -> Work:
    """Each image with the seed of its transformations at its step."""
    return [
        [(place, image_seed(seed, place, first_step + offset)) for place in batch.tolist()]
        for offset, batch in enumerate(batches)
    ]


def _evenly(places: Sequence[int], most: int) -> Sequence[int]:
    return places[:: -(-len(places) // most) or 1]


@dataclass(frozen=True)
class _OneByOne:
    """Views by transforms of PIL images; like all that a loader holds, it can be sent to a process
    that shares no memory with this one.
    """

    transforms: Sequence[Callable[[Image.Image], Tensor]]

    def __call__(self, image: Image.Image) -> list[Tensor]:
        with decoding():
            decoded = to_rgb(image)
        return [transform(decoded) for transform in self.transforms]


@dataclass(frozen=True)
class _Fast:
    """Views by `views/fast.py`, which draws its parameters from the transforms."""

    transforms: list[T.Compose]
    reduced: bool

    def __call__(self, image: Image.Image) -> list[Tensor]:
        return fast_views.make_views(image, self.transforms, self.reduced)


class _Views(TorchDataset[Any]):
    """(image index, seed) -> the views of that image, or the error that stopped it."""

    def __init__(self, split: FileSplit, make_views: MakeViews) -> None:
        self.split, self.make_views = split, make_views

    def __getitem__(self, item: tuple[int, int]) -> list[Tensor] | UserError:
        index, seed = item
        place = self.split.kept[index]
        seed_everything(seed)
        try:
            with decoding():
                image = self.split.open(place)
            return self.make_views(image)
        except UnreadableError as error:
            # Returned, not raised: the loader would bury it in a worker's traceback.
            return _unreadable(self.split.describe(place), error)


@dataclass(frozen=True)
class _Collate:
    """Views of several images, view-major, one tensor for each size of view."""

    groups: list[int]

    def __call__(self, items: list[list[Tensor] | UserError]) -> list[Tensor] | UserError:
        for item in items:
            if isinstance(item, UserError):
                return item
        views, batches, first = cast(list[list[Tensor]], items), [], 0
        for group in self.groups:
            of_size = [image[v] for v in range(first, first + group) for image in views]
            batches.append(torch.stack(of_size))
            first += group
        return batches


def _unreadable(name: str, error: UnreadableError) -> UserError:
    return UserError(
        f"unreadable image {printable(name)} ({error}); mend or remove it, or set "
        "data.skip_unreadable=true to leave such images out and count them (repro eval: "
        "--skip-unreadable)"
    )


def file_split(
    open_: Callable[[int], Image.Image],
    describe: Callable[[int], str],
    labels: Sequence[int],
    config: DataConfig,
    resources: Resources,
    device: torch.device | None = None,
) -> tuple[FileSplit, int]:
    """The split and how many unreadable images were left out of it."""
    kept: Sequence[int] = range(len(labels))
    if config.skip_unreadable:

        def readable(place: int) -> bool:
            try:
                with decoding():
                    to_rgb(open_(place))
            except UnreadableError:
                return False
            return True

        with ThreadPoolExecutor() as pool:
            good = list(pool.map(readable, kept))
        kept = [place for place, ok in zip(kept, good, strict=True) if ok]
    if not kept:
        raise UserError(f"{config.name}: none of its {len(labels)} images is readable")
    kept_labels = torch.tensor([labels[i] for i in kept])
    pinned = device is not None and device.type == "cuda"
    split = FileSplit(open_, describe, kept, kept_labels, config, resources, pinned)
    return split, len(labels) - len(kept)
