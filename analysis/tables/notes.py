"""What stands below a table: floors, spread, tiers, the paper's own caveats, what differs from its
protocol, which code made the numbers, and how to make them again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from analysis.evidence.evidence import Evidence
from analysis.evidence.rows import PAPER, MeasuredRow
from analysis.evidence.sources import WORDS
from analysis.evidence.words import code_of, plain
from analysis.verdicts.cells import column_spread
from repro.harness.experiments.address import Address
from repro.harness.experiments.experiment import Experiment, run_name
from repro.harness.experiments.folders import experiments_dir
from repro.harness.experiments.ledger import concerned, read_ledger
from repro.harness.experiments.paper import read_paper
from repro.harness.runs.records import Record
from repro.terminal import count

if TYPE_CHECKING:
    from repro.config.schema import RunConfig


def notes_of(experiment: Experiment, evidence: Evidence, borrowed: bool) -> list[str]:
    """Sentences, in the order of the page.

    Args:
        borrowed: whether an interval of the table has another spread than its row's own.
    """
    rows = evidence.rows(experiment)
    trained = [row for row in rows if not row.missing]
    runs = {run.id: run for row in rows for run in row.all_runs}
    name, scale = experiment.id, evidence.scale
    notes = []
    if runs:
        notes.append("Ours: mean ± half-width of its 95 % interval over seeds (number of seeds).")
        notes += _spreads(experiment, evidence) if borrowed else []
        notes += _difference(scale)
        notes += _floors(list(runs.values()))
        notes += _clean_tiers(experiment, evidence)
        notes += _early_ends(rows)
    notes += _of_the_paper(experiment)
    if scale != PAPER:
        notes.append(_deviations(experiment, trained))
    notes += _ledger(experiment, trained)
    if runs:
        notes.append(_provenance(list(runs.values()), evidence))
    notes.append(
        f"Again: repro run {name} --scale {scale} --seeds 3 trains what is missing; "
        f"repro table {name} --scale {scale} prints this from the records alone."
    )
    return notes


def _spreads(experiment: Experiment, evidence: Evidence) -> list[str]:
    sources = []
    for metric in experiment.metrics:
        few = (row.cell(metric.key).values for row in evidence.rows(experiment))
        spread = column_spread(experiment, metric, evidence)
        if spread and any(len(values) in (1, 2) for values in few):
            sources.append(f"{metric.title}: {spread.source}")
    return [f"† One or two seeds: their spread is that of the column. {'; '.join(sources)}."]


def _difference(scale: str) -> list[str]:
    if scale == PAPER:
        return ["Δ: ours minus the paper's."]
    why = "at this scale data and networks are others, so that it is shown, not judged"
    return [f"Δ: ours minus the paper's; {why}."]


def _floors(runs: list[Record]) -> list[str]:
    keys = ("knn_random", "knn_pixels")
    pairs = [[run.metrics.get(key) for key in keys] for run in runs]
    measured = [pair for pair in pairs if None not in pair]
    if not measured:
        return []
    random, pixels = np.mean(np.array(measured, dtype=float), axis=0)
    random_pixels = f"random initialisation {random:.1f} %, raw pixels {pixels:.1f} %"
    return [f"k-NN floors on this data: {random_pixels} (mean of {len(measured)} runs)."]


def _clean_tiers(experiment: Experiment, evidence: Evidence) -> list[str]:
    """What the official columns would read by the benchmarks' own definitions."""
    notes = []
    for metric in experiment.metrics:
        means = []
        for row in evidence.rows(experiment):
            clean = row.clean_cell(metric.key)
            if clean and clean.mean is not None:
                mean = f"{clean.mean:.{metric.decimals}f}"
                means.append(f"{row.row.label} {mean} ({len(clean.values)})")
        if means:
            notes.append(
                f"{metric.title}: official tier, as the authors' script evaluates; clean tier, the "
                f"benchmark's own definition (number of seeds): {', '.join(means)}."
            )
    return notes


def _early_ends(rows: Sequence[MeasuredRow]) -> list[str]:
    """Which numbers are of no whole training."""
    ended = []
    for row in rows:
        ends = {run.stopped_on for run in row.all_runs if run.stopped_on}
        if ends:
            shares = sorted(end.step / end.of for end in ends)
            span = " to ".join(dict.fromkeys(f"{share:.0%}" for share in (shares[0], shares[-1])))
            number = count(sum(run.stopped_on is not None for run in row.all_runs), "run")
            ended.append(f"{row.row.label} ({number}, at {span} of training)")
    if not ended:
        return []
    which = f"Stopped early, on collapse: {', '.join(ended)}."
    what = "claims on outputs rest on them, claims on accuracies, times and curves do not"
    return [f"{which} Their numbers are of that moment; {what}."]


