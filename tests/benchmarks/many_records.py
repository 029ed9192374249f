"""Records as `repro publish` writes them, by the thousand: every row of every experiment with as
many seeds as it takes, in the published records' own shape and size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from analysis.evidence.evidence import Evidence, published
from repro.config.identity import canonical, run_ids
from repro.config.schema import RunConfig
from repro.harness.experiments.experiment import experiment_ids, load
from repro.harness.runs.records import Record, as_line

SCALE = "laptop"


def write_records(results: Path, number: int) -> None:
    """`number` records in `results`/published/laptop/records.jsonl."""
    templates = _templates()
    random = np.random.default_rng(0)
    file = results / "published" / SCALE / "records.jsonl"
    file.parent.mkdir(parents=True)
    seeds = range(-(-number // len(templates)))
    written = 0
    with file.open("w") as out:
        for config, template in templates:
            for seed, identity in zip(seeds, run_ids(config, seeds), strict=True):
                if written == number:
                    return
                noise = 1 + 0.01 * random.standard_normal()
                metrics = {k: v and v * noise for k, v in template.metrics.items()}
                own = {"id": identity, "seed": seed, "metrics": metrics}
                own["config"] = canonical(config) | {"seed": seed}
                out.write(json.dumps(as_line(template) | own) + "\n")
                written += 1


def _templates() -> list[tuple[RunConfig, Record]]:
    """Every distinct config of a row with the published record that looks most like it."""
    known = published(SCALE).records
    any_record = next(iter(known.values()))
    found = {}
    evidence = Evidence(SCALE, {})
    for experiment in map(load, experiment_ids()):
        for row in evidence.rows(experiment):
            if row.missing:
                continue
            for variant in experiment.runs_a_row:
                config = row.config(variant)
                identity = run_ids(config, [0])[0]
                found[identity] = (config, known.get(identity, any_record))
    return list(found.values())
