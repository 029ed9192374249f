"""`repro check`."""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from repro.cli.exit_codes import FINE, NEGATIVE
from repro.cli.options import (
    add_evidence,
    add_json,
    add_scale,
    evidence_of,
    experiments_of,
    say_which,
)

HELP = "verdicts on the paper's claims; exit code 1 if one is contradicted"
EXAMPLE = "repro check F7 --json"


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ids", nargs="*", metavar="ID", help="experiments; default: all")
    add_scale(parser)
    add_evidence(parser)
    text = "judge our runs, or the paper's own numbers (default: %(default)s)"
    parser.add_argument("--on", choices=("ours", "reported"), default="ours", help=text)
    text = "the evidence behind every claim, not only behind contradicted ones"
    parser.add_argument("-v", "--verbose", action="store_true", help=text)
    text = "also write the verdicts as JUnit XML, for CI"
    parser.add_argument("--junit", metavar="FILE", help=text)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from analysis.verdicts.checklist import print_checklist, write_junit
    from analysis.verdicts.claims import check
    from repro.terminal import print_json, print_text

    names = experiments_of(arguments.ids or ["all"])
    evidence = evidence_of(arguments, names) if arguments.on == "ours" else None
    verdicts = check(names, evidence)
    if arguments.junit:
        write_junit(verdicts, Path(arguments.junit))
    if arguments.json:
        summary = Counter(str(verdict.verdict) for verdict in verdicts)
        refused = [asdict(refusal) for refusal in evidence.refused] if evidence else []
        judged = {"claims": [verdict.as_json() for verdict in verdicts], "summary": summary}
        judged |= {"refused": refused, "absent": evidence.absent if evidence else []}
        if evidence is not None:
            judged |= {"evidence": str(evidence), "source": evidence.source}
        print_json(judged)
    else:
        print_checklist(verdicts, arguments.verbose)
        for line in evidence.remarks(arguments.verbose) if evidence else []:
            print_text(line)
    if evidence is not None:
        say_which(evidence, arguments, remarks=False, asked=names)
    return NEGATIVE if any(verdict.holds is False for verdict in verdicts) else FINE
