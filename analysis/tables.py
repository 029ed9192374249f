"""An experiment as the paper's own table: its columns, our numbers beside the reported ones.

Below it: floors, what differs from the paper's protocol, which code made the numbers, the claims
with their verdicts, and how to make it again. `analysis/formats.py` writes it down.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis import formats
from analysis.claims import ClaimVerdict, judge_ours
from analysis.frame import (
    PAPER,
    Cell,
    Evidence,
    Record,
    all_runs_of,
    cell,
    cells,
    clean_cell,
    config_of,
    load_evidence,
    row_distance,
)
from analysis.ladder import CellVerdict, judge_cells
from analysis.stats import mean_interval
from repro.errors import UserError, nearest
from repro.harness.ledger import concerned, read_ledger
from repro.harness.protocol_names import tier_of
from repro.harness.spec import Experiment, Metric, Row, experiments_dir, run_name
from repro.harness.terminal import tick

FORMATS = ("terminal", "md", "tex", "csv", "html")
BLANK = "-"


@dataclass(frozen=True)
class Printed:
    """A table ready to be written: strings only, in the order of the page."""

    title: str
    body: pd.DataFrame
    notes: list[str]
    claims: list[ClaimVerdict]
    tidy: pd.DataFrame  # the cells as numbers, for csv


def render_table(experiment_id: str, scale: str, fmt: str) -> str:
    """One experiment's table at one scale, as text in one of `FORMATS`.

    Raises:
        UserError: unknown experiment, scale or format.
    """
    if fmt not in FORMATS:
        raise UserError(f"--format {fmt}: no such table format; nearest: {nearest(fmt, FORMATS)}")
    evidence = load_evidence(scale)
    return formats.write(build(evidence.experiment(experiment_id), evidence), fmt)


def build(experiment: Experiment, evidence: Evidence) -> Printed:
    """Everything that the table of `experiment` says about `evidence`."""
    claims = judge_ours(experiment, evidence)
    verdicts = judge_cells(experiment, evidence)
    lines = [_line(experiment, row, evidence, claims, verdicts) for row in experiment.rows]
    return Printed(
        title=f"{experiment.where}: {experiment.title} ({evidence.scale} scale)",
        body=pd.DataFrame(lines),
        notes=_notes(experiment, evidence),
        claims=claims,
        tidy=_tidy(experiment, evidence, verdicts),
    )


def _line(
    experiment: Experiment,
    row: Row,
    evidence: Evidence,
    claims: list[ClaimVerdict],
    verdicts: dict[tuple[str, str], CellVerdict],
) -> dict[str, str]:
    line = {column.title: tick(row.cells.get(column.key, "")) for column in experiment.layout}
    for metric in experiment.metrics:
        c = cell(experiment, row, metric.key, evidence)
        reported = BLANK if c.reported is None else f"{c.reported:.{metric.decimals}f}"
        line[f"{metric.title} (paper)"] = reported
        minutes = metric.unit == "h" and evidence.scale != PAPER  # to a third of a second
        line[f"{metric.title} (ours{_tier(metric)})"] = _ours(
            c, row, 4 if minutes else metric.decimals
        )
    states = Counter(r["sentinel"]["state"] for r in all_runs_of(experiment, row, evidence))
    line["sentinel"] = (
        next(iter(states))
        if len(states) == 1
        else ", ".join(f"{state} {n}" for state, n in sorted(states.items())) or BLANK
    )
    line["verdict"] = _row_verdict(experiment, row, evidence.scale, claims, verdicts)
    return line


def _tier(metric: Metric) -> str:
    tier = tier_of(metric.of)
    return f", {tier}" if tier else ""


def _ours(c: Cell, row: Row, decimals: int) -> str:
    if c.missing:
        return BLANK if row.reported_only else c.missing.removesuffix(" by these runs")
    interval = mean_interval(list(c.values.values()))
    if interval.n == 1:
        return f"{interval.mean:.{decimals}f} (1 seed)"
    return f"{interval.mean:.{decimals}f} ± {interval.half_width:.{decimals}f} ({interval.n})"


def _row_verdict(
    experiment: Experiment,
    row: Row,
    scale: str,
    claims: list[ClaimVerdict],
    verdicts: dict[tuple[str, str], CellVerdict],
) -> str:
    """Claims on this very row say more than "n/a at this scale"; absolute verdicts come first."""
    if why := row.why_not(scale):
        return why
    words = {m.title: verdicts[row.name, m.key].verdict for m in experiment.metrics}
    silent = ("n/a at this scale", "not run", "not measured", "nothing printed")
    said = [f"{title} {word}" for title, word in words.items() if word not in silent]
    by_id = {claim.id: claim for claim in experiment.claims}
    address = f"{experiment.id}.{row.name}"
    said += [
        f"{v.id} {v.verdict}"
        for v in claims
        if v.verdict != "not run" and address in by_id[v.id].body.get("rows", [])
    ]
    return "; ".join(said) or next(iter(words.values()))


def _notes(experiment: Experiment, evidence: Evidence) -> list[str]:
    runs = {
        run["id"]: run for row in experiment.rows for run in all_runs_of(experiment, row, evidence)
    }
    name, scale = experiment.id, evidence.scale
    notes = []
    if runs:
        notes.append("Ours: mean ± half-width of its 95 % interval over seeds (number of seeds).")
        notes.append(_floors(list(runs.values())))
        notes += _clean_tiers(experiment, evidence)
    if scale != PAPER:
        notes.append(_deviations(experiment, scale))
    notes += _ledger(experiment, scale)
    if runs:
        notes.append(_provenance(list(runs.values())))
    notes.append(
        f"Again: repro run {name} --scale {scale} --seeds 3 trains what is missing; "
        f"repro table {name} --scale {scale} prints this from the records alone."
    )
    return notes


def _clean_tiers(experiment: Experiment, evidence: Evidence) -> list[str]:
    """What the official columns would read by the benchmarks' own definitions."""
    notes = []
    for metric in experiment.metrics:
        said = []
        for row in experiment.rows:
            c = clean_cell(experiment, row, metric.key, evidence)
            if c and c.values:
                mean = sum(c.values.values()) / len(c.values)
                said.append(f"{row.label} {mean:.{metric.decimals}f} ({len(c.values)})")
        if said:
            notes.append(
                f"{metric.title}: official tier, as the authors' script evaluates; clean tier, the "
                f"benchmark's own definition (number of seeds): {', '.join(said)}."
            )
    return notes


