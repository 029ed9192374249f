"""`repro plan`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from repro.cli.exit_codes import FINE
from repro.cli.options import add_grid, add_ids, add_json, add_script, experiments_of
from repro.errors import UserError

if TYPE_CHECKING:
    from repro.harness.experiments.clusters import Cluster
    from repro.harness.plan.plan import Plan
    from repro.harness.runs.store import RunFolder
    from repro.harness.status.overview import Overview

HELP = "what would run, what is done, what it costs; starts nothing"
EXAMPLE = "repro plan T7 --scale laptop --seeds 3"


def add(parser: argparse.ArgumentParser) -> None:
    add_ids(parser)
    add_grid(parser)
    text = (
        "instead: how many seeds decide its claims (or one claim: C.T7.4), from what seeds have "
        "varied by so far, and what these cost"
    )
    parser.add_argument("--power", action="store_true", help=text)
    add_script(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    if arguments.power:
        return _power(arguments)
    from repro.cli.experiments.plan_table import plan_json, print_plan, print_unasked
    from repro.harness.experiments.clusters import load_cluster
    from repro.harness.experiments.folders import results_dir
    from repro.harness.plan.forecast import forecast
    from repro.terminal import print_json

    cluster = load_cluster(arguments.cluster)
    planned = plan_of(arguments, cluster)
    if arguments.script:
        print(batch_script(planned, cluster))
        return FINE
    expected = forecast(planned, cluster, results_dir(), None)
    folders, seen = unasked_of(arguments)
    if arguments.json:
        print_json(plan_json(planned, expected, folders, seen))
    else:
        print_plan(planned, expected)
        print_unasked(folders, seen, arguments.scale)
    return FINE


def plan_of(arguments: argparse.Namespace, cluster: Cluster) -> Plan:
    """The runs that the ids and options of a grid mean."""
    from repro.harness.experiments.folders import results_dir
    from repro.harness.plan.plan import plan

    return plan(arguments.ids, arguments.scale, arguments.seeds, results_dir(), cluster)


def unasked_of(arguments: argparse.Namespace) -> tuple[list[RunFolder], Overview]:
    """The runs that these experiments have here and no row asks for any more, and how they are."""
    from repro.harness.experiments.folders import results_dir
    from repro.harness.status.overview import overview
    from repro.harness.status.unasked import unasked

    folders = unasked(experiments_of(arguments.ids), arguments.scale, results_dir())
    return folders, overview(folders, results_dir())


def batch_script(planned: Plan, cluster: Cluster) -> str:
    """What --script prints."""
    from repro.harness.experiments.clusters import SlurmCluster
    from repro.harness.experiments.folders import results_dir
    from repro.harness.slurm.batch import script

    if not isinstance(cluster, SlurmCluster):
        raise UserError(f"--script: cluster {cluster.name} is this machine and has no batch script")
    if not planned.runs:
        raise UserError("--script: none of these rows can be trained")
    return script(planned.todo or planned.runs, cluster, results_dir())


def _power(arguments: argparse.Namespace) -> int:
    """What --power prints, of experiments and of single claims."""
    from analysis.evidence.evidence import load_evidence
    from analysis.evidence.sources import Source
    from analysis.explain import CLAIM, claim_named
    from analysis.verdicts.power import plan_claim, plan_power, print_power
    from repro.terminal import print_json

    evidence = load_evidence(arguments.scale, Source.all)
    claims = [word for word in arguments.ids if word.startswith(CLAIM)]
    others = [word for word in arguments.ids if not word.startswith(CLAIM)]
    planned = {}
    for name in claims:
        experiment, claim = claim_named(name, evidence)
        planned[name] = [plan_claim(claim, experiment, evidence)]
    for name in experiments_of(others) if others else []:
        planned[name] = plan_power(evidence.experiment(name), evidence)
    if arguments.json:
        print_json({name: [asdict(one) for one in its] for name, its in planned.items()})
        return FINE
    for name, its in planned.items():
        print_power(its, f"{name} at {arguments.scale} scale")
    return FINE
