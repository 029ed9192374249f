"""`repro replicate`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from repro.cli import options
from repro.cli.exit_codes import FINE, INTERRUPTED, NEGATIVE
from repro.errors import UserError
from repro.terminal import terminal_width, wrapped

if TYPE_CHECKING:
    from analysis.replication import Repetition
    from repro.harness.runs.planned import PlannedRun

HELP = "train published runs again and compare; exit code 1 where one does not replicate"
EXAMPLE = "repro replicate F7 --seeds 0"


def add(parser: argparse.ArgumentParser) -> None:
    options.add_ids(parser)
    options.add_scale(parser)
    text = "which published seeds, e.g. 0,1,2 (default: %(default)s)"
    parser.add_argument("--seeds", default="0", metavar="SEEDS", help=text)
    options.add_cluster(parser)
    options.add_workers(parser)
    text = "append what came of it to results/published/SCALE/replications.jsonl"
    parser.add_argument("--publish", action="store_true", help=text)
    text = "every column of every run, published and here"
    parser.add_argument("-v", "--verbose", action="store_true", help=text)
    options.add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from analysis.evidence.evidence import load_evidence, published_dir, published_evidence
    from analysis.evidence.sources import Source
    from analysis.replication import as_json, compare, sentence
    from repro.cli.runs.start import start
    from repro.harness.experiments.clusters import load_cluster
    from repro.harness.experiments.experiment import select
    from repro.harness.experiments.folders import results_dir
    from repro.harness.plan.plan import plan
    from repro.harness.runs.records import Agreement
    from repro.terminal import print_json

    seeds = _seeds(arguments.seeds)
    if arguments.publish:
        _check_is_ours(published_dir(arguments.scale))
    published = published_evidence(arguments.scale)
    rows = [
        published.of(experiment, row)
        for experiment, chosen in select(arguments.ids)
        for row in chosen
    ]
    known = {run.id for row in rows for run in row.all_runs if run.seed in seeds}
    if not known:
        raise UserError(
            f"no published run of {' '.join(arguments.ids)} at scale {arguments.scale} with seed "
            f"{arguments.seeds}; repro table {arguments.ids[0].partition(':')[0]} "
            f"--scale {arguments.scale} --evidence published"
        )
    cluster = load_cluster(arguments.cluster)
    planned = plan(arguments.ids, arguments.scale, max(seeds) + 1, results_dir(), cluster)
    runs: list[PlannedRun] = [run for run in planned.runs if run.id in known]
    with redirect_stdout(sys.stderr) if arguments.json else nullcontext():
        code = start(runs, cluster, arguments.workers, wait=True)
    if code == INTERRUPTED:
        return code
    own = load_evidence(arguments.scale, Source.own)
    repetitions = compare(rows, seeds, own.records, published)
    if arguments.publish:
        _publish(repetitions, arguments.scale)
    if arguments.json:
        print_json({"runs": list(map(as_json, repetitions)), "summary": sentence(repetitions)})
    else:
        (_print_columns if arguments.verbose else _print)(repetitions)
        print(sentence(repetitions))
    bad = {Agreement.different, Agreement.not_run}
    return NEGATIVE if any(one.agreement in bad for one in repetitions) else FINE


def _seeds(text: str) -> list[int]:
    try:
        seeds = sorted({int(word) for word in text.split(",")})
    except ValueError:
        seeds = []
    if not seeds or seeds[0] < 0:
        raise UserError(f"--seeds {text}: name seeds, e.g. 0 or 0,1,2")
    return seeds


def _print(repetitions: Sequence[Repetition]) -> None:
    """A line a run, then what was otherwise here."""
    for one in repetitions:
        parts = [str(one.agreement)]
        if one.parted is not None:
            parts.append(f"the curves part at epoch {one.parted:.3g}")
        different = [d.metric for d in one.differences if not d.within]
        parts += [f"farther apart: {', '.join(different)}"] if different else []
        print(f"{one.published.slug}: {'; '.join(parts)}")
    causes = dict.fromkeys(cause for one in repetitions for cause in one.causes)
    if causes:
        listed = f"otherwise here: {'; '.join(causes)}"
        print(*wrapped(listed, terminal_width() or len(listed)), sep="\n")


def _print_columns(repetitions: Sequence[Repetition]) -> None:
    """A paragraph a run: how it compares, its columns, where the curves part, and why perhaps."""
    for one in repetitions:
        print(f"{one.published.slug}: {one.agreement}")
        for difference in one.differences:
            bound = difference.allowed
            allowed = "no spread known" if bound is None else f"runs of a row: ± {bound:.3g}"
            mark = "" if difference.within else "  <- farther"
            numbers = f"{difference.published:.6g} published, {difference.own:.6g} here"
            print(f"    {difference.metric}: {numbers} ({allowed}){mark}")
        if one.parted is not None:
            print(f"    the curves part at epoch {one.parted:.3g}; otherwise here:")
        for cause in one.causes:
            print(f"      {cause}")


def _check_is_ours(folder: Path) -> None:
    from repro.harness import shipped

    if folder.is_relative_to(shipped()):
        raise UserError(f"--publish: {folder} is part of the installed program; use a clone")


def _publish(repetitions: Sequence[Repetition], scale: str) -> None:
    from analysis.evidence.evidence import published_dir
    from repro.harness.runs.records import Agreement, as_line
    from repro.harness.runs.seal import append

    told = (Agreement.identical, Agreement.within, Agreement.different)
    lines = [one.as_line() for one in repetitions if one.agreement in told]
    clean = [as_line(line) for line in lines if line.env.committed]
    if len(clean) < len(lines):
        dirty = len(lines) - len(clean)
        print(f"{dirty} not published: made by code that was not committed")
    append(published_dir(scale) / "replications.jsonl", clean)
