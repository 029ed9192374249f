"""Image folders and torchvision data sets, decoded one image at a time.

Views are made by torchvision's transforms on PIL images, as the authors' `DataAugmentationDINO`
does. Every image's randomness derives from (seed, step, image), so the number of decoding processes
never changes a result. Evaluation: resize, centre crop, normalise (App. F.1).

Shapes: N images, B images of a batch, R the evaluation resolution.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torchvision
from PIL import Image, ImageFilter, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision import transforms as T

from repro.config import DataConfig, ViewsConfig
from repro.data.datasets import Dataset
from repro.dino.distributed import share
from repro.dino.randomness import derive
from repro.dino.views import IMAGENET_MEAN, IMAGENET_STD, View, view_kinds
from repro.errors import UserError, nearest

BICUBIC = T.InterpolationMode.BICUBIC
UNREADABLE = (UnidentifiedImageError, OSError, SyntaxError, ValueError)
Transform = Callable[[Image.Image], Any]


@dataclass(frozen=True)
class FileSplit:
    """Images behind a function that decodes one of them."""

    decode: Callable[[int], Image.Image]
    describe: Callable[[int], str]  # how an error names image i
    kept: Sequence[int]  # positions of the readable images
    labels_N: Tensor
    resolution: int
    eval_resize: int
    workers: int

    def evaluation_batches(self, size: int, part: tuple[int, int] = (0, 1)) -> Iterator[Tensor]:
        crop = T.Compose(
            [
                T.Resize(self.eval_resize, interpolation=BICUBIC),
                T.CenterCrop(self.resolution),
                _to_tensor(),
            ]
        )
        work = [(i, 0) for i in share(torch.arange(len(self.labels_N)), part).tolist()]
        batches = [work[i : i + size] for i in range(0, len(work), size)]
        for (images,) in self._load(batches, [crop], [1]):
            yield images

    def view_batches(
        self,
        batches: list[Tensor],
        config: ViewsConfig,
        seed: int,
        first_step: int,
        part: tuple[int, int] = (0, 1),
    ) -> Iterator[list[Tensor]]:
        transforms = [view_transform(kind, config) for kind in view_kinds(config)]
        work = [
            [
                (i, derive(seed, f"views of {i}", first_step + n))
                for i in share(batch, part).tolist()
            ]
            for n, batch in enumerate(batches)
        ]
        groups = [2, config.local_number] if config.local_number else [2]
        yield from self._load(work, transforms, groups)

    def _load(
        self, work: list[list[tuple[int, int]]], transforms: list[Transform], groups: list[int]
    ) -> Iterator[list[Tensor]]:
        """Batches of views, [views of a group x B, 3, side, side] for each group of equal size."""
        loader = DataLoader(
            _Views(self, transforms),
            batch_sampler=work,
            num_workers=self.workers,
            collate_fn=_collate,
            pin_memory=torch.cuda.is_available(),
        )
        for batch in loader:
            if isinstance(batch, UserError):
                raise batch
            views, first = [], 0
            for group in groups:
                views.append(torch.cat(batch[first : first + group]))
                first += group
            yield views


class _Views(TorchDataset[Any]):
    """(image index, seed) -> the views of that image, or the error that stopped it."""

    def __init__(self, split: FileSplit, transforms: list[Transform]) -> None:
        self.split, self.transforms = split, transforms

    def __getitem__(self, item: tuple[int, int]) -> list[Tensor] | UserError:
        index, seed = item
        place = self.split.kept[index]
        try:
            image = self.split.decode(place).convert("RGB")
        except UNREADABLE as error:
            # Returned, not raised: the loader would bury it in a worker's traceback.
            return _unreadable(self.split.describe(place), error)
        torch.manual_seed(seed)
        return [transform(image) for transform in self.transforms]


def _collate(items: list[list[Tensor] | UserError]) -> list[Tensor] | UserError:
    for item in items:
        if isinstance(item, UserError):
            return item
    views = cast(list[list[Tensor]], items)
    return [torch.stack(view) for view in zip(*views, strict=True)]


def view_transform(kind: View, config: ViewsConfig) -> T.Compose:
    """The transforms of one view, in the authors' order."""
    jitter = T.ColorJitter(config.brightness, config.contrast, config.saturation, config.hue)
    return T.Compose(
        [
            T.RandomResizedCrop(kind.size, scale=kind.scale, interpolation=BICUBIC),
            T.RandomHorizontalFlip(config.flip),
            T.RandomApply([jitter], config.jitter),
            T.RandomGrayscale(config.grey),
            T.RandomApply([PilBlur(config.blur_sigma)], kind.blur),
            T.RandomSolarize(128, kind.solarise),
            _to_tensor(),
        ]
    )


class PilBlur(torch.nn.Module):
    """PIL's Gaussian blur with a radius drawn uniformly."""

    def __init__(self, sigma: tuple[float, float]) -> None:
        super().__init__()
        self.low, self.high = sigma

    def forward(self, image: Image.Image) -> Image.Image:
        radius = float(torch.empty(1).uniform_(self.low, self.high))
        return image.filter(ImageFilter.GaussianBlur(radius))


def _to_tensor() -> T.Compose:
    return T.Compose([T.ToTensor(), T.Normalize(IMAGENET_MEAN, IMAGENET_STD)])


