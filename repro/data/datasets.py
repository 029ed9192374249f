"""How the data set that a config names is opened; `dataset.py` says what it offers."""

from __future__ import annotations

from dataclasses import replace

import torch

from repro.config.schema import DataConfig, DataKind, Resources
from repro.data.dataset import Dataset
from repro.errors import UserError
from repro.files import expanded


def open_dataset(
    config: DataConfig,
    root: str,
    resources: Resources | None = None,
    device: torch.device | str | None = None,
    labelled: str = "",
) -> Dataset:
    """Open the data set that `config` names.

    Args:
        root: folder of an image tree or of torchvision's files, with variables of the machine
            ($SLURM_TMPDIR/...); unused for photographs.
        resources: path and processes of decoding (folders and torchvision).
        device: where images in memory are kept and their views are made (photographs, composites);
            batches of decoded images lie ready to be copied there.
        labelled: folder of an image tree on which evaluations are made, in place of the data set's
            own images.

    Raises:
        UserError: one line about a missing folder, an empty class or an unreadable image.
    """
    device = None if device is None else torch.device(device)
    if config.kind is DataKind.photographs:
        from repro.data.photographs import open_photographs

        return open_photographs(config, device)
    if config.kind is DataKind.composites:
        from repro.data.composites import open_composites

        return open_composites(config, device)
    from repro.data.folders import UNLABELLED, open_folder, open_torchvision

    resources = resources or Resources()
    opened = open_folder if config.kind is DataKind.folder else open_torchvision
    dataset = opened(config, expanded(root), resources, device)
    if not labelled:
        return dataset
    judged = open_folder(config, expanded(labelled), resources, device)
    if not judged.classes:
        raise UserError(f"paths.labelled={labelled}: needs train/CLASS/* and val/CLASS/*")
    notes = tuple(line for line in dataset.notes if not line.endswith(UNLABELLED))
    return replace(dataset, labelled=judged, notes=notes + judged.notes)


def count_training_images(config: DataConfig, root: str) -> int:
    """Raises: UserError, as `open_dataset`."""
    return config.images_made or len(open_dataset(config, root).train.labels_N)
