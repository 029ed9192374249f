"""`repro sweep`."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from repro.cli import options
from repro.cli.exit_codes import FINE
from repro.errors import UserError

if TYPE_CHECKING:
    from repro.harness.experiments.experiment import Experiment
    from repro.harness.experiments.own import Swept

HELP = "a grid of your own in one line: written to experiments/own, then trained"
EXAMPLE = "repro sweep teacher.momentum=0.99,0.996 head.prototypes=64,256 --name mine --seeds 3"


def add(parser: argparse.ArgumentParser) -> None:
    text = (
        "a setting with its values (K=64,256, K=range(64,257,64), method=dino,byol, "
        "'method=glob(*)'), or with one for all rows"
    )
    parser.add_argument("overrides", nargs="+", metavar="KEY=VALUES", help=text)
    text = "what it is called; a sweep that is there gets the values it lacks (default: the keys)"
    parser.add_argument("--name", default="", metavar="NAME", help=text)
    options.add_grid(parser)
    options.add_workers(parser)
    options.add_budget(parser)
    options.add_report(parser)
    options.add_yes(parser, "do not ask (SLURM; on this machine nothing is asked)")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be written")
    text = "what came out with the notes, and the evidence behind every claim"
    parser.add_argument("-v", "--verbose", action="store_true", help=text)


def run(arguments: argparse.Namespace) -> int:
    from repro.cli.experiments.plan_table import print_plan
    from repro.cli.runs import run as run_command
    from repro.cli.runs import submit as submit_command
    from repro.harness.experiments.clusters import SlurmCluster, load_cluster
    from repro.harness.experiments.folders import results_dir
    from repro.harness.plan.forecast import forecast
    from repro.harness.plan.plan import plan_rows

    cluster = load_cluster(arguments.cluster)
    path, text, before = _written(arguments)
    experiment = _parsed(text, path)
    if arguments.dry_run:
        selection = [(experiment, experiment.rows)]
        planned = plan_rows(selection, arguments.scale, arguments.seeds, results_dir(), cluster)
        print_plan(planned, forecast(planned, cluster, results_dir(), arguments.workers))
        print(f"{_said(experiment, before)}; would be written: {path}")
        return FINE
    _check(experiment, arguments.scale)
    if before is None or text != path.read_text(encoding="utf-8"):
        from repro.files import replace_text

        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, text)
    print(f"{path}: {_said(experiment, before)}")
    arguments.ids, arguments.script, arguments.reconcile = [experiment.id], False, False
    if isinstance(cluster, SlurmCluster):
        return submit_command.run(arguments)
    return run_command.run(arguments)


def _written(arguments: argparse.Namespace) -> tuple[Path, str, Experiment | None]:
    """Where the sweep lies, its text with this line, and what it was before."""
    from repro.cli.own.grammar import read_sweep
    from repro.cli.own.place import path_for
    from repro.harness.experiments.experiment import load
    from repro.harness.experiments.own import extended, text_of_sweep

    swept = read_sweep(arguments.overrides)
    path = path_for(arguments.name or _name_of(swept))
    if not path.is_file():
        if not swept.axes:
            raise UserError("no key has several values: KEY=V1,V2 (repro train takes one of each)")
        command = shlex.join(["repro", "sweep", *arguments.overrides])
        grid = f"--scale {arguments.scale} --seeds {arguments.seeds}"
        return path, text_of_sweep(path, swept, command, grid), None
    before = load(path)
    if before.grid is None:
        raise UserError(f"{path}: it has no grid; edit the file, or choose another --name")
    text = path.read_text(encoding="utf-8")
    return path, extended(text, before, swept, complete=not arguments.name), before


def _name_of(swept: Swept) -> str:
    from repro.harness.experiments.own import axis_names

    if not swept.axes:
        raise UserError("no key has several values; to add one to a sweep, --name it")
    return "-".join(axis_names(list(swept.axes)).values())


def _parsed(text: str, path: Path) -> Experiment:
    from repro.decode.plain_yaml import read
    from repro.harness.experiments.experiment import parse

    return parse(read(text, str(path)), path)


def _check(experiment: Experiment, scale: str) -> None:
    """That every row can be composed, before a file says so."""
    from repro.harness.experiments.experiment import row_config

    for row in experiment.rows:
        if not row.why_not(scale):
            row_config(experiment, row, scale, seed=0)


def _said(experiment: Experiment, before: Experiment | None) -> str:
    from repro.terminal import count

    rows = count(len(experiment.rows), "row")
    if before is None:
        return rows
    return f"{rows}, {len(experiment.rows) - len(before.rows)} of them new"
