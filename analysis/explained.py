"""An explanation (`analysis/explain.py`) in words, for a terminal: a line a field or an item of it,
and nothing of what is empty.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from analysis.evidence.words import code_of, hardware_of, plain
from analysis.verdicts.confounds import Confound, sentences
from repro.harness.runs.environment import Environment, Hardware
from repro.harness.runs.records import EarlyEnd
from repro.terminal import count, duration

Explained = Mapping[str, Any]
Field = str | Sequence[str]  # one line, or an item a line
INDENT = "  "

PORTABILITY = {
    "M": "a mechanism, to be seen at any scale",
    "L": "a large gap",
    "S": "a small gap",
    "I": "tied to ImageNet, to hardware or to others' networks",
}


def lines_of(explained: Explained, width: int | None = None) -> Iterator[str]:
    """Of a claim, a row or a cell.

    Args:
        width: of the terminal, beyond which lines go on below, further in; None: never.
    """
    kinds: Mapping[str, Callable[[Explained], Mapping[str, Field]]]
    kinds = {"claim": _of_claim, "row": _of_row, "cell": _of_cell}
    (fields,) = (fields(explained) for kind, fields in kinds.items() if kind in explained)
    for name, field in fields.items():
        if isinstance(field, str):
            yield from _hung(f"{name}: {field}", width) if field else ()
        elif field:
            yield f"{name}:"
            for item in field:
                yield from _hung(INDENT + item, width)


def _of_claim(explained: Explained) -> Mapping[str, Field]:
    reported, portability = explained["reported"], explained["portability"]
    confounds = msgspec.convert(explained["confounds"], list[Confound])
    return {
        "claim": explained["claim"],
        "statement": explained["statement"],
        "where": explained["where"],
        "scale": explained["scale"],
        "portability": f"{portability}, {PORTABILITY[portability]}",
        "verdict": explained["verdict"],
        "evidence": explained["evidence"],
        "rule": explained["rule"],
        "turns": explained["flips"],
        "confounds": sentences(confounds),
        "note": explained["note"],
        "on the paper's own numbers": f"{reported['verdict']} ({reported['evidence']})",
        "cells": list(map(_cell, explained["cells"])),
        "rows": list(map(_row, explained["rows"])),
        "runs": list(map(_run, explained["runs"])),
        "deviations": _deviations(explained),
    }


def _of_row(explained: Explained) -> Mapping[str, Field]:
    return {
        "row": f"{explained['row']}, {explained['label']}",
        "evidence": explained["evidence"],
        "missing": explained["missing"],
        "cells": [
            _cell(cell) + ("" if cell["mean"] is None else f": {cell['verdict']}")
            for cell in explained["cells"]
        ],
        "runs": list(map(_run, explained["runs"])),
        "deviations": _deviations(explained),
    }


def _of_cell(explained: Explained) -> Mapping[str, Field]:
    return {
        "cell": explained["cell"],
        "evidence": explained["evidence"],
        "paper": _number(explained["reported"]),
        "read in": explained["sources"] if explained["reported"] is not None else [],
        "ours": _ours(explained),
        "difference": _number(explained["difference"], sign="+"),
        "verdict": explained["verdict"],
        "rule": explained["rule"],
        "turns": explained["flips"],
        "measured by others": [
            f"{_number(one['value'])}: {one['what']} ({one['source']})"
            for one in explained["others"]
        ],
        "runs": list(map(_run, explained["runs"])),
        "settings that are not the paper's": [
            f"{key}: {plain(pair['ours'])} (the paper's: {plain(pair['paper'])})"
            for key, pair in explained["config_difference"].items()
        ],
        "deviations": _deviations(explained),
    }


def _ours(explained: Explained) -> str:
    """The mean with its interval, of whose spread it is, and the other tier."""
    if explained["mean"] is None:
        return str(explained["missing"])
    said = [_number(explained["mean"])]
    if explained["interval"]:
        low, high = map(_number, explained["interval"])
        said.append(f"95 % interval {low} to {high}")
    said.append(count(explained["n"], "seed"))
    if explained["spread"]:
        said.append(f"spread {explained['spread']}")
    if explained["tier"]:
        said.append(f"{explained['tier']} tier")
    if explained["clean"] is not None:
        said.append(f"{_number(explained['clean'])} in the clean tier")
    return ", ".join(said)


def _cell(cell: Explained) -> str:
    printed = cell["reported"]
    paper = "no number in the paper" if printed is None else f"{_number(printed)} in the paper"
    if cell["mean"] is None:
        return f"{cell['cell']}: {paper}, {cell['missing']}"
    return f"{cell['cell']}: {paper}, {_number(cell['mean'])} in {count(cell['n'], 'seed')} of ours"


def _row(row: Explained) -> str:
    return f"{row['row']}: {row['missing'] or count(row['n'], 'run')}"


def _run(run: Explained) -> str:
    """One run: what it gave, what made it, and where it lies."""
    seconds, sentinel = run["wall_seconds"], run["sentinel"].replace("_", " ")
    made = code_of(Environment(git_sha=run["git_sha"], dirty=run["dirty"]))
    said = [
        f"{run['row']}, seed {run['seed']}" if "row" in run else f"seed {run['seed']}",
        _number(run.get("value")),
        f"run {run['id']}",
        f"sentinel: {sentinel}",
        str(msgspec.convert(run["stopped_on"], EarlyEnd | None) or ""),
        f"code {made}",
        f"on {hardware_of(msgspec.convert(run['hardware'], Hardware | None))}",
        "" if seconds is None else f"trained for {duration(seconds / 3600)}",
        f"evaluated by {_request(run['evaluation'])}" if run["evaluation"] else "",
        run["from"],
        f"last line of its log: {run['log']}" if run["log"] else "",
    ]
    return "; ".join(word for word in said if word)


def _request(request: Explained) -> str:
    """A protocol with its data and settings: linear (linear_epochs 30)."""
    name = " on ".join(word for word in (request["protocol"], request["data"]) if word)
    settings = ", ".join(f"{key} {plain(value)}" for key, value in request["settings"].items())
    return f"{name} ({settings})" if settings else name


def _deviations(explained: Explained) -> list[str]:
    return [
        f"{entry['id']}, {entry['what']}"
        + (f"; at {entry['at']}" if entry["at"] else "")
        + (f"; effect: {entry['effect']}" if entry["effect"] else "")
        for entry in explained["deviations"]
    ]


def _number(value: float | None, sign: str = "") -> str:
    if value is None:
        return ""
    return f"{value:{sign},.0f}" if abs(value) >= 1000 else f"{value:{sign}.4g}"


def _hung(line: str, width: int | None) -> list[str]:
    """Between words, later lines further in than the first."""
    if width is None or len(line) <= width:
        return [line]
    begin = line[: len(line) - len(line.lstrip())]
    return textwrap.wrap(
        line.lstrip(),
        width,
        initial_indent=begin,
        subsequent_indent=begin + INDENT * 2,
        break_long_words=False,
        break_on_hyphens=False,
    )
