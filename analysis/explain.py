"""From a printed number, or a verdict on a claim, back to where it comes from: runs, config, code
version, hardware, log line, and what would have to be otherwise for another verdict.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from analysis.evidence.frame import (
    PAPER,
    Evidence,
    all_runs_of,
    cell,
    clean_cell,
    config_of,
    load_evidence,
    resolve,
    resolve_row,
    row_distance,
    runs_of,
)
from analysis.evidence.stats import mean_interval
from analysis.verdicts.cells import CellVerdict, column_spread, judge_cells
from analysis.verdicts.claims import ClaimVerdict, judge_ours, judge_reported
from repro.errors import UserError, nearest
from repro.harness.evaluation.names import protocol_of, tier_of
from repro.harness.experiments.claims import Claim
from repro.harness.experiments.experiment import Experiment, experiment_ids
from repro.harness.experiments.folders import experiments_dir, results_dir
from repro.harness.experiments.ledger import Deviation, concerned, read_ledger
from repro.harness.experiments.missing import NOT_RUN
from repro.harness.experiments.paper import read_paper
from repro.harness.runs.records import Record
from repro.harness.runs.store import RunFolder, find_runs

CLAIM = "C."  # how the ids of claims begin


def explain(address: str, scale: str) -> dict[str, Any]:
    """Everything behind one cell (`T7:r2:knn`) or one claim (`C.T7.4`).

    Raises:
        UserError: the address is neither, or what it names does not exist.
    """
    if address.startswith(CLAIM):
        claim_named(address, Evidence(PAPER, {}))  # a mistake is said before records are read
        return Explainer(load_evidence(scale)).claim(address)
    if address.count(":") != 2:
        raise UserError(
            f"'{address}' is not a cell: write ID:ROW:METRIC, e.g. T7:r2:knn (or a claim: C.T7.1)"
        )
    return Explainer(load_evidence(scale)).cell(address)


def claim_named(name: str, evidence: Evidence) -> tuple[Experiment, Claim]:
    """Raises: UserError with the nearest id."""
    known: dict[str, tuple[Experiment, Claim]] = {}
    for one in experiment_ids():
        experiment = evidence.experiment(one)
        known |= {claim.id: (experiment, claim) for claim in experiment.claims}
    if name not in known:
        raise UserError(
            f"no claim '{name}'; nearest: {nearest(name, list(known))} (repro check lists all)"
        )
    return known[name]


@dataclass(frozen=True)
class Explainer:
    """Answers about one body of evidence; verdicts, folders and the ledger are read once."""

    evidence: Evidence
    _cells: dict[str, dict[tuple[str, str], CellVerdict]] = field(default_factory=dict)
    _claims: dict[str, list[ClaimVerdict]] = field(default_factory=dict)

    def cell(self, address: str) -> dict[str, Any]:
        """Everything behind one cell.

        Returns:
            {cell, scale, reported, sources, mean, interval: [low, high] of 95 % or null, spread (of
            one or two seeds: whose it is), n, missing, difference, verdict, rule, flips, tier,
            clean, others, runs: [{id, seed, value, from, git_sha, dirty, hardware, sentinel,
            wall_seconds, log, evaluation}], config_difference: {key: {ours, paper}}, deviations}.
            `tier` is official, clean or empty, `clean` the mean of the clean tier where the two
            differ, `evaluation` the request that gave the number, null for training's own.
        """
        name, row_name, key = address.split(":")
        experiment = self.evidence.experiment(name)
        row, column = experiment.row(row_name), experiment.metric(key)
        source = row.of.get(key, column.of)
        found = cell(experiment, row, key, self.evidence)
        clean = clean_cell(experiment, row, key, self.evidence)
        values = list(found.values.values())
        spread = column_spread(experiment, column, self.evidence)
        interval = mean_interval(values, spread=spread) if values else None
        bounds = [interval.low, interval.high] if interval else []
        verdict = self.cell_verdicts(experiment)[row_name, key]
        runs = runs_of(experiment, row, self.evidence, column.variant)
        paper, scale = read_paper(), self.evidence.scale
        trained = not row.why_not(scale)
        distance = row_distance(experiment, row, scale, column.variant) if trained else {}
        return {
            "cell": address,
            "scale": scale,
            "reported": found.reported,
            "sources": [paper.sources.get(one, one) for one in row.source],
            "mean": interval.mean if interval else None,
            "interval": bounds if bounds and not any(map(math.isnan, bounds)) else None,
            "spread": interval.source if interval else "",
            "n": len(values),
            "missing": str(found.missing or ""),
            "difference": interval.mean - found.reported
            if interval and found.reported is not None
            else None,
            "verdict": str(verdict.verdict),
            "rule": verdict.rule,
            "flips": verdict.flips,
            "tier": tier_of(source),
            "clean": clean.mean if clean else None,
            "others": [
                {"value": value, "what": anchor.what, "source": paper.sources[anchor.source]}
                for value, anchor in paper.anchors_of(found.address)
            ],
            "runs": [
                self.run(runs[seed], source) | {"value": value}
                for seed, value in found.values.items()
            ],
            "config_difference": {k: {"ours": a, "paper": b} for k, (a, b) in distance.items()},
            "deviations": self._deviations(experiment, row_name) if trained else [],
        }

    def claim(self, name: str) -> dict[str, Any]:
        """Everything behind the verdict on a claim.

        Returns:
            {claim, experiment, scale, statement, where, portability, verdict, holds, evidence,
            rule, flips, note, on_paper, reported: {verdict, evidence} (the same claim on the
            paper's own numbers), cells: [{cell, reported, mean, n, missing}], rows: [{row, n,
            missing}], runs, deviations}. `cells` and `rows` are what the claim rests on.
        """
        experiment, claim = claim_named(name, self.evidence)
        (ours,) = (one for one in self.claim_verdicts(experiment) if one.id == name)
        printed = judge_reported(experiment, Evidence(PAPER, {}))
        (reported,) = (one for one in printed if one.id == name)
        rows = dict.fromkeys(
            address
            for part in claim.body.parts()
            for address in (
                *part.row_addresses(),
                *(cell.rpartition(".")[0] for cell in part.cell_addresses()),
            )
        )
        runs: dict[str, dict[str, Any]] = {}
        ledger: dict[str, dict[str, str]] = {}
        for address in rows:
            of, row = resolve_row(address, self.evidence)
            runs |= {run.id: self.run(run) for run in all_runs_of(of, row, self.evidence)}
            if not row.why_not(self.evidence.scale):
                ledger |= {entry["id"]: entry for entry in self._deviations(of, row.name)}
        return {
            "claim": name,
            "experiment": experiment.id,
            "scale": self.evidence.scale,
            "statement": claim.statement,
            "where": claim.where,
            "portability": claim.portability,
            "verdict": str(ours.verdict),
            "holds": ours.holds,
            "evidence": ours.detail,
            "rule": ours.rule,
            "flips": ours.flips,
            "note": claim.note,
            "on_paper": claim.on_paper,
            "reported": {"verdict": str(reported.verdict), "evidence": reported.detail},
            "cells": list(map(self._short_cell, dict.fromkeys(claim.body.cell_addresses()))),
            "rows": list(map(self._short_row, dict.fromkeys(claim.body.row_addresses()))),
            "runs": list(runs.values()),
            "deviations": list(ledger.values()),
        }

    def cell_verdicts(self, experiment: Experiment) -> Mapping[tuple[str, str], CellVerdict]:
        if experiment.id not in self._cells:
            self._cells[experiment.id] = judge_cells(experiment, self.evidence)
        return self._cells[experiment.id]

    def claim_verdicts(self, experiment: Experiment) -> list[ClaimVerdict]:
        if experiment.id not in self._claims:
            self._claims[experiment.id] = judge_ours(experiment, self.evidence)
        return self._claims[experiment.id]

    def run(self, run: Record, source: str = "") -> dict[str, Any]:
        """Where one number of a run comes from: its evaluation's code and host, or its training's.

        Args:
            source: the metric; empty where the run as a whole is meant.
        """
        folder = self._folders.get(run.id)
        made = run.evaluations.get(protocol_of(source))
        env = made.env if made else run.env
        published = f"results/published/{self.evidence.scale}/records.jsonl"
        return {
            "id": run.id,
            "seed": run.seed,
            "from": str(folder.path) if folder else published,
            "git_sha": env.git_sha,
            "dirty": env.dirty,
            "hardware": msgspec.to_builtins(env.hardware),
            "sentinel": run.sentinel.state,
            "wall_seconds": run.times.wall_seconds,
            "evaluation": made and made.request,
            "log": _last_line(folder.path / "log.txt") if folder else None,
        }

    @cached_property
    def _folders(self) -> dict[str, RunFolder]:
        return {folder.id: folder for folder in find_runs(results_dir() / "runs")}

    @cached_property
    def ledger(self) -> list[Deviation]:
        return read_ledger(experiments_dir())

    def _deviations(self, experiment: Experiment, row_name: str) -> list[dict[str, str]]:
        """The entries of the deviation ledger that concern any run of a row."""
        row = experiment.row(row_name)
        configs = {
            variant: config_of(experiment, row, self.evidence.scale, variant)
            for variant in experiment.runs_a_row
        }
        concerning = concerned(self.ledger, experiment.id, configs)
        return [{"id": entry.id, "what": str(entry)} for entry, _ in concerning]

    def _short_cell(self, address: str) -> dict[str, Any]:
        found = resolve(address, self.evidence)
        return {
            "cell": f"{found.experiment}:{found.row}:{found.metric}",
            "reported": found.reported,
            "mean": found.mean,
            "n": len(found.values),
            "missing": str(found.missing or ""),
        }

    def _short_row(self, address: str) -> dict[str, Any]:
        experiment, row = resolve_row(address, self.evidence)
        n = len(all_runs_of(experiment, row, self.evidence))
        missing = "" if n else str(row.why_not(self.evidence.scale) or NOT_RUN)
        return {"row": address, "n": n, "missing": missing}


def lines_of(found: Mapping[str, Any]) -> Iterable[str]:
    """An explanation for a terminal: a line a key, lists and differences a line an item."""
    for key, value in found.items():
        if isinstance(value, Mapping) and value:
            yield f"{key}:"
            yield from (f"  {name}: {_plain(item)}" for name, item in value.items())
        elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            yield f"{key}:"
            yield from (f"  {_plain(item)}" for item in value)
        else:
            yield f"{key}: {_plain(value)}"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _last_line(path: Path) -> str | None:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return None
    return lines[-1] if lines else None
