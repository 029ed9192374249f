"""Records in the published format, made from the real configs of the real experiment files."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from analysis.evidence.distance import Distance
from analysis.evidence.evidence import Evidence
from analysis.evidence.rows import Cell, MeasuredRow
from repro.config.identity import SCHEMA, canonical, run_id
from repro.config.schema import RunConfig
from repro.harness.experiments.experiment import Experiment, Row
from repro.harness.experiments.folders import experiments_dir
from repro.harness.runs import records

Record = dict[str, Any]
HEALTHY = {"entropy": 1.9, "kl": 0.5, "mean_entropy": 3.5}


def make_record(
    address: str,
    seed: int,
    scale: str = "laptop",
    curves: Record | None = None,
    variant: str = "",
    **metrics: Any,
) -> Record:
    """The record of row `address` (e.g. "T7.r1"): a healthy run, but for what `metrics` says.

    A metric of None is left out.
    """
    row = _unmeasured(scale, experiments_dir()).row(address)
    config = replace(row.config(variant), seed=seed)
    log_K = math.log(config.head.prototypes)
    epochs = [config.train.epochs * (i + 1) / 20 for i in range(20)]
    last, every = config.train.epochs, config.eval.every_epochs
    points = [0.0, *(float(epoch) for epoch in range(every, last, every)), float(last)]
    default_metrics = {
        **HEALTHY,
        "entropy": min(HEALTHY["entropy"], 0.6 * log_K),
        "mean_entropy": min(HEALTHY["mean_entropy"], 0.9 * log_K),
        "knn": 75.0 + seed / 10,
        "student_knn": 74.0 + seed / 10,
        "knn_random": 60.0,
        "knn_pixels": 39.0,
        "decomposition_error": 1e-7,
        "log_K": log_K,
        "im_s": 5000.0,
    }
    ends = {k: metrics.get(k) or default_metrics[k] for k in ("knn", "student_knn", "knn_random")}
    begin = ends.pop("knn_random")
    default_curves = {
        "epoch": epochs,
        "entropy": [max(1.9, (0.98 - 0.08 * i) * log_K) for i in range(20)],
        "kl": [0.1 + 0.08 * min(i, 20 - i) for i in range(20)],
        "loss": [4.0 - 0.1 * i - 0.001 * seed for i in range(20)],
        "eval": {
            "epoch": points,
            **{
                k: [*(begin + (end - begin) * epoch / last for epoch in points[:-1]), end]
                for k, end in ends.items()
            },
        },
    }
    return {
        "schema": SCHEMA,
        "id": run_id(config),
        "slug": f"{row.experiment.id}-{row.name}-{scale}-s{seed}",
        "scale": scale,
        "seed": seed,
        "config": canonical(config),
        "metrics": {k: v for k, v in (default_metrics | metrics).items() if v is not None},
        "sentinel": {"state": "healthy", "since_step": 1, "meaning": "as it should be"},
        "counts": {"images_seen": 40960},
        "curves": default_curves | (curves or {}),
        "env": {"git_sha": "0123456789abcdef", "dirty": False},
        "times": {"wall_seconds": 60.0 + 3600 * (metrics.get("time_h") or 0)},
    }


def typed(content: Record) -> records.Record:
    """A record as it is read from its line."""
    return msgspec.json.decode(json.dumps(content), type=records.Record)


@cache
def _unmeasured(scale: str, experiments: Path) -> Evidence:
    """Composes every config once; `experiments` is where the files lie."""
    return Evidence(scale, {})


@dataclass(frozen=True, eq=False)
class MadeUpRow(MeasuredRow):
    """A row whose columns have these values, by seed; its runs are the same one for every seed."""

    values: Mapping[str, Mapping[int, float]]
    run: records.Record
    unmeasured: MeasuredRow  # whose configs serve all rows of made-up numbers

    def config(self, variant: str = "") -> RunConfig:
        return self.unmeasured.config(variant)

    def distance(self, variant: str = "") -> Distance:
        return self.unmeasured.distance(variant)

    def runs(self, variant: str = "") -> Mapping[int, records.Record]:
        return dict.fromkeys(next(iter(self.values.values()), {}), self.run)

    def cell(self, key: str) -> Cell:
        values, reported = self.values[key], self.row.reported.get(key)
        ids = dict.fromkeys(values, self.run.id)
        return Cell(replace(self.address, metric=key), reported, values, ids, self.missing)


@dataclass(frozen=True, eq=False)
class MadeUpEvidence(Evidence):
    """Evidence of made-up numbers: by experiment and row a value a column and seed."""

    files: Mapping[str, Experiment]
    values: Mapping[tuple[str, str], Mapping[str, Mapping[int, float]]]

    def experiment(self, name: str) -> Experiment:
        return self.files[name]

    def of(self, experiment: Experiment, row: Row) -> MeasuredRow:
        (run,) = self.records.values()
        values = self.values[experiment.id, row.name]
        unmeasured = _unmeasured(self.scale, experiment.path.parent).of(experiment, row)
        return MadeUpRow(
            experiment, row, self.scale, self.records, self.seeds, values, run, unmeasured
        )


@cache
def _any_run() -> records.Record:
    return typed(make_record("T7.r1", 0))


def made_up(
    scale: str,
    experiments: Sequence[Experiment],
    values: Mapping[tuple[str, str], Mapping[str, Mapping[int, float]]],
) -> Evidence:
    """Evidence whose cells have these values, without runs that have been made."""
    return MadeUpEvidence(scale, {"any": _any_run()}, {one.id: one for one in experiments}, values)


@pytest.fixture
def make() -> Callable[..., Record]:
    return make_record


@pytest.fixture
def evidence_of() -> Callable[..., Evidence]:
    """evidence_of(records, scale="laptop") -> Evidence."""

    def build(records: list[Record], scale: str = "laptop") -> Evidence:
        return Evidence(scale, {r["id"]: typed(r) for r in records})

    return build


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty results folder that the analysis reads instead of the repository's."""
    monkeypatch.setenv("REPRO_RESULTS", str(tmp_path))
    (tmp_path / "published").mkdir()  # the repository's records are not read
    return tmp_path


@pytest.fixture
def published(results: Path) -> Callable[..., Path]:
    """published(records, scale="laptop") writes records.jsonl and returns its folder."""

    def write(records: list[Record], scale: str = "laptop") -> Path:
        folder = results / "published" / scale
        folder.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(record, sort_keys=True) + "\n" for record in records]
        (folder / "records.jsonl").write_text("".join(lines))
        return folder

    return write
