"""`repro doctor`."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from repro.cli.exit_codes import FINE, NEGATIVE
from repro.cli.options import add_json

HELP = "this machine, and a cluster: what works, what will bite"
EXAMPLE = "repro doctor --cluster mine"


def add(parser: argparse.ArgumentParser) -> None:
    text = "a SLURM profile: also ask its cluster, and try a tiny job on a node"
    parser.add_argument("--cluster", metavar="C", help=text)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from repro.cli.machine.card_findings import examine_card
    from repro.cli.machine.machine_findings import examine, of_login_node, print_findings
    from repro.harness.experiments.clusters import SlurmCluster, load_cluster
    from repro.harness.experiments.folders import results_dir
    from repro.terminal import print_json

    cluster = load_cluster(arguments.cluster) if arguments.cluster else None
    findings = examine(results_dir())
    of_card, gpu = examine_card()
    findings += of_card
    if isinstance(cluster, SlurmCluster):
        from repro.cli.machine.cluster_findings import examine_cluster

        findings = [of_login_node(finding) for finding in findings]
        findings += examine_cluster(cluster, results_dir())
    if arguments.json:
        print_json({"findings": [asdict(finding) for finding in findings], "gpu": gpu})
    else:
        print_findings(findings)
    return NEGATIVE if any(finding.level == "fail" for finding in findings) else FINE
