"""The commands of `repro`: one module each, and this table, which alone lists them.

A command's module has its help line, an example that parses, its options and what it does. It
imports what is heavy (torch, pandas, hydra, rich) inside `run`, so that help is instant. What
several commands ask for is in `options.py`.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Protocol, cast

# In the order of the help; the last part is the command's name, with a dash for an underscore.
TABLE = (
    "experiments.list",
    "experiments.show",
    "experiments.plan",
    "runs.submit",
    "runs.run",
    "runs.status",
    "runs.logs",
    "runs.cancel",
    "runs.rm",
    "runs.retry",
    "runs.train",
    "own.init",
    "own.sweep",
    "own.new",
    "comparison.runs",
    "comparison.compare",
    "comparison.why_new",
    "checkpoints.eval",
    "checkpoints.evals",
    "checkpoints.export",
    "results.table",
    "results.figure",
    "results.check",
    "results.explain",
    "results.report",
    "runs.replicate",
    "results.publish",
    "results.verify",
    "results.export_crate",
    "machine.doctor",
    "machine.gc",
    "machine.completion",
)


# What people of other programs type, and what does it here.
SYNONYMS = {
    "abort": "cancel", "kill": "cancel", "stop": "cancel",
    "clean": "gc", "delete": "rm", "remove": "rm",
    "config": "train --cfg", "dry-run": "plan", "start": "run", "launch": "submit",
    "continue": "retry", "resume": "retry", "evaluate": "eval", "diff": "compare",
    "ls": "list", "plot": "figure", "ps": "status", "tail": "logs",
}  # fmt: skip


class Command(Protocol):
    """What the module of a command has."""

    HELP: str
    EXAMPLE: str

    def add(self, parser: argparse.ArgumentParser) -> None:
        """Declare its arguments."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it; the exit code."""


def commands() -> dict[str, Command]:
    """The modules by the name of their command."""
    modules = {name_of(line): import_module(f"repro.cli.{line}") for line in TABLE}
    return cast(dict[str, Command], modules)


def name_of(line: str) -> str:
    """What people type for a line of the table."""
    return line.rpartition(".")[2].replace("_", "-")
