"""From a printed number back to where it comes from: runs, config, code version, log line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from analysis.frame import Evidence, Record, cell, load_evidence, row_distance, runs_of
from analysis.ladder import judge_cells
from analysis.stats import mean_interval
from repro.errors import UserError
from repro.harness.protocol_names import protocol_of, tier_of
from repro.harness.spec import results_dir
from repro.harness.store import find_run


def explain(address: str, scale: str) -> dict[str, Any]:
    """Everything behind one cell, e.g. `T7:r2:knn`.

    Returns:
        {cell, scale, reported, mean, interval: [low, high] of 95 % or null, n, missing, verdict,
        rule, tier, runs: [{id, seed, value, from, git_sha, dirty, log, evaluation}],
        config_difference: {key: {ours, paper}}}. `tier` is official, clean or empty, `evaluation`
        the request that gave the number, null for numbers of the training itself.

    Raises:
        UserError: the address is not ID:ROW:METRIC, or one of the three does not exist.
    """
    parts = address.split(":")
    if len(parts) != 3:
        raise UserError(f"'{address}' is not a cell: write ID:ROW:METRIC, e.g. T7:r2:knn")
    name, row_name, key = parts
    evidence = load_evidence(scale)
    experiment = evidence.experiment(name)
    row = experiment.row(row_name)
    column = experiment.metric(key)
    source, variant = row.of.get(key, column.of), column.variant
    found = cell(experiment, row, key, evidence)
    values = list(found.values.values())
    interval = mean_interval(values) if values else None
    several = interval is not None and interval.n > 1
    verdict = judge_cells(experiment, evidence)[row_name, key]
    runs = runs_of(experiment, row, evidence, variant)
    distance = {} if row.why_not(scale) else row_distance(experiment, row, scale, variant)
    return {
        "cell": address,
        "scale": scale,
        "reported": found.reported,
        "mean": interval.mean if interval else None,
        "interval": [interval.low, interval.high] if interval and several else None,
        "n": len(values),
        "missing": found.missing,
        "verdict": verdict.verdict,
        "rule": verdict.rule,
        "tier": tier_of(source),
        "runs": [_run(runs[seed], source, value, evidence) for seed, value in found.values.items()],
        "config_difference": {k: {"ours": a, "paper": b} for k, (a, b) in distance.items()},
    }


def _run(run: Record, source: str, value: float, evidence: Evidence) -> dict[str, Any]:
    folder = find_run(results_dir() / "runs", run["id"])
    made = run.get("evaluations", {}).get(protocol_of(source))
    env = made["env"] if made else run["env"]
    return {
        "id": run["id"],
        "seed": run["seed"],
        "value": value,
        "from": str(folder.path) if folder else f"results/published/{evidence.scale}/records.jsonl",
        "git_sha": env["git_sha"],
        "dirty": env["dirty"],
        "evaluation": made and made["request"],
        "log": _last_line(folder.path / "log.txt") if folder else None,
    }


def _last_line(path: Path) -> str | None:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return None
    return lines[-1] if lines else None


if __name__ == "__main__":
    from repro.cli import main

    sys.exit(main(["explain", *sys.argv[1:]]))
