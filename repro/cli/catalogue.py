"""What there is to run: `repro list`, `repro show` and `repro plan`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from repro.config.identity import run_id
from repro.harness.experiments.experiment import (
    Experiment,
    Row,
    Variant,
    experiment_ids,
    load,
    row_config,
)
from repro.harness.plan.cost import Cost
from repro.harness.plan.forecast import Forecast
from repro.harness.plan.plan import Plan, to_evaluate
from repro.harness.runs.planned import PlannedRun
from repro.harness.runs.records import read_records
from repro.harness.runs.store import find_runs
from repro.terminal import count, duration, print_table, tick


def listing(results: Path) -> list[dict[str, Any]]:
    """One dict an experiment: {id, title, kind, rows, claims, trainable, done}.

    `rows`, `claims` and `trainable` are counts; `done` counts, by scale, the rows with at least one
    finished run, here or published.
    """
    finished = _finished(results)
    return [
        {
            "id": experiment.id,
            "title": experiment.title,
            "kind": experiment.kind,
            "rows": len(experiment.rows),
            "claims": len(experiment.claims),
            "trainable": sum(row.trainable for row in experiment.rows),
            "done": {scale: _rows_done(experiment, scale, runs) for scale, runs in finished},
        }
        for experiment in map(load, experiment_ids())
    ]


def print_listing(entries: Sequence[dict[str, Any]]) -> None:
    rows = []
    for entry in entries:
        done = ", ".join(f"{n} at {scale}" for scale, n in entry["done"].items() if n)
        counts = f"{entry['trainable']} of {entry['rows']}"
        rows.append(
            [entry["id"], entry["kind"], entry["title"], counts, str(entry["claims"]), done or "-"]
        )
    print_table("", ["id", "kind", "title", "rows trainable", "claims", "rows done"], rows)


def details(experiment: Experiment, rows: Sequence[Row]) -> dict[str, Any]:
    """{id, title, kind, question, rows: [...], claims: [...]}: the fixed shape of `show --json`."""
    return {
        "id": experiment.id,
        "title": experiment.title,
        "kind": experiment.kind,
        "question": experiment.question,
        "variants": {name: dict(v.overrides) for name, v in experiment.variants.items()},
        "rows": [
            {
                "name": row.name,
                "label": row.label,
                "reported": dict(row.reported),
                "overrides": {**experiment.baseline, **row.overrides},
                "variants": {name: dict(v.overrides) for name, v in row.variants.items()},
                "trainable": row.trainable,
                "reported_only": row.reported_only,
            }
            for row in rows
        ],
        "claims": [
            {"id": claim.id, "statement": claim.statement, "kind": claim.kind}
            for claim in experiment.claims
        ],
    }


def print_details(experiment: Experiment, rows: Sequence[Row]) -> None:
    """The experiment in the paper's own columns, each row with what makes it differ."""
    print(f"{experiment.id}: {experiment.title} ({experiment.where})")
    print(experiment.question)
    print()
    columns = ["row", *(c.title for c in experiment.layout)]
    columns += [m.title + (f" ({m.unit})" if m.unit else "") for m in experiment.metrics]
    lines = []
    for row in rows:
        line = [row.name, *(tick(row.cells.get(c.key, "")) for c in experiment.layout)]
        for metric in experiment.metrics:
            number = row.reported.get(metric.key)
            line.append("-" if number is None else f"{number:.{metric.decimals}f}")
        lines.append([*line, _difference(row)])
    print_table("", [*columns, "differs from the baseline in"], lines)
    for key, value in experiment.baseline.items():
        print(f"baseline: {key}={value}")
    for scale, overrides in experiment.at.items():
        print(f"at {scale} scale: {_assignments(overrides)}")
    for name, variant in experiment.variants.items():
        print(f"variant {name} ({variant.title}): {_layers(variant) or 'the rows as they are'}")
    print()
    claims = [[claim.id, claim.kind, claim.statement] for claim in experiment.claims]
    print_table("", ["claim", "kind", "statement"], claims)
    print(f"\nrepro plan {experiment.id}   what would run, what is done\n{experiment.path}")


def _difference(row: Row) -> str:
    if row.reported_only:
        return f"reported only: {row.reported_only}"
    parts = [_layers(row) or "nothing"]
    parts += [f"{name}: {_layers(variant)}" for name, variant in row.variants.items()]
    if row.scales:
        parts.append(f"only at {', '.join(row.scales)}")
    return "; ".join(parts)


