"""`repro completion`: commands, options and experiments, completed by the shell."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from typing import Any

from repro.cli.exit_codes import FINE
from repro.errors import UserError

HELP = "what a shell completes commands, options and experiments by"
EXAMPLE = "repro completion bash"
IDS = ("ids", "patterns", "runs")  # arguments that are, among other things, experiments


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh"))


def run(arguments: argparse.Namespace) -> int:
    try:
        import shtab
    except ImportError:
        raise UserError("repro completion: needs the library shtab; pip install shtab") from None

    from repro.cli.parser import build_parser
    from repro.harness.experiments.experiment import known_ids
    from repro.harness.experiments.folders import clusters, experiments_dir, scales_of

    parser, commands = build_parser()
    known = {
        **{name: [*known_ids(), "all"] for name in IDS},
        "scale": scales_of(experiments_dir()),
        "cluster": sorted(clusters()),
    }
    for action in _actions(commands.values()):
        if words := known.get(action.dest):
            action.complete = {"bash": f"_repro_{action.dest}", "zsh": f"({' '.join(words)})"}
    functions = "\n".join(
        f"_repro_{name}() {{ compgen -W '{' '.join(words)}' -- \"$1\"; }}"
        for name, words in known.items()
    )
    preamble = functions if arguments.shell == "bash" else ""
    print(shtab.complete(parser, arguments.shell, preamble=preamble))
    return FINE


def _actions(parsers: Iterable[argparse.ArgumentParser]) -> Iterator[Any]:
    """Every argument; the attribute that shtab reads is none of argparse's."""
    return (action for parser in parsers for action in parser._actions)
