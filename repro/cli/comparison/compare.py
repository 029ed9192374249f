"""`repro compare`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

from repro.cli.exit_codes import FINE
from repro.cli.options import add_json

if TYPE_CHECKING:
    from analysis.comparison.compare import Comparison

HELP = "runs beside each other: settings, metrics, where their curves part, a figure"
EXAMPLE = "repro compare 0985 eb16"


def add(parser: argparse.ArgumentParser) -> None:
    text = "two runs or more: run id, name, tag, folder, ID, rows or glob; published ones too"
    parser.add_argument("runs", nargs="+", metavar="RUN", help=text)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from analysis.comparison.compare import compare, draw, meant
    from repro.terminal import print_json

    found = meant(arguments.runs)
    comparison = compare(found)
    if arguments.json:
        print_json(comparison.as_json())
        return FINE
    _print(comparison)
    print(*draw(found), sep="\n")
    return FINE


def _print(comparison: Comparison) -> None:
    from analysis.comparison.described import sentinel_words
    from analysis.evidence.differences import value_text
    from repro.terminal import print_table, print_text

    runs = comparison.runs
    names = [_letter(i) for i in range(len(runs))]
    print_table(
        "",
        ["", "id", "run", "state", "sentinel"],
        [[n, r.id, r.slug, r.state, sentinel_words(r)] for n, r in zip(names, runs, strict=True)],
    )
    _section("settings that differ", names, comparison.config, value_text)
    if not comparison.config:
        print("\nsettings: the same in all")
    _section("metrics", names, comparison.metrics, _number)
    _section("otherwise", names, comparison.otherwise, value_text)
    print()
    for name, parting in zip(names[1:], comparison.partings, strict=True):
        print_text(f"curves of A and {name} part: {parting}")


def _section(
    title: str, names: Sequence[str], values: Mapping[str, Sequence[Any]], text: Any
) -> None:
    from repro.terminal import print_table

    if values:
        print()
        rows = [[key, *map(text, each)] for key, each in values.items()]
        print_table("", [title, *names], rows)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _letter(index: int) -> str:
    return ascii_uppercase[index] if index < len(ascii_uppercase) else str(index + 1)
