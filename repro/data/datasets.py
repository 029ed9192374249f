"""What a data set offers to training and evaluation, and how one is opened.

Shapes: N images, B images of a batch, R the evaluation resolution. Labels serve evaluation only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from repro.config import DataConfig, DataKind, Resources, ViewsConfig


class Split(Protocol):
    """Train or test images with their labels."""

    @property
    def labels_N(self) -> Tensor:
        """int64 [N], on the CPU."""
        ...

    def subset(self, places: list[int]) -> Split:
        """These images alone."""
        ...

    def fingerprint(self) -> str:
        """Changes with the images or with what is done to them before evaluation."""
        ...

    def evaluation_batches(
        self, size: int, part: tuple[int, int] = (0, 1), first: int = 0
    ) -> Iterator[Tensor]:
        """Images in order, unaugmented and normalised: [B, 3, R, R], B <= size.

        Args:
            part: (rank, ranks): all images, or one rank's share of them, a contiguous stretch.
            first: where to begin in it.
        """
        ...

    def transformed_batches(
        self,
        batches: list[Tensor],
        transform: Callable[[Image.Image], Tensor],
        seed: int,
        first_step: int,
    ) -> Iterator[Tensor]:
        """Batches of images by any transform of PIL images, [B, 3, H, W].

        The transform may draw from torch's, numpy's and Python's generators: all are seeded for
        each image of each step.
        """
        ...

    def view_batches(
        self,
        batches: list[Tensor],
        config: ViewsConfig,
        seed: int,
        first_step: int,
        part: tuple[int, int] = (0, 1),
    ) -> Iterator[list[Tensor]]:
        """The views of each batch of image indices, in order, as `views.make_views` lays them out.

        Floats, normalised, or levels (uint8) that `views.to_pixels` makes so.

        Args:
            batches: indices of the images of each coming step, over all ranks.
            first_step: the step of the first batch; views depend on (seed, step) only.
            part: (rank, ranks): views of all images, or of one rank's share.
        """
        ...


@dataclass(frozen=True)
class Dataset:
    name: str
    classes: list[str]
    train: Split
    test: Split
    unreadable_images: int = 0


def open_dataset(
    config: DataConfig,
    root: str,
    resources: Resources | None = None,
    device: torch.device | None = None,
) -> Dataset:
    """Open the data set that `config` names.

    Args:
        root: folder of an image tree or of torchvision's files; unused for photographs.
        resources: path and processes of decoding (folders and torchvision).
        device: where images in memory are kept and their views are made (photographs).

    Raises:
        UserError: one line about a missing folder, an empty class or an unreadable image.
    """
    if config.kind is DataKind.photographs:
        from repro.data.photographs import open_photographs

        return open_photographs(config, device)
    if config.kind is DataKind.composites:
        from repro.data.composites import open_composites

        return open_composites(config, device)
    from repro.data.folders import open_folder, open_torchvision

    resources = resources or Resources()

    if config.kind is DataKind.folder:
        return open_folder(config, root, resources)
    return open_torchvision(config, root, resources)
