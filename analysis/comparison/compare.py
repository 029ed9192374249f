"""`repro compare`: two runs or more beside each other.

What differs in their configs, what they measured, what else was otherwise, and from which step on
their curves are not the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from analysis.comparison.described import Described, environment, of_folder, of_record
from analysis.evidence.differences import differences
from analysis.figures.runs import ShownRun, draw_runs, find_shown
from analysis.figures.style import styled, write
from repro.errors import UserError
from repro.harness.experiments.folders import results_dir
from repro.harness.runs.store import find_runs
from repro.harness.status.overview import overview

OF_THE_MACHINE = ("im_s", "time_h", "mem_G")  # numbers that tell of speed and memory alone
CODE = ("dirty", "torch", "torchvision", "timm", "numpy", "python")
MACHINE = ("cpu", "gpu", "cores", "threads", "ranks")


@dataclass(frozen=True)
class Parting:
    """Where the curves of a run leave those of the first: the step, or the epoch of means over
    bins, which is all that a published run has; None where they never do.
    """

    common: int  # steps, or bins, that both have
    step: int | None = None
    epoch: float | None = None
    differ: Sequence[str] = ()  # what is first different

    def __str__(self) -> str:
        if self.step is not None:
            return f"from step {self.step} on ({', '.join(self.differ)})"
        if self.epoch is not None:
            return f"by epoch {self.epoch:.3g} ({', '.join(self.differ)})"
        return f"nowhere in {self.common} that both have" if self.common else "nothing in common"


@dataclass(frozen=True)
class Comparison:
    """Runs, the first being what the others are held to."""

    runs: Sequence[Described]
    config: Mapping[str, Sequence[Any]]  # settings that are not the same in all
    metrics: Mapping[str, Sequence[float | None]]
    otherwise: Mapping[str, Sequence[Any]]  # code, versions, hardware that are not the same
    partings: Sequence[Parting]  # of the second run and later ones

    def as_json(self) -> dict[str, Any]:
        return {
            "runs": [
                {"id": r.id, "slug": r.slug, "seed": r.seed, "state": r.state, "scale": r.scale}
                for r in self.runs
            ],
            "config": {key: list(values) for key, values in self.config.items()},
            "metrics": {key: list(values) for key, values in self.metrics.items()},
            "otherwise": {key: list(values) for key, values in self.otherwise.items()},
            "partings": [vars(parting) for parting in self.partings],
        }


def meant(words: Sequence[str]) -> list[tuple[Described, ShownRun]]:
    """The runs that words as of `repro figure collapse` mean, each with its curves.

    Raises:
        UserError: a word means no run, or one without a step; fewer than two runs are meant.
    """
    shown = find_shown(words)
    if len(shown) < 2:
        raise UserError(f"compare: {' '.join(words)}: name two runs or more; repro runs lists them")
    folders = {folder.id: folder for folder in find_runs(results_dir() / "runs")}
    seen = overview([folders[run.id] for run in shown if run.id in folders], results_dir())
    found = []
    for run in shown:
        if run.record is not None:
            found.append((of_record(run.record), run))
        elif run.id in folders:
            found.append((of_folder(folders[run.id], str(seen.views[run.id].state)), run))
        else:
            raise UserError(f"{run.id}: its folder is not in {results_dir() / 'runs'}")
    return found


def compare(found: Sequence[tuple[Described, ShownRun]]) -> Comparison:
    """Raises: UserError: a file of a run is damaged."""
    runs = [run for run, _ in found]
    first = found[0]
    return Comparison(
        runs,
        _unequal([run.config for run in runs]),
        _metrics(runs),
        _unequal([_surroundings(run) for run in runs]),
        [_parting(first, other) for other in found[1:]],
    )


def draw(found: Sequence[tuple[Described, ShownRun]]) -> list[str]:
    """Their curves in one picture; its paths."""
    name = f"compare-{'-'.join(run.id[:6] for run, _ in found[:4])}"
    with styled():
        figure = draw_runs([shown for _, shown in found])
        return list(map(str, write(figure, name, ["png"], results_dir() / "figures")))


def _unequal(settings: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The keys that are not the same in all, each with the values in order."""
    keys = dict.fromkeys(key for other in settings[1:] for key in differences(settings[0], other))
    return {key: [each.get(key) for each in settings] for key in keys}


def _metrics(runs: Sequence[Described]) -> dict[str, list[float | None]]:
    """All that any of them has, those of the machine last."""
    names = list(dict.fromkeys(name for run in runs for name in run.metrics))
    names.sort(key=lambda name: name in OF_THE_MACHINE)
    return {name: [run.metrics.get(name) for run in runs] for name in names}


def _surroundings(run: Described) -> dict[str, Any]:
    env = environment(run)
    hardware = env.hardware
    machine = {name: getattr(hardware, name) for name in MACHINE} if hardware else {}
    images = msgspec.to_builtins(env.data) if env.data else {}
    return {
        "commit": (env.git_sha or "")[:10] or None,
        **{name: getattr(env, name) for name in CODE},
        **machine,
        **{f"{part} images": digest for part, digest in images.items()},
    }


def _parting(one: tuple[Described, ShownRun], other: tuple[Described, ShownRun]) -> Parting:
    if one[0].folder and other[0].folder:
        return first_step_apart(one[0].folder.metrics(), other[0].folder.metrics())
    return _first_bin_apart(one[1], other[1])


def first_step_apart(
    one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]
) -> Parting:
    """Where the metric lines of two runs are first different, step by step."""
    theirs = {(line["kind"], line["step"]): line for line in other}
    mine_and_theirs = ((line, theirs.get((line["kind"], line["step"]))) for line in one)
    pairs = [(line, same) for line, same in mine_and_theirs if same is not None]
    steps = sum(line["kind"] == "step" for line, _ in pairs)
    for mine, their in pairs:
        keys = [k for k in mine if k in their and k not in OF_THE_MACHINE and k != "epoch"]
        if differ := [key for key in keys if mine[key] != their[key]]:
            return Parting(steps, step=int(mine["step"]), differ=differ)
    return Parting(steps)


def _first_bin_apart(one: ShownRun, other: ShownRun) -> Parting:
    """The same of curves that are means over bins."""
    mine, theirs = one.curves.steps, other.curves.steps
    epochs = list(mine.get("epoch", ()))
    names = [n for n in mine if n in theirs and n not in (*OF_THE_MACHINE, "epoch")]
    common = min(len(epochs), len(theirs.get("epoch", ())))
    for i in range(common):
        if differ := [name for name in names if mine[name][i] != theirs[name][i]]:
            return Parting(common, epoch=epochs[i], differ=differ)
    return Parting(common)
