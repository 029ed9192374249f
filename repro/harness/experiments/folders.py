"""Where experiments/ and results/ are."""

from __future__ import annotations

import os
from pathlib import Path

import repro
from repro.errors import UserError


def experiments_dir() -> Path:
    """`experiments/` of the nearest parent of the working directory, else of this repository."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "experiments" / "base" / "run.yaml").is_file():
            return folder / "experiments"
    installed = Path(repro.__file__).resolve().parents[1] / "experiments"
    if not installed.is_dir():
        raise UserError(
            f"no experiments/base/run.yaml in {here} or above it; run repro inside the repository"
        )
    return installed


def own_dir() -> Path:
    """`experiments/own`, for people's own files, of the nearest folder that has experiments; else
    of the working directory."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        experiments = folder / "experiments"
        if (experiments / "own").is_dir() or (experiments / "base" / "run.yaml").is_file():
            return experiments / "own"
    return here / "experiments" / "own"


def composed_from(path: Path) -> Path:
    """Of an experiment's file: the folder whose base/ and scales/ its runs are composed from."""
    beside = path.parent
    return beside if (beside / "base" / "run.yaml").is_file() else experiments_dir()


def results_dir() -> Path:
    """`results/` beside `experiments/`, unless REPRO_RESULTS points elsewhere."""
    elsewhere = os.environ.get("REPRO_RESULTS")
    return Path(elsewhere).absolute() if elsewhere else experiments_dir().parent / "results"


def published_in(results: Path) -> Path:
    """Where published records are read: among the results, or the repository's own where these have
    none.
    """
    own = results / "published"
    return own if own.is_dir() else experiments_dir().parent / "results" / "published"


def scales_of(experiments: Path) -> list[str]:
    """The scales that a folder of experiments has, e.g. smoke, laptop, gpu, paper."""
    return sorted(path.stem for path in (experiments / "scales").glob("*.yaml"))