def open_folder(config: DataConfig, root: str, workers: int = 0) -> Dataset:
    """ROOT/train/CLASS/* and ROOT/val/CLASS/*.

    Raises:
        UserError: a missing folder, an empty class, classes that differ between the two.
    """
    if not root:
        raise UserError(
            f"data.kind=folder ({config.name}) needs paths.data=ROOT, a folder that holds "
            "train/CLASS/* and val/CLASS/*"
        )
    trees = [_image_tree(Path(root), part) for part in ("train", "val")]
    if trees[0].classes != trees[1].classes:
        odd = sorted(set(trees[0].classes) ^ set(trees[1].classes))
        raise UserError(
            f"paths.data={root}: train/ and val/ hold different classes, e.g. '{odd[0]}'"
        )

    def split(tree: torchvision.datasets.ImageFolder) -> tuple[FileSplit, int]:
        def decode(place: int) -> Image.Image:
            return cast(Image.Image, tree.loader(tree.samples[place][0]))

        return _file_split(decode, lambda i: tree.samples[i][0], tree.targets, config, workers)

    (train, lost_train), (test, lost_test) = split(trees[0]), split(trees[1])
    return Dataset(config.name, trees[0].classes, train, test, lost_train + lost_test)


def _image_tree(root: Path, part: str) -> torchvision.datasets.ImageFolder:
    if not (root / part).is_dir():
        raise UserError(
            f"paths.data={root}: no folder '{part}' there; a folder data set needs "
            "train/CLASS/* and val/CLASS/*"
        )
    try:
        return torchvision.datasets.ImageFolder(str(root / part))
    except FileNotFoundError as error:
        # "Found no valid file for the classes a, b. Supported extensions are: ..."
        raise UserError(
            f"{root / part}: {str(error).split('. ')[0]}; add images or remove"
        ) from None


def open_torchvision(config: DataConfig, root: str, workers: int = 0) -> Dataset:
    """A torchvision data set by class name, downloaded by torchvision where a network exists.

    Raises:
        UserError: an unknown name, or files that are neither there nor can be downloaded.
    """
    # getattr, because torchvision imports some of its names on demand
    everything = {
        name: getattr(torchvision.datasets, name) for name in torchvision.datasets.__all__
    }
    known = {name: kind for name, kind in everything.items() if inspect.isclass(kind)}
    if config.name not in known:
        raise UserError(
            f"data.name={config.name} is not a torchvision data set; "
            f"nearest: {nearest(config.name, known)}"
        )
    if not root:
        raise UserError(f"data.kind=torchvision ({config.name}) needs paths.data=FOLDER")
    kind = known[config.name]
    train_set = _torchvision_part(kind, root, ("train",))
    test_set = _torchvision_part(kind, root, ("test", "val", "valid"))

    def split(source: Any, part: str) -> tuple[FileSplit, int]:
        def describe(place: int) -> str:
            return f"{config.name} {part} image {place}"

        labels = _labels(source)
        return _file_split(lambda i: source[i][0], describe, labels, config, workers)

    train, lost_train = split(train_set, "train")
    test, lost_test = split(test_set, "test")
    labels = torch.cat([train.labels_N, test.labels_N])
    names = getattr(train_set, "classes", None) or [str(i) for i in range(int(labels.max()) + 1)]
    return Dataset(config.name, list(names), train, test, lost_train + lost_test)


def _torchvision_part(kind: Any, root: str, names: tuple[str, ...]) -> Any:
    """Train or test part; torchvision's classes take `train=bool` or `split=name`."""
    parameters = inspect.signature(kind).parameters
    arguments: dict[str, Any] = {"root": root}
    if "download" in parameters:
        arguments["download"] = True
    if "train" in parameters:
        choices: list[dict[str, Any]] = [{"train": names[0] == "train"}]
    elif "split" in parameters:
        choices = [{"split": name} for name in names]
    else:
        raise UserError(
            f"data.name={kind.__name__} has no train and test part; use a folder data set instead"
        )
    problem: Exception | None = None
    for choice in choices:
        try:
            return kind(**arguments, **choice)
        except (ValueError, RuntimeError, OSError) as error:
            problem = problem or error
    reason = " ".join(str(problem).split())
    raise UserError(f"{kind.__name__}: {reason} (paths.data={root})") from None


def _labels(source: Any) -> list[int]:
    for name in ("targets", "labels", "_labels"):
        if hasattr(source, name):
            return [int(label) for label in getattr(source, name)]
    return [int(source[i][1]) for i in range(len(source))]


def _file_split(
    decode: Callable[[int], Image.Image],
    describe: Callable[[int], str],
    labels: Sequence[int],
    config: DataConfig,
    workers: int,
) -> tuple[FileSplit, int]:
    """The split and how many unreadable images were left out of it."""
    kept = list(range(len(labels)))
    if config.skip_unreadable:

        def readable(place: int) -> bool:
            try:
                decode(place).convert("RGB")
            except UNREADABLE:
                return False
            return True

        with ThreadPoolExecutor() as pool:
            good = list(pool.map(readable, kept))
        kept = [place for place, ok in zip(kept, good, strict=True) if ok]
    if not kept:
        raise UserError(f"{config.name}: none of its {len(labels)} images is readable")
    kept_labels = torch.tensor([labels[i] for i in kept])
    split = FileSplit(
        decode, describe, kept, kept_labels, config.resolution, config.eval_resize, workers
    )
    return split, len(labels) - len(kept)


def _unreadable(name: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:120]
    return UserError(
        f"unreadable image {name} ({type(error).__name__}: {reason}); mend or remove it, or set "
        "data.skip_unreadable=true to leave such images out and count them"
    )