def _of_the_paper(experiment: Experiment) -> list[str]:
    """How the reported numbers were read, where they disagree with others, and who else tried."""
    paper = read_paper()
    notes = []
    read = [m for m in experiment.metrics if m.reading_error]
    if read:
        errors = ", ".join(f"{m.title} ± {m.reading_error:g} {m.unit}" for m in read)
        notes.append(f"The paper's numbers are read off a figure: {errors}.")
    if experiment.source_note:
        notes.append(f"The paper's numbers: {experiment.source_note}.")
    notes += [f"{one.id} {one.what}. Here: {one.handling}." for one in paper.concerning(experiment)]
    for row in experiment.rows:
        for metric in experiment.metrics:
            for value, anchor in paper.anchors_of(
                str(Address(experiment.id, row.name, metric.key))
            ):
                beside = "".join(f", {key} {number:g}" for key, number in anchor.beside.items())
                what = f"{row.label}, {metric.title} {value:g}{beside}: {anchor.what}"
                notes.append(f"Others: {what} ({paper.sources[anchor.source]}).")
    return notes


def _deviations(experiment: Experiment, trained: Sequence[MeasuredRow]) -> str:
    """The config keys in which rows at this scale differ from the paper's rows, by section."""
    distances = [row.distance(variant) for row in trained for variant in experiment.runs_a_row]
    keys = dict.fromkeys(key for distance in distances for key in distance)
    groups: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        section, _, name = key.partition(".")
        pairs = [distance.get(key) for distance in distances]
        if all(pair == pairs[0] for pair in pairs) and pairs[0] is not None:
            ours, paper = (plain(value) for value in pairs[0])
            groups[section].append(f"{name} {ours} ({paper})")
        else:
            groups[section].append(f"{name} (in some rows)")
    listed = "; ".join(f"{section}: {', '.join(names)}" for section, names in groups.items())
    return f"Differs from the paper's protocol in {len(keys)} keys, ours (paper's): {listed}."


def _ledger(experiment: Experiment, trained: Sequence[MeasuredRow]) -> list[str]:
    """The entries of the deviation ledger that concern rows of this table at this scale.

    Those that are not about any experiment in particular and hold for all rows share a line.
    """
    configs = _configs(experiment, trained)
    everywhere, notes = [], []
    for entry, names in concerned(read_ledger(experiments_dir()), experiment.id, configs):
        if len(names) == len(configs) and not entry.experiments:
            everywhere.append(f"{entry.id} {entry.topic}")
        else:
            where = "all rows" if len(names) == len(configs) else ", ".join(names)
            notes.append(f"{entry.id} ({where}) {entry}.")
    if everywhere:
        listed = ", ".join(everywhere)
        notes.insert(0, f"Deviations of all rows (experiments/base/deviations.yaml): {listed}.")
    return notes


def places_of(experiment: Experiment, evidence: Evidence) -> list[str]:
    """Of the entries of the ledger that concern this table: where the authors' way stands, and what
    was measured of the difference."""
    trained = [row for row in evidence.rows(experiment) if not row.missing]
    concerning = concerned(
        read_ledger(experiments_dir()), experiment.id, _configs(experiment, trained)
    )
    places = [f"{e.id} {e.topic}: {e.measured}." for e, _ in concerning if e.measured]
    said = "Where the authors' way stands (experiments/base/deviations.yaml names the commit):"
    return [said, *places] if places else []


def _configs(experiment: Experiment, trained: Sequence[MeasuredRow]) -> Mapping[str, RunConfig]:
    return {
        run_name(row.row, variant): row.config(variant)
        for row in trained
        for variant in experiment.runs_a_row
    }


def _provenance(runs: list[Record], evidence: Evidence) -> str:
    versions = Counter(code_of(run.env) for run in runs)
    listed = ", ".join(f"{version} ({n})" for version, n in sorted(versions.items()))
    words = WORDS[evidence.source]
    return f"Made by {len(runs)} {words} of code version {listed}."
