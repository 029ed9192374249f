"""A split of images in memory; views by the batch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from repro.config.schema import ViewsConfig
from repro.data.pictures import picture
from repro.data.views.batched import make_views
from repro.data.views.kinds import normalise_
from repro.data.views.transfer import moved
from repro.distributed import share
from repro.randomness import generator, image_seed, seed_everything

DIGESTED = 2**26  # bytes of pixels, a thirtieth of a second


@dataclass(frozen=True)
class MemorySplit:
    """Images of one size, all in memory; their views are made by the batch, on their device."""

    images_N: Tensor  # uint8 [N, 3, R, R]
    labels_N: Tensor

    def subset(self, places: list[int]) -> MemorySplit:
        return MemorySplit(self.images_N[places], self.labels_N[places])

    def fingerprint(self) -> str:
        return hashlib.sha256(self.images_N.cpu().contiguous().numpy().data).hexdigest()

    def digest(self) -> str:
        """Of shape, labels and all pixels; of every nth image where they are more than 64 MiB."""
        images_N = self.images_N[:: -(-self.images_N.nbytes // DIGESTED) or 1]
        summary = hashlib.sha256(f"{tuple(self.images_N.shape)}".encode())
        summary.update(self.labels_N.cpu().numpy().tobytes())
        summary.update(images_N.cpu().contiguous().numpy().data)
        return summary.hexdigest()[:16]

    def evaluation_batches(
        self, size: int, part: tuple[int, int] = (0, 1), first: int = 0
    ) -> Iterator[Tensor]:
        for batch in torch.split(share(self.images_N, part)[first:], size):
            yield normalise_(batch.float() / 255)

    def view_batches(
        self,
        batches: list[Tensor],
        config: ViewsConfig,
        seed: int,
        first_step: int,
        part: tuple[int, int] = (0, 1),
    ) -> Iterator[list[Tensor]]:
        for offset, indices in enumerate(batches):
            random = generator(seed, "views", first_step + offset)
            # A batch draws its parameters together: every rank makes all views and keeps its own.
            images = self.images_N[moved(indices, self.images_N.device)]
            views = make_views(images, config, random)
            if part != (0, 1):
                views = [_share_of_views(view, len(indices), part) for view in views]
            yield views

    def transformed_batches(
        self,
        batches: list[Tensor],
        transform: Callable[[Image.Image], Tensor],
        seed: int,
        first_step: int,
    ) -> Iterator[Tensor]:
        for offset, indices in enumerate(batches):
            made = []
            images = self.images_N[moved(indices, self.images_N.device)].cpu()
            for place, image in zip(indices.tolist(), images, strict=True):
                seed_everything(image_seed(seed, place, first_step + offset))
                made.append(transform(picture(image)))
            yield torch.stack(made)


def _share_of_views(views: Tensor, batch: int, part: tuple[int, int]) -> Tensor:
    by_image = views.view(-1, batch, *views.shape[1:]).transpose(0, 1)
    return share(by_image, part).transpose(0, 1).flatten(0, 1)
