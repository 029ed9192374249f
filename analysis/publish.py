"""results/published/<scale>/: records, and the tables and figures made from them alone.

`records.jsonl` and `evaluations.jsonl` are append-only, one line a run and one an evaluation of it,
their schema in results/published/SCHEMA.md. Whatever else lies in the folder is rebuilt from them:
the same records give the same bytes, with no run folder and no network. NOTES.md, written by
people, is left alone.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from analysis.evidence.evidence import (
    Evidence,
    load_evidence,
    published_dir,
    published_evidence,
)
from analysis.evidence.side_by_side import side_by_side
from analysis.evidence.sources import Source
from analysis.figures.draw import save, save_scorecard
from analysis.tables import formats
from analysis.tables.table import Printed, build
from analysis.verdicts.checklist import summary
from repro.errors import UserError
from repro.files import replace_text
from repro.harness.experiments.experiment import Experiment, experiment_ids
from repro.harness.experiments.folders import results_dir
from repro.harness.runs import seal
from repro.harness.runs.planned import OWN
from repro.harness.runs.records import (
    PublishedEvaluation,
    Record,
    as_line,
    evaluations_of,
    read_records,
    record,
)
from repro.harness.runs.store import find_runs
from repro.terminal import count

LINES = ("records.jsonl", "evaluations.jsonl")
TABLES = ("md", "csv", "tex")
ANOTHER_TRAINING = (
    "published already, from another training; neither this one nor its evaluations join it"
)
FIGURES = ("png", "svg")
Line = TypeVar("Line", Record, PublishedEvaluation)


@dataclass(frozen=True)
class Publication:
    """What `publish` did: the files written, and what it refused, each with the reason."""

    written: list[Path]
    refused: list[str]


def publish(ids: Sequence[str], scale: str) -> Publication:
    """Append finished runs of `ids` to the published records, then rebuild the scale's folder.

    Raises:
        UserError: smoke scale, or no finished run of these experiments.
    """
    appended = append(ids, scale)
    return Publication([*appended.written, *rebuild(scale)], appended.refused)


def append(ids: Sequence[str], scale: str) -> Publication:
    """Append finished runs of `ids` and their evaluations to the published records.

    Runs and evaluations made by uncommitted code are refused: nobody could make them again. Lines
    that are there are never changed.

    Raises:
        UserError: smoke scale, no finished run of these experiments, or published lines are lost.
    """
    if scale == "smoke":
        raise UserError("--scale smoke: smoke runs are never evidence and are not published")
    if own := [name for name in ids if name not in experiment_ids()]:
        raise UserError(
            f"{own[0]}: only the paper's tables and figures are published, not own ones"
        )
    results = results_dir()
    folder = results / "published" / scale
    begun = results.exists() and folder.parent in results.iterdir()
    # A first published folder holds one's own runs alone: not those that came with the program.
    evidence = load_evidence(scale, Source.all if begun else Source.own)
    finished = {
        run.id: run
        for experiment in map(evidence.experiment, ids)
        for row in evidence.rows(experiment)
        for run in row.all_runs
    }
    if not finished:
        faulty = [refusal for refusal in evidence.refused if not refusal.expected]
        why = f" ({len(faulty)} refused: {faulty[0]})" if faulty else ""
        raise UserError(
            f"no finished run of {', '.join(ids)} at scale {scale}{why}; "
            f"repro run {ids[0]} --scale {scale}"
        )
    in_order = sorted(finished.values(), key=lambda run: (run.slug, run.seed))
    ordered = [run.id for run in in_order]
    here = find_runs(results_dir() / "runs")
    folders = {one.id: one for one in here if one.told().experiment != OWN}
    folder.mkdir(parents=True, exist_ok=True)
    file, later = (folder / name for name in LINES)
    with _held(file):
        for one in (file, later):
            seal.check_end(one)
        for one in (file, later):
            _drop_torn_line(one)
        there = {run.id for run in read_records(file)}
        fresh = [record(folders[i]) for i in ordered if i not in there and i in folders]
        runs, refused = _clean(fresh, "its run")
        seal.append(file, [as_line(run) for run in runs])
        known = {**published_evidence(scale).records, **{run.id: run for run in runs}}
        lines = [
            line
            for identity in ordered
            # What another training was evaluated to says nothing of the published one.
            if identity in folders and identity in known and identity not in evidence.twice
            for line in evaluations_of(folders[identity])
            if not _is_published(line, known[identity])
        ]
        evaluations, dirty = _clean(lines, "its evaluation")
        seal.append(later, [as_line(one) for one in evaluations])
        twice = [f"{known[i].slug}: {ANOTHER_TRAINING}" for i in evidence.twice if i in known]
        return Publication([file, later], refused + dirty + twice)


@contextmanager
def _held(file: Path) -> Iterator[None]:
    """Hold a file, made if there is none, against others who publish; sealing it replaces it."""
    while True:
        with file.open("a") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            if file.exists() and os.fstat(guard.fileno()).st_ino == file.stat().st_ino:
                yield
                return


def _clean(lines: list[Line], what: str) -> tuple[list[Line], list[str]]:
    """The lines that may be published, and why the others may not."""
    dirty = [line for line in lines if not line.env.committed]
    why = [
        f"{line.slug}: {what} {line.name if isinstance(line, PublishedEvaluation) else ''}".rstrip()
        + " was made by code that was not committed; commit it and make the number again"
        for line in dirty
    ]
    return [line for line in lines if line.env.committed], why


def _drop_torn_line(path: Path) -> None:
    """Cut off what a full disk or a kill left of a last line: it never counted."""
    if not path.is_file():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)


def _is_published(evaluation: PublishedEvaluation, run: Record) -> bool:
    """Whether a run's published record has the numbers of this evaluation already."""
    return all(run.metrics.get(key) == value for key, value in evaluation.metrics.items())


