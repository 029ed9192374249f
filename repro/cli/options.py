"""Arguments that several commands take, each declared and worded once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.evidence.evidence import Evidence


def add_ids(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ids", nargs="+", metavar="ID", help="T7, rows T7:r1,r2, or all")


def experiments_of(ids: Sequence[str]) -> list[str]:
    """The experiments that ids such as `F7:both` and `all` name."""
    from repro.harness.experiments.experiment import select

    return [experiment.id for experiment, _ in select(ids)]


def add_patterns(parser: argparse.ArgumentParser) -> None:
    text = "ID, rows, run id, name, tag, state or glob; default: every run"
    parser.add_argument("patterns", nargs="*", metavar="PATTERN", help=text)


def add_scale(parser: argparse.ArgumentParser) -> None:
    text = "smoke, laptop, gpu or paper (default: %(default)s)"
    parser.add_argument("--scale", default="laptop", help=text)


def add_evidence(parser: argparse.ArgumentParser) -> None:
    text = "whose runs: own, published or all (default: own where there are any, else published)"
    parser.add_argument("--evidence", choices=("own", "published", "all"), help=text)


def evidence_of(arguments: argparse.Namespace, asked: Sequence[str]) -> Evidence:
    """What --scale and --evidence choose for the experiments that are asked about."""
    from analysis.evidence.evidence import load_evidence
    from analysis.evidence.sources import Source

    chosen = Source(arguments.evidence) if arguments.evidence else None
    return load_evidence(arguments.scale, chosen, asked)


def say_which(
    evidence: Evidence,
    arguments: argparse.Namespace,
    remarks: bool = True,
    asked: Sequence[str] = (),
) -> None:
    """Whose runs were shown, on standard error: below what was printed, beside any JSON.

    Args:
        remarks: whether to say also what was refused or absent.
        asked: the experiments whose runs of one's own are named, which do not count.
    """
    hint = ""
    if arguments.evidence is None and evidence.source == "own":
        hint = "; --evidence published or all shows what is published"
    print(f"evidence: {evidence}{hint}", file=sys.stderr)
    if remarks and (evidence.faults or evidence.absent):
        for line in evidence.remarks():
            print(line, file=sys.stderr)
    if also := evidence.also_there(asked):
        named = ", ".join(also[:3]) + (f" and {len(also) - 3} more" if len(also) > 3 else "")
        why = "a submission declares its seeds (repro submit ID --seeds N), and these were none"
        print(f"also there, not counted: {named}; {why}", file=sys.stderr)


def add_grid(parser: argparse.ArgumentParser) -> None:
    """Which runs of the chosen rows, and where."""
    add_scale(parser)
    text = "runs per row, seeds 0 to N-1 (default: %(default)s)"
    parser.add_argument("--seeds", type=number_of_seeds, default=1, metavar="N", help=text)
    add_cluster(parser)


def add_cluster(parser: argparse.ArgumentParser) -> None:
    text = "a file of experiments/clusters/ (default: %(default)s)"
    parser.add_argument("--cluster", default="local", metavar="C", help=text)


def add_workers(parser: argparse.ArgumentParser) -> None:
    text = "runs at a time, or auto: as many as keep GPUs or cores busy (default: the profile's)"
    parser.add_argument("--workers", type=number_or_auto, metavar="N", help=text)


def add_budget(parser: argparse.ArgumentParser) -> None:
    text = "refuse to start more than so many GPU-hours (default: budget_hours of the profile)"
    parser.add_argument("--budget", type=float, metavar="HOURS", help=text)


def add_script(parser: argparse.ArgumentParser) -> None:
    text = "print the batch script of the first run and start nothing (SLURM)"
    parser.add_argument("--script", action="store_true", help=text)


def add_report(parser: argparse.ArgumentParser) -> None:
    text = "write the metrics there too: %(choices)s (repeat for both)"
    choices = ("tensorboard", "wandb")
    parser.add_argument(
        "--report", action="append", default=[], choices=choices, metavar="TO", help=text
    )


def add_network(parser: argparse.ArgumentParser) -> None:
    text = "which of a full checkpoint (default: teacher)"
    parser.add_argument("--network", choices=("teacher", "student"), default="", help=text)
    text = "attention heads of a ViT (default: its width over 64, or what our run says)"
    parser.add_argument("--heads", type=int, default=0, metavar="N", help=text)


def add_yes(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--yes", action="store_true", help=text)


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON document, nothing else")


def number_of_seeds(text: str) -> int:
    """As a type of argparse; a list is what `repro replicate` takes."""
    if "," in text:
        raise argparse.ArgumentTypeError(f"{text}: how many, e.g. 3 for the seeds 0, 1 and 2")
    return int(text)


def number_or_auto(text: str) -> int:
    """A whole number from 1 on; 0 for auto, as in the profile of a cluster."""
    return 0 if text == "auto" else positive(text)


def positive(text: str) -> int:
    """A whole number from 1 on, as a type of argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} must be at least 1")
    return number
