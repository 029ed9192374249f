"""What each `repro` command does: a function from parsed arguments to an exit code.

Those that start, follow and stop runs are in `repro/cli/runs.py`. Every function imports what
it needs when it is called; `repro/cli/parser.py` holds the parser.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

FINE, NEGATIVE, MISTAKE, INTERRUPTED = 0, 1, 2, 130
FIGURE_FORMATS = ("png", "svg")


def list_(arguments: argparse.Namespace) -> int:
    from repro.cli.catalogue import listing, print_listing
    from repro.harness.experiments.folders import results_dir
    from repro.terminal import print_json

    (print_json if arguments.json else print_listing)(listing(results_dir()))
    return FINE


def show(arguments: argparse.Namespace) -> int:
    from repro.cli.catalogue import details, print_details
    from repro.harness.experiments.experiment import select
    from repro.terminal import print_json

    selection = select(arguments.ids)
    if arguments.json:
        found = [details(experiment, rows) for experiment, rows in selection]
        print_json(found[0] if len(found) == 1 else found)
        return FINE
    for experiment, rows in selection:
        print_details(experiment, rows)
    return FINE


def table(arguments: argparse.Namespace) -> int:
    print_tables(names_of(arguments.ids), arguments.scale, arguments.format)
    return FINE


def figure(arguments: argparse.Namespace) -> int:
    formats = [arguments.format] if arguments.format else FIGURE_FORMATS
    draw_figures(arguments.ids, arguments.scale, formats)
    return FINE


def check(arguments: argparse.Namespace) -> int:
    from analysis.verdicts.checklist import print_checklist, write_junit
    from analysis.verdicts.claims import check as judge
    from repro.terminal import print_json

    verdicts = judge(names_of(arguments.ids or ["all"]), arguments.scale, arguments.on)
    if arguments.junit:
        write_junit(verdicts, Path(arguments.junit))
    if arguments.json:
        summary = Counter(verdict.verdict for verdict in verdicts)
        print_json({"claims": [asdict(v) for v in verdicts], "summary": summary})
    else:
        print_checklist(verdicts, arguments.verbose)
    return NEGATIVE if any(verdict.holds is False for verdict in verdicts) else FINE


def plan_power(arguments: argparse.Namespace) -> int:
    from analysis.evidence.frame import load_evidence
    from analysis.verdicts.power import plan_power as compare
    from analysis.verdicts.power import print_power
    from repro.terminal import print_json

    evidence = load_evidence(arguments.scale)
    planned = {
        name: compare(evidence.experiment(name), evidence) for name in names_of(arguments.ids)
    }
    if arguments.json:
        print_json({name: [asdict(p) for p in its] for name, its in planned.items()})
    else:
        for name, its in planned.items():
            print_power(evidence.experiment(name), its, arguments.scale)
    return FINE


def explain(arguments: argparse.Namespace) -> int:
    from analysis.explain import explain as trace
    from analysis.explain import lines_of
    from repro.terminal import print_json

    found = trace(arguments.address, arguments.scale)
    if arguments.json:
        print_json(found)
        return FINE
    for line in lines_of(found):
        print(line)
    return FINE


def report(arguments: argparse.Namespace) -> int:
    from analysis.report.page import write

    print(write(arguments.scale, arguments.out))
    return FINE


def publish(arguments: argparse.Namespace) -> int:
    from analysis.publish import publish as write

    done = write(names_of(arguments.ids), arguments.scale)
    for path in done.written:
        print(path)
    for why in done.refused:
        print(f"not published: {why}", file=sys.stderr)
    return NEGATIVE if done.refused else FINE


def doctor(arguments: argparse.Namespace) -> int:
    from repro.cli.doctor import examine, print_findings
    from repro.harness.experiments.folders import results_dir
    from repro.terminal import print_json

    findings = examine(results_dir())
    if arguments.cluster:
        from repro.cli.cluster_doctor import examine_cluster
        from repro.harness.experiments.clusters import SlurmCluster, load_cluster

        cluster = load_cluster(arguments.cluster)
        if isinstance(cluster, SlurmCluster):
            findings += examine_cluster(cluster, results_dir())
    if arguments.json:
        print_json({"findings": [asdict(finding) for finding in findings]})
    else:
        print_findings(findings)
    return NEGATIVE if any(finding.level == "fail" for finding in findings) else FINE


def names_of(references: Sequence[str]) -> list[str]:
    """Experiment ids of words such as `F7:both` and `all`."""
    from repro.harness.experiments.experiment import select

    return [experiment.id for experiment, _ in select(references)]


def print_tables(names: list[str], scale: str, fmt: str) -> None:
    from analysis.tables.formats import render_tables

    for text in render_tables(names, scale, fmt):
        print(text.rstrip("\n"))


def draw_figures(names: Sequence[str], scale: str, formats: Sequence[str]) -> None:
    from analysis.figures.draw import draw

    for line in draw(names, scale, formats):
        print(line)
