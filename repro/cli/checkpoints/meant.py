"""Which weights a word means: a file, a name of timm's, or runs as other commands know them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from repro.errors import UserError

SUFFIXES = (".pt", ".pth", ".safetensors", ".bin", ".ckpt")


def meant(words: Sequence[str]) -> list[Path]:
    """Files and run folders, each once; a word that means nothing stays what it is."""
    found = [path for word in words for path in _meant(word)]
    return list({str(path.absolute()): path for path in found}.values())


def _meant(word: str) -> list[Path]:
    from repro.harness.evaluation.any_checkpoint import run_folder
    from repro.harness.experiments.folders import results_dir
    from repro.harness.status.find import find

    path = Path(word)
    if word.startswith("timm:") or path.exists() or run_folder(path) is not None:
        return [path]
    if os.sep in word or path.suffix in SUFFIXES:
        return [path]
    try:
        return [folder.path for folder in find([word], results_dir())[0]] or [path]
    except UserError:
        return [path]
