"""Records as `repro publish` writes them, by the thousand: every row that has been run, with all
seeds before the pilots', then the same at other learning rates, which no row asks for. They are
sealed and agree with themselves, so that reading them takes all checks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from analysis.evidence.believed import FIRST_PILOT
from analysis.evidence.evidence import Evidence, published_evidence
from repro.config.identity import canonical, run_ids
from repro.config.schema import RunConfig
from repro.harness.experiments.experiment import experiment_ids, load
from repro.harness.runs.records import Record, as_line
from repro.harness.runs.seal import sealed

SCALE = "laptop"


def write_records(results: Path, number: int) -> None:
    """`number` records in `results`/published/laptop/records.jsonl."""
    file = results / "published" / SCALE / "records.jsonl"
    file.parent.mkdir(parents=True)
    with file.open("w") as out:
        out.writelines(sealed(itertools.islice(_records(), number), ""))


def _records() -> Iterator[dict[str, Any]]:
    templates = [(config, as_line(run)) for config, run in _templates()]
    seeds = range(FIRST_PILOT)
    random = np.random.default_rng(0)
    for round_ in itertools.count():
        for config, line in templates:
            rate = config.optim.lr * (1 + round_ / 1000)
            other = replace(config, optim=replace(config.optim, lr=rate))
            plain = canonical(other)
            for seed, identity in zip(seeds, run_ids(other, seeds), strict=True):
                own = {"id": identity, "seed": seed, "config": plain | {"seed": seed}}
                yield line | own | _outcome(line, random)


def _outcome(line: dict[str, Any], random: np.random.Generator) -> dict[str, Any]:
    """Another loss and accuracy, in the metrics as in the curves."""
    metrics, curves, images = line["metrics"], line["curves"], line["counts"]["test_images"]
    noise = 1 + 0.01 * random.standard_normal()
    right = round(metrics["knn"] * images / 100) + int(random.integers(-20, 21))
    accuracy = 100 * min(right, images) / images
    evaluated = curves["eval"] | {"knn": [*curves["eval"]["knn"][:-1], accuracy]}
    losses = [loss * noise for loss in curves["loss"]]
    return {
        "metrics": metrics | {"knn": accuracy, "loss": metrics["loss"] * noise},
        "curves": curves | {"loss": losses, "eval": evaluated},
    }


def _templates() -> list[tuple[RunConfig, Record]]:
    """Every distinct config of a row that has been run with seed 0, and its record."""
    known = published_evidence(SCALE).records
    found = {}
    evidence = Evidence(SCALE, {})
    for experiment in map(load, experiment_ids()):
        for row in evidence.rows(experiment):
            if row.missing:
                continue
            for variant in experiment.runs_a_row:
                config = row.config(variant)
                (identity,) = run_ids(config, [0])
                if identity in known:
                    found[identity] = (config, known[identity])
    return list(found.values())
