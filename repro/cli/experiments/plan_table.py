"""Planned runs, their cost and where they would run: what `repro plan` prints."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from repro.harness.plan.cost import Cost
from repro.harness.plan.forecast import Forecast
from repro.harness.plan.plan import Plan, to_evaluate
from repro.harness.runs.planned import PlannedRun
from repro.harness.runs.states import LIVE
from repro.harness.runs.store import RunFolder
from repro.harness.status.overview import Overview
from repro.terminal import count, duration, print_table, print_text

MOST_NAMED = 6  # run ids in a line


def plan_json(
    planned: Plan, expected: Forecast, unasked: Sequence[RunFolder], seen: Overview
) -> dict[str, Any]:
    """{runs, gpu_hours, cpu_hours, todo, ...}: the fixed shape of `plan --json`.

    The hours are null where nothing comparable is known.
    """
    cost = planned.cost
    return {
        "runs": [
            {
                "id": run.id,
                "experiment": run.experiment,
                "row": run.row,
                "seed": run.seed,
                "state": run.state_name,
                "published": run.published,
                "slug": run.slug,
                "cells": run.serves,
                "evaluation": run.evaluation,
            }
            for run in planned.runs
        ],
        "gpu_hours": cost and cost.gpu_hours,
        "cpu_hours": cost and cost.cpu_hours,
        "todo": len(planned.todo),
        "to_evaluate": len(planned.to_evaluate),
        "jobs": expected.jobs,
        "wall_hours": expected.wall_hours,
        "disk_gb": expected.disk_gb,
        "without_data": planned.without_data,
        "remarks": expected.remarks,
        "skipped": [
            {"experiment": experiment, "row": row, "why": why}
            for experiment, row, why in planned.skipped
        ],
        "unasked": [
            {"id": folder.id, "slug": folder.slug, "state": seen.views[folder.id].state}
            for folder in unasked
        ],
    }


def print_plan(planned: Plan, expected: Forecast) -> None:
    rows = [
        [run.id, " ".join(f"{e}:{r}" for e, r in run.serves), str(run.seed), _state(run)]
        for run in planned.runs
    ]
    if rows:
        print_table("", ["id", "rows it serves", "seed", "state"], rows)
    for experiment, row, why in planned.skipped:
        print_text(f"{experiment}:{row}: {why}")
    for run in planned.runs:
        if run.damage:
            print_text(f"damaged, and left as it is: {run.damage}")
    todo, to_evaluate = len(planned.todo), len(planned.to_evaluate)
    shared = sum(len({e for e, _ in run.serves}) > 1 for run in planned.runs)
    parts = [f"{count(len(planned.runs), 'run')}, {todo} to do"]
    again = sum(run.published for run in planned.todo)
    parts += [f"{again} of them published, not here"] if again else []
    parts += [f"{to_evaluate} to evaluate"] if to_evaluate else []
    parts += [f"{shared} shared by several tables"] if shared else []
    print_text(", ".join(parts) + (f"; {_cost(planned.cost)}" if todo else ""))
    if planned.without_data:
        names = ", ".join(planned.without_data)
        print_text(
            f"not measured for want of data: {names}; data: of the cluster's file names folders"
        )
    if todo or to_evaluate:
        print_text(_expected(expected))
    for line in expected.remarks:
        print_text(f"note: {line}")


def print_unasked(folders: Sequence[RunFolder], seen: Overview, scale: str) -> None:
    """A line an experiment that has runs here which none of its rows asks for any more."""
    of = {folder: folder.told().experiment for folder in folders}
    for name, group in groupby(sorted(folders, key=lambda f: of[f]), key=lambda f: of[f]):
        runs = list(group)
        states = [(folder.id, seen.views[folder.id]) for folder in runs]
        said = ", ".join(f"{one} ({view.state})" for one, view in states[:MOST_NAMED])
        more = f" and {len(runs) - MOST_NAMED} more" if len(runs) > MOST_NAMED else ""
        remedy = "repro rm removes them"
        if any(view.state in LIVE or view.sent for _, view in states):
            remedy = f"repro submit {name} --scale {scale} --reconcile cancels what waits or runs"
        serve = "serves" if len(runs) == 1 else "serve"
        print_text(
            f"{count(len(runs), 'run')} here {serve} no row of {name} any more: {said}{more}; "
            f"{remedy}"
        )


def _state(run: PlannedRun) -> str:
    if run.sent and run.state == "queued":
        return "queued (submitted)"
    name = f"{run.state}, not evaluated" if to_evaluate(run) else run.state_name
    return f"{name} (published)" if run.published else name


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
    text = " and ".join(f"{duration(value)} {what}" for what, value in hours.items() if value)
    return f"about {text}, from {cost.basis}"
