"""What `--data NAME=PATH` means: which images, read how, and at which size a network sees them.

A path always wins over a name of the product's own: photographs=/mine are the pictures of /mine.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from repro.errors import UserError
from repro.files import of_home
from repro.hardware import available_cores
from repro.harness.evaluation.classification import LABELLED, LOW_SHOT, TORCHVISION, is_tree
from repro.harness.evaluation.names import PROTOCOLS, THROUGHPUT
from repro.harness.evaluation.requests import request_for
from repro.harness.experiments.folders import experiments_dir
from repro.harness.runs.evaluations import Request

if TYPE_CHECKING:
    from repro.config.schema import Protocols, RunConfig
    from repro.evals.weights.networks import Weights
    from repro.evals.weights.preprocessing import Preprocessing


@dataclass(frozen=True)
class ChosenData:
    """Images by name and folder, as a config and as what a protocol is asked for."""

    name: str
    root: str
    config: RunConfig
    request: Request
    whole_images: bool  # seen whole at one size, not at those of a benchmark


def chosen_data(data: str, protocol: str, epochs: int = 0) -> ChosenData:
    """Args:
        data: NAME=PATH: a tree PATH/train/CLASS/* and PATH/val/CLASS/*, or a benchmark's folder; or
            the name of data that need no folder. NAME-1pct and NAME-10pct: with that share of the
            training images, those of PATH/1percent.txt or 10percent.txt where such a list lies.
            Throughput needs none.
        epochs: of a linear probe or of finetuning; 0 for the paper's.

    Raises:
        UserError: data that the protocol cannot use, or no folder.
    """
    name, _, root = data.partition("=")
    root = of_home(root)
    known = PROTOCOLS[protocol]
    whole, share = _share_of(name)
    labelled = bool(root) and whole in LABELLED
    if known.benchmarks and not root and name != known.stand_in:
        made = f"made here for {protocol}: {known.stand_in}"
        raise UserError(f"--data {data}: write {name}=PATH, its folder; {made}")
    if known.benchmarks or labelled or protocol == THROUGHPUT:
        config = _config_without_data()
    else:
        config = data_config(f"{whole}={root}" if root else whole)
    config = replace(config, protocols=shortened(config.protocols, epochs))
    request = request_for(protocol, config)
    if known.benchmarks:
        source = name.partition("-")[0]
        if root and source == known.stand_in:
            source = known.benchmarks[0]  # whose layout a folder has
        request = replace(request, data=name, source=source, root=root)
    elif labelled:
        request = replace(request, data=name, source=whole, root=root)
    elif share:
        listed = Path(root) / f"{share.removesuffix('pct')}percent.txt"
        list_file = str(listed) if root and listed.is_file() else ""
        request = replace(request, data=share, source=share, root=list_file)
    return ChosenData(name, root, config, request, not known.benchmarks)


def data_config(data: str) -> RunConfig:
    """The config of `photographs`, or of the images of NAME=PATH.

    Raises:
        UserError: no such folder.
    """
    from repro.config.compose import compose
    from repro.config.schema import DataKind

    name, _, path = data.partition("=")
    path = of_home(path)
    if name == DataKind.photographs.value and not path:
        return compose(experiments_dir(), "laptop", source="--data photographs")
    if not name or not path:
        raise UserError(f"--data {data}: write NAME=PATH, e.g. birds=/data/birds, or photographs")
    if not Path(path).is_dir():
        raise UserError(f"--data {data}: {path} is no folder")
    workers = min(10, available_cores())
    overrides = {"data": "folder", "paths.data": path, "resources.data_workers": workers}
    config = compose(experiments_dir(), "paper", overrides, "--data")
    packed = name in TORCHVISION and not is_tree(path)
    own = (
        replace(config.data, kind=DataKind.torchvision, name=TORCHVISION[name])
        if packed
        else replace(config.data, name=name)  # whatever signs it has
    )
    return replace(config, data=own)


def seen_by(config: RunConfig, weights: Weights, side: int = 0) -> tuple[RunConfig, Preprocessing]:
    """The config with images as the weights were trained to see them, and that in words.

    Tiles made here stay as small as they are for networks of others, if whole patches fit.

    Args:
        side: at this size instead.
    """
    from repro.config.schema import Family

    data, seen, model = config.data, weights.seen, weights.model
    if side:
        seen = seen.at(side)
    elif data.made_here and weights.step is None:
        fits = model.family is not Family.vit or data.resolution % model.patch_size == 0
        seen = seen.at(data.resolution) if fits else seen
    data = replace(
        data,
        resolution=seen.side,
        eval_resize=seen.resize,
        eval_interpolation=seen.interpolation,
    )
    views = replace(config.views, global_size=weights.image_size)
    return replace(config, data=data, model=model, views=views), seen


def shortened(protocols: Protocols, epochs: int) -> Protocols:
    if not epochs:
        return protocols
    return replace(protocols, linear_epochs=epochs, finetune_epochs=epochs)


def _share_of(name: str) -> tuple[str, str]:
    """birds and 1pct of birds-1pct; any other name, and an empty share."""
    whole, _, share = name.rpartition("-")
    return (whole, share) if whole and share in LOW_SHOT else (name, "")


def _config_without_data() -> RunConfig:
    from repro.config.compose import compose

    workers = {"resources.data_workers": min(10, available_cores())}
    return compose(experiments_dir(), "paper", workers, "--data")
