"""Where experiments/ and results/ are.

The paper's experiments, published results and benchmarks come with the program, as a clone or in an
installed package, and are only read. People's own experiments and runs lie in their *study*: the
clone, or any other folder.
"""

from __future__ import annotations

import os
from pathlib import Path

from repro.errors import UserError
from repro.harness import package, shipped

RUN = Path("base", "run.yaml")  # by which a folder is known that holds the paper's experiments


def experiments_dir() -> Path:
    """The paper's: `experiments/` of the nearest parent of the working directory that has them,
    else those that came with this program."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "experiments" / RUN).is_file():
            return folder / "experiments"
    ours = (shipped() if shipped().is_dir() else package().parent) / "experiments"
    if not ours.is_dir():
        raise UserError(f"no experiments/{RUN} in {here} or above it; run repro inside a clone")
    return ours


def study_dir() -> Path:
    """Where people work: the nearest folder with experiments, theirs (`experiments/own`) or the
    paper's; else the working directory."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        experiments = folder / "experiments"
        if (experiments / "own").is_dir() or (experiments / RUN).is_file():
            return folder
    return here


def own_dir() -> Path:
    """For people's own experiment files."""
    return study_dir() / "experiments" / "own"


def clusters() -> dict[str, Path]:
    """Files of clusters by name: of the study, and those that came with the program."""
    folders = (experiments_dir(), study_dir() / "experiments")
    return {file.stem: file for one in folders for file in sorted(one.glob("clusters/*.yaml"))}


def composed_from(path: Path) -> Path:
    """Of an experiment's file: the folder whose base/ and scales/ its runs are composed from."""
    beside = path.parent
    return beside if (beside / RUN).is_file() else experiments_dir()


def results_dir() -> Path:
    """`results/` of the study, unless REPRO_RESULTS points elsewhere."""
    elsewhere = os.environ.get("REPRO_RESULTS")
    return Path(elsewhere).absolute() if elsewhere else study_dir() / "results"


def published_in(results: Path) -> Path:
    """Where published records are read: among the results, or the program's own where these have
    none.
    """
    return _there_or_ours(results, "published")


def benchmarks_in(results: Path) -> Path:
    """Likewise the suite's measurements of this program."""
    return _there_or_ours(results, "benchmarks")


def _there_or_ours(results: Path, name: str) -> Path:
    there = results / name
    return there if there.is_dir() else experiments_dir().parent / "results" / name


def scales_of(experiments: Path) -> list[str]:
    """The scales that a folder of experiments has, e.g. smoke, laptop, gpu, paper."""
    return sorted(path.stem for path in (experiments / "scales").glob("*.yaml"))