def _layers(item: Row | Variant) -> str:
    parts = [_assignments(item.overrides)] if item.overrides else []
    parts += [f"at {scale}: {_assignments(values)}" for scale, values in item.at.items()]
    return "; ".join(parts)


def _assignments(overrides: Any) -> str:
    return ", ".join(f"{key}={value}" for key, value in overrides.items())


def _finished(results: Path) -> list[tuple[str, dict[str, int]]]:
    """By scale, the finished runs known here: {id: seed}."""
    by_scale: dict[str, dict[str, int]] = {}
    for file in sorted((results / "published").glob("*/records.jsonl")):
        for record in read_records(file):
            by_scale.setdefault(record["scale"], {})[record["id"]] = record["seed"]
    for folder in find_runs(results / "runs"):
        if folder.result() is not None:
            run = folder.read_run()
            by_scale.setdefault(run["scale"], {})[folder.id] = run["seed"]
    return sorted(by_scale.items())


def _rows_done(experiment: Experiment, scale: str, runs: dict[str, int]) -> int:
    seeds = set(runs.values())

    def done(row: Row, variant: str) -> bool:
        config = row_config(experiment, row, scale, 0, variant)
        return any(run_id(replace(config, seed=seed)) in runs for seed in seeds)

    trained = (row for row in experiment.rows if not row.why_not(scale))
    return sum(all(done(row, name) for name in experiment.runs_a_row) for row in trained)


def plan_json(planned: Plan, expected: Forecast) -> dict[str, Any]:
    """{runs, gpu_hours, cpu_hours, todo, ...}: the fixed shape of `plan --json`.

    The hours are null where nothing comparable is known.
    """
    keys = ("id", "experiment", "row", "seed", "state", "slug", "cells", "evaluation")
    cost = planned.cost
    return {
        "runs": [{key: getattr(run, key) for key in keys} for run in planned.runs],
        "gpu_hours": cost and cost.gpu_hours,
        "cpu_hours": cost and cost.cpu_hours,
        "todo": len(planned.todo),
        "to_evaluate": len(planned.to_evaluate),
        "jobs": expected.jobs,
        "wall_hours": expected.wall_hours,
        "disk_gb": expected.disk_gb,
        "without_data": planned.without_data,
        "skipped": [
            {"experiment": experiment, "row": row, "why": why}
            for experiment, row, why in planned.skipped
        ],
    }


def print_plan(planned: Plan, expected: Forecast) -> None:
    rows = [
        [run.id, " ".join(f"{e}:{r}" for e, r in run.cells), str(run.seed), _state(run)]
        for run in planned.runs
    ]
    if rows:
        print_table("", ["id", "rows it serves", "seed", "state"], rows)
    for experiment, row, why in planned.skipped:
        print(f"{experiment}:{row}: {why}")
    todo, to_evaluate = len(planned.todo), len(planned.to_evaluate)
    shared = sum(len({e for e, _ in run.cells}) > 1 for run in planned.runs)
    said = [f"{count(len(planned.runs), 'run')}, {todo} to do"]
    said += [f"{to_evaluate} to evaluate"] if to_evaluate else []
    said += [f"{shared} shared by several tables"] if shared else []
    print(", ".join(said) + (f"; {_cost(planned.cost)}" if todo else ""))
    if planned.without_data:
        names = ", ".join(planned.without_data)
        print(f"not measured for want of data: {names}; data: of the cluster's file names folders")
    if todo or to_evaluate:
        print(_expected(expected))


def _state(run: PlannedRun) -> str:
    if run.sent and run.state == "queued":
        return "queued (submitted)"
    return f"{run.state}, not evaluated" if to_evaluate(run) else run.state


def _expected(expected: Forecast) -> str:
    parts = [expected.place, f"{expected.at_a_time} at a time"]
    if expected.jobs:
        parts.append(count(expected.jobs, "job"))
    if expected.wall_hours:
        parts.append(f"about {duration(expected.wall_hours)}")
    if expected.disk_gb:
        short = " (NOT ENOUGH)" if expected.disk_gb > expected.free_gb else ""
        parts.append(f"{expected.disk_gb:,.1f} GB of {expected.free_gb:,.0f} GB free disk{short}")
    return ", ".join(parts)


def _cost(cost: Cost | None) -> str:
    if cost is None:
        return "cost unknown: no run of this scale has finished here yet"
    hours = {"of cores": cost.cpu_hours, "of GPUs": cost.gpu_hours}
    said = " and ".join(f"{duration(value)} {what}" for what, value in hours.items() if value)
    return f"about {said}, from {cost.basis}"
