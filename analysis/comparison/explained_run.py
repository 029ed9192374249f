"""`repro explain RUN`: one run of this machine, what it is, what it gave and what it counts for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from analysis.comparison.described import Described, environment, of_folder
from analysis.evidence.believed import ALSO_THERE
from analysis.evidence.differences import differences, flat_identity, value_text
from repro.config.compose import compose, to_plain
from repro.errors import UserError
from repro.harness.experiments.experiment import experiment_ids
from repro.harness.experiments.folders import experiments_dir, results_dir
from repro.harness.runs.planned import OWN
from repro.harness.runs.records import EarlyEnd
from repro.harness.runs.store import RunFolder
from repro.harness.status.find import find, rows_of


def meant(word: str) -> tuple[RunFolder, str] | None:
    """The run here that a word means, with its state; None where it is no word for runs.

    Raises:
        UserError: several runs are meant.
    """
    if word.startswith("C.") or word.replace(".", ":").partition(":")[0] in experiment_ids():
        return None
    try:
        folders, seen = find([word], results_dir())
    except UserError:
        return None
    if len(folders) > 1:
        named = ", ".join(folder.id for folder in folders[:4])
        raise UserError(f"'{word}' means {len(folders)} runs ({named}, ...); name one of them")
    return (folders[0], str(seen.views[folders[0].id].state)) if folders else None


def explain_run(folder: RunFolder, state: str) -> dict[str, Any]:
    """{run, folder, state, tags, scale, seed, differs, metrics, sentinel, stopped_on, code,
    hardware, serves, counts, log}.

    `differs` says in which settings it is not what its scale has by itself; `serves` which rows
    its numbers are of.

    Raises:
        UserError: a file of it is damaged.
    """
    run = of_folder(folder, state)
    env = environment(run)
    plain = flat_identity(to_plain(compose(experiments_dir(), run.scale)))
    differs = differences(run.config, plain)
    rows = {name: rows_of(name, [folder]).get(folder.id) for name in experiment_ids()}
    serves = [f"{name}:{row}" for name, row in rows.items() if row]
    return {
        "run": run.id,
        "slug": run.slug,
        "folder": str(folder.path),
        "state": run.state,
        "tags": list(run.tags),
        "scale": run.scale,
        "seed": run.seed,
        "differs": {k: {"run": a, "scale": b} for k, (a, b) in differs.items() if k != "seed"},
        "metrics": dict(run.metrics),
        "sentinel": run.sentinel or None,
        "stopped_on": msgspec.to_builtins(run.stopped_on),
        "git_sha": env.git_sha,
        "dirty": env.dirty,
        "hardware": msgspec.to_builtins(env.hardware),
        "serves": serves,
        "counts": _counts(run, serves),
        "log": str(folder.path / "log.txt"),
    }


def _counts(run: Described, serves: list[str]) -> str:
    """Whether it is evidence for the rows that it serves, in words."""
    if not serves:
        return "for no row of an experiment"
    return ALSO_THERE if run.experiment == OWN else "as evidence, once it is done"


def lines_of(explained: Mapping[str, Any]) -> Iterator[str]:
    """The explanation for people."""
    yield f"run: {explained['slug']} ({explained['run']}), {explained['state']}"
    yield f"folder: {explained['folder']}"
    if explained["tags"]:
        yield f"tags: {', '.join(explained['tags'])}"
    plain = f"otherwise than {explained['scale']} scale by itself"
    yield f"{plain}:" if explained["differs"] else f"{plain}: nothing"
    for key, pair in explained["differs"].items():
        yield f"  {key}: {value_text(pair['run'])} (there {value_text(pair['scale'])})"
    if explained["metrics"]:
        numbers = explained["metrics"].items()
        yield "metrics:"
        yield from (f"  {key}: {value:.6g}" for key, value in numbers if value is not None)
    if explained["sentinel"]:
        yield f"sentinel: {explained['sentinel']}"
    if explained["stopped_on"]:
        yield f"ended: {msgspec.convert(explained['stopped_on'], EarlyEnd)}"
    dirty = ", with uncommitted changes" if explained["dirty"] else ""
    yield f"code: {explained['git_sha'] or 'not noted'}{dirty}"
    if explained["serves"]:
        yield f"serves: {', '.join(explained['serves'])}"
    yield f"counts: {explained['counts']}"
    yield f"log: {explained['log']}"
