"""What opens behind a cell of the report, as JSON in which whatever many share stands once."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from markupsafe import Markup

from analysis.evidence.words import code_of, hardware_of, plain
from analysis.explain import Explainer
from analysis.report.data import Section
from repro.harness.experiments.address import Address
from repro.harness.runs.environment import Environment, Hardware
from repro.harness.runs.records import Record

CURVES = ("knn", "student_knn", "entropy", "kl", "loss", "output_spread")
UNSAFE = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


def panels(
    sections: Sequence[Section], runs: Iterable[Record], explainer: Explainer
) -> dict[str, Any]:
    """{scale, cells: {address: ...}, runs: {id: ...}, labels, distances, epochs}.

    A cell names its runs by id and its config difference by its index in `distances`, a curve its
    epochs by theirs in `epochs`. `labels` are those of the rows, whose tables need not print them.
    """
    resting = _claims_by_address(sections)
    distances, epochs = Shared(), Shared()
    cells = {}
    for section in sections:
        entries = (entry for line in section.printed.lines for entry in line.entries)
        for entry in entries:
            if entry.address:
                cells[entry.address] = _cell(
                    entry.address, entry.text, section, explainer, resting, distances
                )
    return {
        "scale": explainer.evidence.scale,
        "cells": cells,
        "runs": {run.id: _run(run, epochs) for run in runs},
        "labels": {
            Address(section.experiment.id, row.name).typed: row.label
            for section in sections
            for row in section.experiment.rows
        },
        "distances": distances.values,
        "epochs": epochs.values,
    }


class Shared:
    """Different lists, each once; `values` is read after the last was placed."""

    def __init__(self) -> None:
        self._indices: dict[str, int] = {}

    def index(self, value: list[Any]) -> int:
        return self._indices.setdefault(json.dumps(value, ensure_ascii=False), len(self._indices))

    @property
    def values(self) -> list[Any]:
        return [json.loads(value) for value in self._indices]


def embedded(data: Mapping[str, Any]) -> Markup:
    """JSON that no parser of HTML takes for the end of its script element."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.translate(UNSAFE))  # noqa: S704  nothing in it can end the element


def _cell(
    address: str,
    shown: str,
    section: Section,
    explainer: Explainer,
    resting: Mapping[str, list[str]],
    distances: Shared,
) -> dict[str, Any]:
    explained = explainer.cell(address)
    named = Address.of_cell(address)
    row, metric = section.experiment.row(named.row), section.experiment.metric(named.metric)
    distance = [
        [key, plain(pair["ours"]), plain(pair["paper"])]
        for key, pair in explained["config_difference"].items()
    ]
    claims = resting[str(named)] + resting[str(named.of_its_row)]
    reported = explained["reported"]
    kept = ("n", "spread", "verdict", "rule", "flips", "tier", "others", "sources")
    return {key: explained[key] for key in kept} | {
        "experiment": named.experiment,
        "row": row.label,
        "metric": metric.title,
        "unit": metric.unit,
        "shown": shown,
        "reported": None if reported is None else f"{reported:.{metric.decimals}f}",
        "mean": _short(explained["mean"], 6),
        "interval": explained["interval"] and [_short(bound, 6) for bound in explained["interval"]],
        "difference": _short(explained["difference"]),
        "clean": _short(explained["clean"]),
        "runs": [_value(run) for run in explained["runs"]],
        "distance": distances.index(distance),
        "deviations": [entry["id"] for entry in explained["deviations"]],
        "claims": list(dict.fromkeys(claims)),
    }


def _value(run: dict[str, Any]) -> dict[str, Any]:
    """What one seed gave; of a run folder its name, since paths are a machine's own."""
    origin = Path(run["from"])
    return {
        "id": run["id"],
        "seed": run["seed"],
        "value": _short(run["value"], 6),
        "code": code_of(Environment(git_sha=run["git_sha"], dirty=run["dirty"])),
        "sha": run["git_sha"],
        "hardware": hardware_of(msgspec.convert(run["hardware"], Hardware | None)),
        "evaluation": run["evaluation"],
        "from": f"results/runs/{origin.name}" if origin.is_absolute() else str(origin),
        "log": run["log"],
    }


def _run(run: Record, epochs: Shared) -> dict[str, Any]:
    curves = {}
    for name in CURVES:
        points = [(e, v) for e, v in run.curves.points(name) if math.isfinite(v)]
        if points:
            index = epochs.index([_short(e) for e, _ in points])
            curves[name] = [index, [_short(v) for _, v in points]]
    return {
        "slug": run.slug,
        "seed": run.seed,
        "sentinel": f"{run.sentinel.state}{f', {run.stopped_on}' if run.stopped_on else ''}",
        "meaning": run.sentinel.meaning,
        "seconds": _short(run.times.wall_seconds, 3),
        "images": run.counts.images_seen,
        "log_K": _short(run.metrics.get("log_K")),
        "curves": curves,
    }


def _claims_by_address(sections: Sequence[Section]) -> dict[str, list[str]]:
    """Ids of the claims that rest on a row or a cell, by dotted address."""
    resting: dict[str, list[str]] = defaultdict(list)
    for section in sections:
        for claim in section.experiment.claims:
            for address in (*claim.body.row_addresses(), *claim.body.cell_addresses()):
                resting[address].append(claim.id)
    return resting


def _short(value: float | None, digits: int = 4) -> float | None:
    return None if value is None else float(f"{value:.{digits}g}")
