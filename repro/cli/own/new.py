"""`repro new`."""

from __future__ import annotations

import argparse

from repro.cli.exit_codes import FINE
from repro.errors import UserError

HELP = "begin an experiment file of your own, with comments on what belongs in it"
EXAMPLE = "repro new warmup --from T7"


def add(parser: argparse.ArgumentParser) -> None:
    text = "its ID from now on; the file is experiments/own/NAME.yaml"
    parser.add_argument("name", metavar="NAME", help=text)
    text = "a copy of this experiment, the paper's or your own, with its addresses renamed"
    parser.add_argument("--from", dest="model", default="", metavar="ID", help=text)


def run(arguments: argparse.Namespace) -> int:
    from repro.cli.own.place import path_for
    from repro.cli.own.scaffold import copied, scaffold
    from repro.files import replace_text
    from repro.harness.experiments.experiment import load

    path = path_for(arguments.name)
    if path.exists():
        raise UserError(f"{path}: exists; repro show {path.stem}, or choose another name")
    text = copied(load(arguments.model), path) if arguments.model else scaffold(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, text)
    name = path.stem
    print(f"{path}\nrepro show {name}   its rows; then: repro plan {name}, repro run {name}")
    return FINE
