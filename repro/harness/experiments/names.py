"""What experiments of one's own may not be called: commands read the word otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from repro.harness.experiments.folders import own_dir

RESERVED = (
    # What `all`, `repro figure` and the runs of `repro train` are called.
    "all", "collapse", "scorecard", "train",
    # States of runs, by which `repro status` and others find them.
    "queued", "running", "interrupted", "cancelled", "failed", "lost", "done", "damaged",
)  # fmt: skip


def why_not(name: str, paper: Sequence[str]) -> str:
    """Why an experiment of one's own may not be called so, beside those of the paper; empty where
    it may."""
    if name in RESERVED:
        return f"'{name}': commands read that as a word of theirs; choose another name"
    if name.upper() in map(str.upper, paper):
        return f"'{name}': that is one of the paper's; choose another name"
    return ""


def own_files(paper: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """People's own files, each with why it may not be called so."""
    for path in sorted(own_dir().glob("*.yaml")):
        yield path, why_not(path.stem, paper)
