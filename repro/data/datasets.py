"""How the data set that a config names is opened; `dataset.py` says what it offers."""

from __future__ import annotations

import torch

from repro.config.schema import DataConfig, DataKind, Resources
from repro.data.dataset import Dataset
from repro.files import expanded


def open_dataset(
    config: DataConfig,
    root: str,
    resources: Resources | None = None,
    device: torch.device | None = None,
) -> Dataset:
    """Open the data set that `config` names.

    Args:
        root: folder of an image tree or of torchvision's files, with variables of the machine
            ($SLURM_TMPDIR/...); unused for photographs.
        resources: path and processes of decoding (folders and torchvision).
        device: where images in memory are kept and their views are made (photographs, composites);
            batches of decoded images lie ready to be copied there.

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

    root = expanded(root)
    if config.kind is DataKind.folder:
        return open_folder(config, root, resources, device)
    return open_torchvision(config, root, resources, device)
