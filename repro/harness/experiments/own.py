"""People's own experiment files: made from a line of settings, extended by one, or begun by hand.

A file that was made is a page like the others, to be read and edited; extending it changes the
values of its axes alone, so that whatever else was written into it stays.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from repro.decode.plain_yaml import write_inline
from repro.errors import UserError
from repro.harness.experiments.experiment import Experiment, experiment_ids, load, own_ids
from repro.harness.experiments.folders import experiments_dir
from repro.harness.experiments.grid import text_of
from repro.harness.experiments.names import own_files


def every_experiment() -> Iterator[tuple[Experiment, bool]]:
    """The paper's, then people's own, each with whether it is one of these; one of them that cannot
    be read or not be called so is left out, with a line on standard error.

    Raises:
        UserError: a mistake in a file of the paper's.
    """
    for name in experiment_ids():
        yield load(name), False
    for path, why in own_files(experiment_ids()):
        if why:
            print(f"left out: {path}: {why}", file=sys.stderr)
    for name in own_ids():
        try:
            yield load(name), True
        except UserError as mistake:
            print(f"left out: {mistake}", file=sys.stderr)


@dataclass(frozen=True)
class Swept:
    """A line of settings by key: those with several values, and those with one."""

    axes: Mapping[str, Sequence[Any]]
    fixed: Mapping[str, Any]


def axis_names(keys: Sequence[str]) -> dict[str, str]:
    """What the axes of some keys are called: by their last part, in full where two share it."""
    last = [key.rpartition(".")[2] for key in keys]
    return {
        key: name if last.count(name) == 1 else key.replace(".", "_")
        for key, name in zip(keys, last, strict=True)
    }


def text_of_sweep(path: Path, swept: Swept, command: str, grid: str) -> str:
    """The file of a new sweep.

    Args:
        command: the line that made it.
        grid: the options that say which of its runs, e.g. `--scale laptop --seeds 3`.
    """
    names = axis_names(list(swept.axes))
    title = " x ".join(names.values())
    sizes = " x ".join(str(len(values)) for values in swept.axes.values())
    together = ", alone and together" if len(names) > 1 else ""
    axes = "\n".join(
        f"    {names[key]}: {write_inline({'key': key, 'values': list(values)})}"
        for key, values in swept.axes.items()
    )
    baseline = f"baseline: {write_inline(dict(swept.fixed))}\n\n" if swept.fixed else ""
    return f"""\
{schema_line(path)}
# {title}: {sizes} rows.
#
# Made by  {command}
# Command  repro run {path.stem} {grid}
id: {path.stem}
kind: table
title: {title}
where: own
question: What do {" and ".join(names.values())} change{together}?

{baseline}grid:
  axes:
{axes}

metrics:
  - {{key: knn, title: k-NN, unit: "%", decimals: 1}}
  - {{key: linear, title: Lin., unit: "%", decimals: 1}}
{_figure_line(list(names.items()), swept)}
# What you expect, written down before the runs; repro check {path.stem} judges it.
claims: []
"""


def schema_line(path: Path) -> str:
    """The first line of a file, by which editors complete and check what is typed."""
    beside = path.parent.parent == experiments_dir()
    schema = "../schema/experiment.json" if beside else schema_address("experiment")
    return f"# yaml-language-server: $schema={schema}"


def schema_address(kind: str) -> str:
    """Of `experiment` or `cluster` files: where the schema lies on this machine."""
    return str(experiments_dir() / "schema" / f"{kind}.json")


def extended(text: str, experiment: Experiment, swept: Swept, complete: bool) -> str:
    """The text of a file with the values that a line adds to its axes.

    Args:
        complete: whether the line has to name every axis and setting of the file.

    Raises:
        UserError: the line is about other axes or settings than the file.
    """
    grid = experiment.grid
    assert grid is not None, f"{experiment.path} has no grid"
    other = "edit the file, or choose another --name"
    by_key = {axis.key: name for name, axis in grid.axes.items() if axis.key}
    more: dict[str, list[Any]] = {}
    for key, values in {**{k: [v] for k, v in swept.fixed.items()}, **swept.axes}.items():
        if key in by_key:
            more[by_key[key]] = _united(grid.axes[by_key[key]].points, values)
        elif key in swept.axes or key not in experiment.baseline:
            raise UserError(f"{experiment.path}: has no axis of {key}; {other}")
        elif text_of(experiment.baseline[key]) != text_of(values[0]):
            there = text_of(experiment.baseline[key])
            raise UserError(f"{experiment.path}: has {key}={there} for all its rows; {other}")
    said = {**swept.axes, **swept.fixed}
    left_out = [key for key in (*by_key, *experiment.baseline) if key not in said]
    if complete and left_out:
        raise UserError(
            f"{experiment.path}: has {left_out[0]}, too, which this line leaves out; "
            f"--name {experiment.id} means it, another --name another sweep"
        )
    for name, values in more.items():
        if len(values) > len(grid.axes[name].points):
            text = _with_values(text, name, values)
    return text


def _united(old: Sequence[Any], new: Sequence[Any]) -> list[Any]:
    """Both, each once; in order where the old ones are numbers in order."""
    texts = {text_of(value) for value in old}
    both = [*old, *(value for value in new if text_of(value) not in texts)]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in both)
    return sorted(both) if numbers and list(old) == sorted(old) else both


def _with_values(text: str, axis: str, values: list[Any]) -> str:
    """The text with the values of one axis replaced where they stand."""
    node: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    for word in ("grid", "axes", axis, "values"):
        key, node = next(pair for pair in node.value if pair[0].value == word)
    begin, end = node.start_mark.index, node.end_mark.index
    made, tail = write_inline(values), ""
    if not node.flow_style:  # a list of lines, which ends where the next key begins
        lines = text[begin:end]
        made, tail = f": {made}", lines[len(lines.rstrip()) :]
        begin = key.end_mark.index
    return f"{text[:begin]}{made}{tail}{text[end:]}"


def _figure_line(names: Sequence[tuple[str, str]], swept: Swept) -> str:
    """A heat map of two axes; a curve over one of numbers; else a line a row."""
    if len(names) > 1:
        down, across = names[-2][1], names[-1][1]
        return f"figure: {{kind: heatmap, down: {down}, across: {across}}}"
    ((key, name),) = names
    numbers = all(type(value) in (int, float) for value in swept.axes[key])
    return f"figure: {{kind: ablation, over: {name}, key: {key}}}" if numbers else ""
