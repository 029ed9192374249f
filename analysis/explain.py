"""From a printed number, or a verdict on a claim, back to where it comes from: runs, config, code
version, hardware, log line, and what would have to be otherwise for another verdict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from analysis.evidence.evidence import Evidence
from analysis.evidence.rows import PAPER, MeasuredRow, once
from analysis.evidence.stats import mean_interval
from analysis.verdicts.cells import CellVerdict, column_spread, judge_cells
from analysis.verdicts.claims import ClaimVerdict, judge_ours, judge_reported
from analysis.verdicts.confounds import confounds
from repro.errors import UserError, nearest
from repro.harness.evaluation.names import protocol_of, tier_of
from repro.harness.experiments.address import Address
from repro.harness.experiments.claims import Claim
from repro.harness.experiments.experiment import Experiment, experiment_ids, own_ids
from repro.harness.experiments.folders import experiments_dir, results_dir
from repro.harness.experiments.ledger import Deviation, concerned, read_ledger
from repro.harness.experiments.missing import NOT_RUN
from repro.harness.experiments.paper import read_paper
from repro.harness.runs.records import Record
from repro.harness.runs.store import RunFolder, find_runs

CLAIM = "C."  # how the ids of claims begin


def explain(address: str, evidence: Evidence) -> dict[str, Any]:
    """Everything behind a cell (`T7:r2:knn`), a row (`T7:r2`) or a claim (`C.T7.4`).

    Raises:
        UserError: the address is none of them, or what it names does not exist.
    """
    if address.startswith(CLAIM):
        claim_named(address, evidence)
        return Explainer(evidence).claim(address)
    named = _address(address, evidence)
    return Explainer(evidence).cell(named) if named.metric else Explainer(evidence).row(named)


def asked_about(address: str) -> list[str]:
    """The experiment that a cell, a row or a claim is of.

    Raises:
        UserError: the address is none of them, or what it names does not exist.
    """
    evidence = Evidence(PAPER, {})
    if address.startswith(CLAIM):
        return [claim_named(address, evidence)[0].id]
    return [_address(address, evidence).experiment]


def _address(text: str, evidence: Evidence) -> Address:
    """A row or a cell, with colons or, as evidence is written, with dots. Names of rows may hold
    dots themselves (AD_m.m0.99): what comes after the last one is a metric where there is such a
    one, or such a row before it.
    """
    if text.count(":") == 1:
        return Address.of_row(text)
    experiment, dot, row = text.partition(".")
    if dot and ":" not in text:
        known = evidence.experiment(experiment)
        rows, before = [one.name for one in known.rows], row.rpartition(".")
        metrics = [metric.key for metric in known.metrics]
        if row in rows or not (before[0] in rows or (before[0] and before[2] in metrics)):
            return Address.of_row(text)
    try:
        return Address.of_cell(text)
    except UserError as error:
        raise UserError(f"{error} (or a row: T7:r2, or a claim: C.T7.1)") from None


def claim_named(name: str, evidence: Evidence) -> tuple[Experiment, Claim]:
    """Raises: UserError with the nearest id."""
    known: dict[str, tuple[Experiment, Claim]] = {}
    for ids in (experiment_ids(), own_ids()):
        for one in ids:
            experiment = evidence.experiment(one)
            known |= {claim.id: (experiment, claim) for claim in experiment.claims}
        if name in known:
            break
    else:
        raise UserError(
            f"no claim '{name}'; nearest: {nearest(name, list(known))} (repro check lists all)"
        )
    return known[name]


@dataclass(frozen=True)
class Explainer:
    """Answers about one body of evidence; verdicts, folders and the ledger are read once."""

    evidence: Evidence

    def cell(self, address: str | Address) -> dict[str, Any]:
        """Everything behind one cell.

        Returns:
            {cell, scale, reported, sources, mean, interval: [low, high] of 95 % or null, spread (of
            one or two seeds: whose it is), n, missing, difference, verdict, rule, flips, tier,
            clean, others, runs: [{id, seed, value, from, git_sha, dirty, hardware, sentinel,
            stopped_on, wall_seconds, log, evaluation}], config_difference: {key: {ours, paper}},
            deviations}.
            `tier` is official, clean or empty, `clean` the mean of the clean tier where the two
            differ, `evaluation` the request that gave the number, null for training's own.
        """
        if isinstance(address, str):
            address = Address.of_cell(address)
        row, key = self.evidence.row(address), address.metric
        experiment, column = row.experiment, row.experiment.metric(key)
        source, cell, clean = row.source(key), row.cell(key), row.clean_cell(key)
        values = list(cell.values.values())
        spread = column_spread(experiment, column, self.evidence)
        interval = mean_interval(values, spread=spread) if values else None
        bounds = [interval.low, interval.high] if interval else []
        verdict = self.cell_verdicts(experiment.id)[row.name, key]
        runs, paper = row.runs(column.variant), read_paper()
        distance = {} if row.missing else row.distance(column.variant)
        return {
            "cell": address.typed,
            "evidence": str(self.evidence),
            "scale": self.evidence.scale,
            "reported": cell.reported,
            "sources": [paper.sources.get(one, one) for one in row.row.source],
            "mean": interval.mean if interval else None,
            "interval": bounds if bounds and not any(map(math.isnan, bounds)) else None,
            "spread": interval.source if interval else "",
            "n": len(values),
            "missing": str(cell.missing or ""),
            "difference": interval.mean - cell.reported
            if interval and cell.reported is not None
            else None,
            "verdict": str(verdict.verdict),
            "rule": verdict.rule,
            "flips": verdict.flips,
            "tier": tier_of(source),
            "clean": clean.mean if clean else None,
            "others": [
                {"value": value, "what": anchor.what, "source": paper.sources[anchor.source]}
                for value, anchor in paper.anchors_of(str(address))
            ],
            "runs": [
                self.run(runs[seed], source) | {"value": value}
                for seed, value in cell.values.items()
            ],
            "config_difference": {k: {"ours": a, "paper": b} for k, (a, b) in distance.items()},
            "deviations": [] if row.missing else self._deviations(row),
        }

    def row(self, address: Address) -> dict[str, Any]:
        """A row: its cells, its runs, and the deviations that concern it.

        Returns:
            {row, evidence, scale, label, missing, cells: [{cell, reported, mean, n, missing,
            verdict}], runs, deviations}.
        """
        row = self.evidence.row(address)
        verdicts = self.cell_verdicts(row.experiment.id)
        keys = [metric.key for metric in row.experiment.metrics]
        return {
            "row": address.typed,
            "evidence": str(self.evidence),
            "scale": self.evidence.scale,
            "label": row.row.label,
            "missing": self._short_row(str(address))["missing"],
            "cells": [
                self._short_cell(f"{address}.{key}")
                | {"verdict": str(verdicts[row.name, key].verdict)}
                for key in keys
            ],
            "runs": [self.run(run) for run in row.all_runs],
            "deviations": [] if row.missing else self._deviations(row),
        }

    def claim(self, name: str) -> dict[str, Any]:
        """Everything behind the verdict on a claim.

        Returns:
            {claim, experiment, scale, statement, where, portability, verdict, holds, evidence,
            rule, flips, confounds: [{runs, key, values}], note, on_paper, reported: {verdict,
            evidence} (the same claim on the paper's own numbers), cells: [{cell, reported, mean, n,
            missing}], rows: [{row, n, missing}], runs, deviations}. `cells` and `rows` are what the
            claim rests on.
        """
        experiment, claim = claim_named(name, self.evidence)
        (ours,) = (one for one in self.claim_verdicts(experiment.id) if one.id == name)
        printed = judge_reported(experiment, Evidence(PAPER, {}))
        (reported,) = (one for one in printed if one.id == name)
        rows = dict.fromkeys(
            address
            for part in claim.body.parts()
            for address in (
                *part.row_addresses(),
                *(str(Address.of_cell(cell).of_its_row) for cell in part.cell_addresses()),
            )
        )
        runs: dict[str, dict[str, Any]] = {}
        ledger: dict[str, dict[str, str]] = {}
        for row in map(self.evidence.row, rows):
            runs |= {run.id: {"row": str(row.address)} | self.run(run) for run in row.all_runs}
            if not row.missing:
                ledger |= {entry["id"]: entry for entry in self._deviations(row)}
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
            "confounds": msgspec.to_builtins(confounds(claim, self.evidence)),
            "note": claim.note,
            "on_paper": claim.on_paper,
            "reported": {"verdict": str(reported.verdict), "evidence": reported.detail},
            "cells": list(map(self._short_cell, dict.fromkeys(claim.body.cell_addresses()))),
            "rows": list(map(self._short_row, dict.fromkeys(claim.body.row_addresses()))),
            "runs": list(runs.values()),
            "deviations": list(ledger.values()),
        }

    @once
    def cell_verdicts(self, experiment: str) -> Mapping[tuple[str, str], CellVerdict]:
        return judge_cells(self.evidence.experiment(experiment), self.evidence)

    @once
    def claim_verdicts(self, experiment: str) -> list[ClaimVerdict]:
        return judge_ours(self.evidence.experiment(experiment), self.evidence)

    def run(self, run: Record, source: str = "") -> dict[str, Any]:
        """Where one number of a run comes from: its evaluation's code and host, or its training's.

        Args:
            source: the metric; empty where the run as a whole is meant.
        """
        place = self.evidence.places.get(run.id, "")
        folder = self._folders.get(place)  # none for a published run, whatever was trained here
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
            "stopped_on": msgspec.to_builtins(run.stopped_on),
            "wall_seconds": run.times.wall_seconds,
            "evaluation": made and made.request,
            "log": _last_line(folder.path / "log.txt") if folder else None,
        }

    @cached_property
    def _folders(self) -> dict[str, RunFolder]:
        """By where they are."""
        return {str(folder.path): folder for folder in find_runs(results_dir() / "runs")}

    @cached_property
    def ledger(self) -> list[Deviation]:
        return read_ledger(experiments_dir())

    def _deviations(self, row: MeasuredRow) -> list[dict[str, str]]:
        """The entries of the deviation ledger that concern any run of a row."""
        configs = {variant: row.config(variant) for variant in row.experiment.runs_a_row}
        concerning = concerned(self.ledger, row.experiment.id, configs)
        return [
            {"id": entry.id, "what": str(entry), "at": ", ".join(entry.at), "effect": entry.effect}
            for entry, _ in concerning
        ]

    def _short_cell(self, address: str) -> dict[str, Any]:
        cell = self.evidence.cell(address)
        return {
            "cell": cell.address.typed,
            "reported": cell.reported,
            "mean": cell.mean,
            "n": len(cell.values),
            "missing": str(cell.missing or ""),
        }

    def _short_row(self, address: str) -> dict[str, Any]:
        row = self.evidence.row(address)
        n = len(row.all_runs)
        missing = "" if n else str(row.missing or NOT_RUN)
        return {"row": address, "n": n, "missing": missing}


def _last_line(path: Path) -> str | None:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return None
    return lines[-1] if lines else None