def _floors(runs: list[Record]) -> str:
    random, pixels = (
        np.mean([run["metrics"][key] for run in runs]) for key in ("knn_random", "knn_pixels")
    )
    return (
        f"k-NN floors on this data: random initialisation {random:.1f} %, "
        f"raw pixels {pixels:.1f} % (mean of {len(runs)} runs)."
    )


def _deviations(experiment: Experiment, scale: str) -> str:
    """The config keys in which rows at this scale differ from the paper's rows, by section."""
    rows = [row for row in experiment.rows if not row.why_not(scale)]
    variants = experiment.runs_a_row
    distances = [row_distance(experiment, row, scale, name) for row in rows for name in variants]
    keys = dict.fromkeys(key for distance in distances for key in distance)
    groups: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        section, _, name = key.partition(".")
        pairs = [distance.get(key) for distance in distances]
        if all(pair == pairs[0] for pair in pairs) and pairs[0] is not None:
            ours, paper = (_plain(value) for value in pairs[0])
            groups[section].append(f"{name} {ours} ({paper})")
        else:
            groups[section].append(f"{name} (in some rows)")
    listed = "; ".join(f"{section}: {', '.join(names)}" for section, names in groups.items())
    return f"Differs from the paper's protocol in {len(keys)} keys, ours (paper's): {listed}."


def _ledger(experiment: Experiment, scale: str) -> list[str]:
    """The entries of the deviation ledger that concern rows of this table at this scale."""
    trained = [row for row in experiment.rows if not row.why_not(scale)]
    configs = {
        run_name(row, variant): config_of(experiment, row, scale, variant)
        for row in trained
        for variant in experiment.runs_a_row
    }
    notes = []
    for entry, names in concerned(read_ledger(experiments_dir()), experiment.id, configs):
        where = "all rows" if len(names) == len(configs) else ", ".join(names)
        notes.append(f"{entry.id} ({where}) {entry}.")
    return notes


def _provenance(runs: list[Record]) -> str:
    versions = Counter(
        (run["env"]["git_sha"] or "unknown")[:10]
        + (" with uncommitted changes" if run["env"]["dirty"] else "")
        for run in runs
    )
    listed = ", ".join(f"{version} ({n})" for version, n in sorted(versions.items()))
    return f"Made by {len(runs)} runs of code version {listed}."


def _tidy(
    experiment: Experiment,
    evidence: Evidence,
    verdicts: dict[tuple[str, str], CellVerdict],
) -> pd.DataFrame:
    frame = cells(experiment, evidence)
    halves = [mean_interval(list(v.values())).half_width if v else None for v in frame["values"]]
    frame.insert(6, "half_width", pd.Series(halves, dtype=float))
    frame["seeds"] = [" ".join(map(str, values)) for values in frame["values"]]
    for column in ("values", "runs"):
        frame[column] = [" ".join(str(v) for v in by_seed.values()) for by_seed in frame[column]]
    frame["tier"] = [
        tier_of(experiment.row(row).of.get(metric, experiment.metric(metric).of))
        for row, metric in zip(frame["row"], frame["metric"], strict=True)
    ]
    frame["clean_mean"] = [
        _clean_mean(experiment, row, metric, evidence)
        for row, metric in zip(frame["row"], frame["metric"], strict=True)
    ]
    frame["verdict"] = [
        verdicts[row, metric].verdict
        for row, metric in zip(frame["row"], frame["metric"], strict=True)
    ]
    return frame


def _clean_mean(experiment: Experiment, row: str, metric: str, evidence: Evidence) -> float | None:
    c = clean_cell(experiment, experiment.row(row), metric, evidence)
    return float(np.mean(list(c.values.values()))) if c and c.values else None


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return " to ".join(f"{v:g}" for v in value)
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    from repro.cli import main

    sys.exit(main(["table", *sys.argv[1:]]))
