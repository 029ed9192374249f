"""`repro retry`."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from repro.cli.exit_codes import FINE
from repro.cli.options import add_patterns, add_workers, add_yes
from repro.cli.runs.start import start
from repro.errors import UserError, nearest

if TYPE_CHECKING:
    from repro.config.schema import RunConfig
    from repro.harness.runs.store import RunFolder
    from repro.harness.status.overview import View

HELP = "start failed, lost, interrupted and cancelled runs again"
EXAMPLE = "repro retry --only oom --mem +50% --yes"
RETRIED = ("failed", "lost", "interrupted", "cancelled")


def add(parser: argparse.ArgumentParser) -> None:
    add_patterns(parser)
    text = "those with this cause, as status names it: oom"
    parser.add_argument("--only", metavar="CAUSE", help=text)
    for option, limit in (("--mem", "memory"), ("--time", "time limit")):
        text = f"{limit}: more than their last job had, e.g. +50%% (SLURM)"
        parser.add_argument(option, type=_factor, default=1.0, metavar="+N%", help=text)
    text = "a file of experiments/clusters/ (default: where each of them last was)"
    parser.add_argument("--cluster", metavar="C", help=text)
    text = "at step 0; their checkpoints are set aside, nothing of them is removed"
    parser.add_argument("--from-start", action="store_true", help=text)
    add_workers(parser)
    add_yes(parser, "do not ask")


def run(arguments: argparse.Namespace) -> int:
    from repro.cli.runs.status_board import print_runs
    from repro.harness.experiments.clusters import load_cluster
    from repro.harness.experiments.folders import results_dir
    from repro.harness.plan.plan import planned_run, with_view
    from repro.harness.slurm.requirements import Increase
    from repro.harness.status.find import describe, find
    from repro.terminal import confirm, count

    folders, seen = find(arguments.patterns, results_dir())
    by_cluster: dict[str, list[RunFolder]] = {}
    last: dict[str, str] = {}  # by run, the cluster that had it
    for folder in folders:
        view = seen.views[folder.id]
        if _ended_badly(view) and (arguments.only is None or _cause(arguments.only) == _kind(view)):
            last[folder.id] = view.task.submission.cluster if view.task else "local"
            by_cluster.setdefault(arguments.cluster or last[folder.id], []).append(folder)
    for folder in folders:
        view = seen.views[folder.id]
        if view.state == "damaged" and view.cause:
            print(f"damaged, and left as it is: {view.cause.line}")
    retried = [folder for group in by_cluster.values() for folder in group]
    if not retried:
        print("nothing to retry: none of these runs failed, was lost, interrupted or cancelled")
        return FINE
    print_runs([describe(folder, seen.views[folder.id]) for folder in retried])
    clusters = ", ".join(by_cluster)
    where = f"on {clusters}{', from step 0' if arguments.from_start else ''}"
    if not confirm(f"Start {count(len(retried), 'run')} again {where}?", arguments.yes):
        print("nothing started")
        return FINE
    if arguments.from_start:
        _set_checkpoints_aside([f for f in retried if seen.views[f.id].state != "done"])
    more = Increase(arguments.mem, arguments.time)
    codes = []
    for name, group in by_cluster.items():
        known = {folder.id: folder for folder in group}
        runs = []
        for folder in group:
            config = _with_what_fits(folder)
            if last[folder.id] != name:
                config = _without_what_gave(last[folder.id], config)
            runs.append(with_view(planned_run(config, known), seen))
        codes.append(start(runs, load_cluster(name), arguments.workers, more=more))
    return max(codes)


def _set_checkpoints_aside(folders: Sequence[RunFolder]) -> None:
    from repro.harness.worker.resume import begin_again
    from repro.locks import Busy

    for folder in folders:
        try:
            for path in begin_again(folder):
                print(f"{folder.path.name}: its checkpoint is now {path.name}")
        except Busy as busy:
            raise UserError(str(busy)) from None


def _with_what_fits(folder: RunFolder) -> RunConfig:
    """The run's config, with its batch in as many parts as its last failure found to fit a GPU."""
    from repro.harness.runs.store import refresh_resources

    config, failure = folder.config(), folder.failure()
    for override in failure.fits if failure else ():
        key, _, count = override.partition("=")
        if key == "resources.accumulate":
            print(f"{folder.path.name}: {override}, which fits")
            config = replace(config, resources=replace(config.resources, accumulate=int(count)))
            refresh_resources(folder, config)
    return config


def _without_what_gave(cluster: str, config: RunConfig) -> RunConfig:
    """The config of a run that leaves a cluster, without the resources and folders of its profile.

    Where that profile is no longer there, they stay.
    """
    from repro.config.compose import compose
    from repro.harness.experiments.clusters import load_cluster
    from repro.harness.experiments.folders import experiments_dir

    try:
        profile = load_cluster(cluster)
    except UserError:
        return config
    scale = config.label.scale
    given = {k for k, v in profile.resources.items() if not isinstance(v, dict)}
    given |= set(profile.resources.get(scale, {}))
    own = compose(experiments_dir(), scale, source="repro retry")
    resources = replace(config.resources, **{key: getattr(own.resources, key) for key in given})
    moved = config.data.name in profile.data
    paths = replace(config.paths, data=own.paths.data if moved else config.paths.data)
    return replace(config, resources=resources, paths=paths)


def _ended_badly(view: View) -> bool:
    """Whether this run or its evaluation can be started again, and nobody has done so."""
    unevaluated = view.state == "done" and view.evaluation == "failed"
    return (view.state in RETRIED and not view.sent) or unevaluated


def _kind(view: View) -> str:
    cause = view.cause or view.evaluation_cause
    return cause.kind if cause else view.state


def _cause(short: str) -> str:
    """The kind of failure that `--only` names by its short name."""
    from repro.harness.runs.failures import FailureKind

    by_short = {kind.short: kind for kind in FailureKind}
    if short not in by_short:
        near = nearest(short, by_short)
        raise UserError(f"--only {short}: nearest: {near} (one of {', '.join(by_short)})")
    return by_short[short]


def _factor(text: str) -> float:
    """1.5 for "+50%", as a type of argparse."""
    match = re.fullmatch(r"\+(\d+)%", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form +50%")
    return 1 + int(match[1]) / 100