def rebuild(scale: str) -> list[Path]:
    """Tables, figures and README.md of a scale from its published records alone."""
    return write_from_records(scale, results_dir() / "published" / scale)


def write_from_records(scale: str, folder: Path, figures: Sequence[str] = FIGURES) -> list[Path]:
    """The same, into any folder, with figures in these formats."""
    evidence = published_evidence(scale)
    written: list[Path] = []
    shown: list[tuple[Experiment, Printed]] = []
    alone: list[tuple[Experiment, Printed]] = []  # one row, of another one: no comparison
    for experiment in map(evidence.experiment, experiment_ids()):
        rows = [row for row in evidence.rows(experiment) if row.all_runs]
        if not rows:
            continue
        printed = build(experiment, evidence)
        own = any(run.slug.startswith(f"{experiment.id}-") for row in rows for run in row.all_runs)
        if not own and len(rows) < min(2, sum(row.trainable for row in experiment.rows)):
            alone.append((experiment, printed))
            continue
        shown.append((experiment, printed))
        for name in TABLES:
            path = folder / f"{experiment.id}.{name}"
            replace_text(path, formats.write(printed, name))
            written.append(path)
    if figures:
        drawn = [partial(save, experiment, evidence, figures, folder) for experiment, _ in shown]
        drawn.append(partial(save_scorecard, evidence, figures, folder))
        written += [path for paths in side_by_side(drawn) for path in paths]
    readme = folder / seal.PAGE
    replace_text(readme, _readme(shown, alone, evidence))
    return [*written, readme]


def _readme(
    shown: Sequence[tuple[Experiment, Printed]],
    alone: Sequence[tuple[Experiment, Printed]],
    evidence: Evidence,
) -> str:
    """Figure, table and verdicts of every experiment; notes and evidence stand in its own file."""
    claims = [claim for _, printed in (*shown, *alone) for claim in printed.claims]
    pilots = sum(refusal.expected for refusal in evidence.refused)
    left_out = f"; {count(pilots, 'pilot')} left out" if pilots else ""
    made = (
        f"Made from the {len(evidence.records)} runs in [records.jsonl](records.jsonl) "
        f"([schema](../SCHEMA.md){left_out}) by `repro publish`; nothing here is typed in by "
        "hand, which `repro verify` checks. "
        f"`repro report --scale {evidence.scale}` makes one page of it in which every number opens "
        "to its runs."
    )
    parts = [
        f"# Results at {evidence.scale} scale",
        made,
        summary(claims) + ".",
        "![Scorecard of all claims](scorecard.png)",
    ]
    folder = published_dir(evidence.scale)
    if ends := [end for file in LINES if (end := seal.end_of(folder / file))]:
        parts.insert(2, f"The last digests: {', '.join(ends)}.")
    if (folder / "NOTES.md").is_file():
        parts.insert(2, "How these runs were made, and what was tried: [NOTES.md](NOTES.md).")
    for experiment, printed in shown:
        parts.append(f"## {experiment.id}\n\n*{experiment.question}*")
        parts.append(f"![{experiment.title}]({experiment.id}.png)")
        parts.append(formats.markdown_body(printed))
        verdicts = [f"- **{c.id}: {c.verdict}.** {c.statement}" for c in printed.claims]
        parts.append("\n".join(verdicts))
        parts.append(f"[Notes and evidence]({experiment.id}.md)")
    if alone:
        parts.append("## One row so far, which another table has")
        parts.append("\n".join(f"- {one.id}: {one.title}" for one, _ in alone))
    return "\n\n".join(part for part in parts if part) + "\n"
