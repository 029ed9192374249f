"""What a data set offers to training and evaluation.

Shapes: N images, B images of a batch, R the evaluation resolution. Labels serve evaluation only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from PIL import Image
from torch import Tensor

from repro.config.schema import ViewsConfig


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

    def digest(self) -> str:
        """Of the images and labels themselves, alike on every machine; cheap, so of a part of them
        where they are many.
        """
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
        """The views of each batch of image indices, in order, laid out as by `batched.make_views`.

        Floats, normalised, or levels (uint8) that `kinds.to_pixels` makes so.

        Args:
            batches: indices of the images of each coming step, over all ranks.
            first_step: the step of the first batch; views depend on (seed, step) only.
            part: (rank, ranks): views of all images, or of one rank's share.
        """
        ...


@dataclass(frozen=True)
class Dataset:
    """Without classes there is nothing to test, and `train` has no labels that mean anything."""

    name: str
    classes: list[str]
    train: Split
    test: Split
    unreadable_images: int = 0
    notes: tuple[str, ...] = ()  # lines about what is odd in it, for people
    labelled: Dataset | None = None  # others, on which evaluations are made

    @property
    def judged(self) -> Dataset | None:
        """Images with classes, on which evaluations are made; None where there are none."""
        return self.labelled or (self if self.classes else None)

    def digests(self) -> dict[str, str]:
        """By part, as a run notes of which images it was made."""
        judged = self.judged
        test = {"test": judged.test.digest()} if judged else {}
        bank = {"labelled": judged.train.digest()} if judged and self.labelled else {}
        return {"train": self.train.digest(), **test, **bank}
