"""results/published/<scale>/: records, and the tables and figures made from them alone.

`records.jsonl` and `evaluations.jsonl` are append-only, one line a run and one an evaluation of it,
their schema in results/published/SCHEMA.md. Whatever else lies in the folder is rebuilt from them:
the same records give the same bytes, with no run folder and no network. NOTES.md, written by
people, is left alone.
"""

from __future__ import annotations

import fcntl
import sys
from collections.abc import Sequence
from pathlib import Path

from analysis import formats
from analysis.figures import save
from analysis.frame import (
    Evidence,
    Record,
    all_runs_of,
    load_evidence,
    published_dir,
    published_records,
)
from analysis.tables import build
from repro.errors import UserError
from repro.harness.files import append_lines, replace_text
from repro.harness.records import evaluation_lines, record
from repro.harness.spec import Experiment, experiment_ids, results_dir
from repro.harness.store import find_runs

TABLES = ("md", "csv", "tex")
FIGURES = ("png", "svg")


def publish(ids: Sequence[str], scale: str) -> list[Path]:
    """Append finished runs of `ids` to the published records, then rebuild the scale's folder.

    Returns:
        The files written, records first.

    Raises:
        UserError: smoke scale, or no finished run of these experiments.
    """
    if scale == "smoke":
        raise UserError("--scale smoke: smoke runs are never evidence and are not published")
    folder = published_dir(scale)
    evidence = load_evidence(scale)
    wanted = {
        run["id"]: run
        for experiment in map(evidence.experiment, ids)
        for row in experiment.rows
        for run in all_runs_of(experiment, row, evidence)
    }
    if not wanted:
        raise UserError(
            f"no finished run of {', '.join(ids)} at scale {scale}; "
            f"repro run {ids[0]} --scale {scale}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "records.jsonl"
    with file.open("a") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        there = published_records(scale)
        runs = {folder.id: folder for folder in find_runs(results_dir() / "runs")}
        fresh = sorted(
            (identity for identity in wanted if identity not in there),
            key=lambda identity: (wanted[identity]["slug"], wanted[identity]["seed"]),
        )
        append_lines(file, [record(runs[identity]) for identity in fresh])
        later = [
            line
            for identity in sorted(wanted, key=lambda i: (wanted[i]["slug"], wanted[i]["seed"]))
            if identity in runs
            for line in evaluation_lines(runs[identity])
            if not _is_published(line, there.get(identity))
        ]
        dirty = [line for line in later if line["env"]["dirty"]]
        for line in dirty:
            print(f"not published, made by uncommitted code: {line['name']} of {line['slug']}")
        append_lines(folder / "evaluations.jsonl", [line for line in later if line not in dirty])
        return [file, *rebuild(scale)]


def _is_published(line: Record, record: Record | None) -> bool:
    """Whether a run's published record has the numbers of this evaluation already."""
    if record is None:
        return False
    return all(record["metrics"].get(key) == value for key, value in line["metrics"].items())


def rebuild(scale: str) -> list[Path]:
    """Tables, figures and README.md of a scale from its published records alone."""
    evidence = load_evidence(scale, published_only=True)
    folder = published_dir(scale)
    written: list[Path] = []
    shown: list[Experiment] = []
    for experiment in map(evidence.experiment, experiment_ids()):
        if not any(all_runs_of(experiment, row, evidence) for row in experiment.rows):
            continue
        shown.append(experiment)
        printed = build(experiment, evidence)
        for name in TABLES:
            path = folder / f"{experiment.id}.{name}"
            replace_text(path, formats.write(printed, name))
            written.append(path)
        written += save(experiment, evidence, FIGURES, folder)
    readme = folder / "README.md"
    replace_text(readme, _readme(shown, evidence))
    return [*written, readme]


def _readme(experiments: Sequence[Experiment], evidence: Evidence) -> str:
    made = (
        f"Made from the {len(evidence.records)} runs in [records.jsonl](records.jsonl) "
        "([schema](../SCHEMA.md)) by `repro publish`; nothing here is typed in by hand."
    )
    parts = [f"# Results at {evidence.scale} scale", made]
    if (published_dir(evidence.scale) / "NOTES.md").is_file():
        parts.append("How these runs were made, and what was tried: [NOTES.md](NOTES.md).")
    for experiment in experiments:
        parts.append(f"## {experiment.id}\n\n*{experiment.question}*")
        parts.append(f"![{experiment.title}]({experiment.id}.png)")
        parts.append(formats.markdown(build(experiment, evidence)).rstrip("\n"))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    from repro.cli import main

    sys.exit(main(["publish", *sys.argv[1:]]))
