"""Published runs trained again here: does this machine get the published numbers?

A repetition has the config and the seed of the published run, hence its id. It is

| outcome   | when                                                                               |
| --------- | ---------------------------------------------------------------------------------- |
| identical | all metrics and curves are equal, but for the machine's speed and memory           |
| within    | no column of its tables differs by more than two runs of a row do                  |
| different | one does                                                                           |

Other code, kernels, threads or hardware round otherwise, and training amplifies that until the
repetition is as far from the published run as another seed would be. So two runs of a row differ
by d = t s sqrt(2), with the column's spread s over the seeds of its healthy rows, or of the
row itself if it is not healthy, at 95 % over all columns and runs that are compared (Bonferroni).
A column whose spread is unknown is not judged.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from scipy.stats import t as t_distribution

from analysis.evidence.evidence import Evidence
from analysis.evidence.rows import MeasuredRow
from analysis.evidence.sources import same_training
from analysis.evidence.stats import Spread, pooled
from analysis.verdicts.cells import column_spread
from repro.config.identity import SCHEMA
from repro.harness.experiments.experiment import Metric
from repro.harness.runs.environment import Environment
from repro.harness.runs.published import Candidate, Refusal
from repro.harness.runs.records import Agreement, Metrics, Record, Replication
from repro.terminal import count

LEVEL = 0.05
OF_THE_MACHINE = {"im_s", "time_h", "mem_G", "images_per_second"}  # speed and memory
VERSIONS = ("torch", "torchvision", "timm", "numpy", "python")


@dataclass(frozen=True)
class Difference:
    """A column of a table in both runs, and how far apart two runs of its row are."""

    metric: str
    published: float
    own: float
    allowed: float | None  # None: nothing is known of the spread

    @property
    def within(self) -> bool:
        return self.allowed is None or abs(self.own - self.published) <= self.allowed


@dataclass(frozen=True)
class Repetition:
    """A published run and what came of it here; `own` is None where it has not been run."""

    published: Record
    own: Record | None
    agreement: Agreement
    differences: Sequence[Difference] = ()
    parted: float | None = None  # epoch
    causes: Sequence[str] = ()

    def as_line(self) -> Replication:
        assert self.own is not None, f"{self.published.slug} has not been repeated"
        return Replication(
            schema=SCHEMA,
            run=self.published.id,
            slug=self.published.slug,
            agreement=self.agreement,
            metrics=self.own.metrics,
            allowed={d.metric: d.allowed for d in self.differences if d.allowed is not None},
            parted=self.parted,
            causes=list(self.causes),
            env=self.own.env,
            started=self.own.times.started,
        )


def compare(
    rows: Sequence[MeasuredRow],
    seeds: Sequence[int],
    own: Mapping[str, Record],
    published: Evidence,
) -> list[Repetition]:
    """Every published run of some rows and seeds with the own run of its id.

    Args:
        rows: of the published evidence.
        own: own records by id.
    """
    columns: dict[str, list[tuple[str, Spread | None]]] = {}
    runs: dict[str, Record] = {}
    for row in rows:
        for metric in row.experiment.metrics:
            if metric.difference or row.source(metric.key) in OF_THE_MACHINE:
                continue
            for seed, run in row.runs(metric.variant).items():
                if seed in seeds:
                    runs[run.id] = run
                    spread = _spread(row, metric, run, published)
                    columns.setdefault(run.id, []).append((row.source(metric.key), spread))
        runs |= {run.id: run for run in row.all_runs if run.seed in seeds}
    known = sum(spread is not None for its in columns.values() for _, spread in its)
    return [
        _repetition(run, own.get(identity), columns.get(identity, []), max(1, known))
        for identity, run in runs.items()
    ]


def _spread(row: MeasuredRow, metric: Metric, run: Record, published: Evidence) -> Spread | None:
    if run.sentinel.healthy:
        return column_spread(row.experiment, metric, published)
    return pooled([list(row.cell(metric.key).values.values())])


def _repetition(
    published: Record, own: Record | None, columns: Iterable[tuple[str, Spread | None]], tests: int
) -> Repetition:
    if own is None:
        return Repetition(published, None, Agreement.not_run)
    if same_training(own, published):
        return Repetition(published, own, Agreement.itself)
    differences = {}
    for name, spread in columns:
        theirs, ours = published.metrics.get(name), own.metrics.get(name)
        if theirs is not None and ours is not None:
            differences[name] = Difference(name, theirs, ours, _allowed(spread, tests))
    parted = first_difference(published, own)
    same = parted is None and _same_metrics(published.metrics, own.metrics)
    agreement = _judged(same, all(difference.within for difference in differences.values()))
    causes = () if agreement is Agreement.identical else causes_of(published.env, own.env)
    return Repetition(published, own, agreement, list(differences.values()), parted, list(causes))


def contradicted(
    lines: Iterable[Candidate[Replication]], runs: Mapping[str, Record]
) -> Iterator[Refusal]:
    """Published replications that cannot be true, each with the reason.

    Args:
        runs: published ones that are believed, by id.
    """
    told: dict[tuple[str, float], str] = {}
    for one in lines:
        line = one.line
        earlier = (
            told.setdefault((line.run, line.started), one.where) if line.started else one.where
        )
        again = f"told before, in {earlier}" if earlier != one.where else ""
        if why := again or next(_against_run(line, runs.get(line.run)), ""):
            yield Refusal(one.where, line.run, why)


def _against_run(line: Replication, run: Record | None) -> Iterator[str]:
    """What it was allowed to differ by is of the evidence of its day, and taken from the line."""
    if run is None:
        yield "its run is not there, or refused"
        return
    if line.slug != run.slug:
        yield f"its run is {run.slug}, not {line.slug}"
    if line.started is not None and line.started == run.times.started:
        yield "it is the published training itself"
    if not line.env.committed:
        yield "it was made by code that was not committed"
    same = line.parted is None and _same_metrics(run.metrics, line.metrics)
    found = _judged(same, all(one.within for one in _told(line, run)))
    if line.agreement is not found:
        yield f"it says {line.agreement}, its numbers are {found}"


def _told(line: Replication, run: Record) -> Iterator[Difference]:
    for name, allowed in line.allowed.items():
        theirs, ours = run.metrics.get(name), line.metrics.get(name)
        if theirs is not None and ours is not None:
            yield Difference(name, theirs, ours, allowed)


def _judged(same: bool, within: bool) -> Agreement:
    if same:
        return Agreement.identical
    return Agreement.within if within else Agreement.different


def _allowed(spread: Spread | None, tests: int) -> float | None:
    if spread is None:
        return None
    quantile = float(t_distribution.ppf(1 - LEVEL / (2 * tests), spread.df))
    return quantile * spread.sd * math.sqrt(2)


def _same_metrics(published: Metrics, own: Metrics) -> bool:
    """Those that both have; an evaluation may be missing on one side."""
    both = (published.keys() & own.keys()) - OF_THE_MACHINE
    return all(published[name] == own[name] for name in both)


def first_difference(published: Record, own: Record) -> float | None:
    """The epoch at which the curves first have other values; None where they never do."""
    first = math.inf
    one, other = published.curves, own.curves
    for theirs, ours in ((one.steps, other.steps), (one.evaluations, other.evaluations)):
        epochs = theirs.get("epoch", ())
        for name in (theirs.keys() & ours.keys()) - OF_THE_MACHINE:
            pairs = zip(epochs, theirs[name], ours[name], strict=False)
            apart = [e for e, a, b in pairs if a != b and e is not None]
            first = min([first, *map(float, apart)])
            if len(theirs[name]) != len(ours[name]):
                first = min(first, float(epochs[min(len(theirs[name]), len(ours[name])) - 1] or 0))
    return first if math.isfinite(first) else None


def causes_of(published: Environment, own: Environment) -> Iterable[str]:
    """What was otherwise and may be why, as both runs noted it; always something."""
    found = list(_what_differs(published, own))
    return found or ["nothing that is recorded differs"]


def _what_differs(published: Environment, own: Environment) -> Iterator[str]:
    if own.dirty or published.dirty or own.git_sha != published.git_sha:
        changed = " with uncommitted changes" if own.dirty else ""
        yield f"code {_short(published.git_sha)}, here {_short(own.git_sha)}{changed}"
    if published.data is None or own.data is None:
        if published.data != own.data:
            yield f"data, not recorded {'then' if published.data is None else 'here'}"
    else:
        for name in ("train", "test"):
            a, b = getattr(published.data, name), getattr(own.data, name)
            if a != b:
                yield f"{name} images {a}, here {b}"
    theirs, ours = published.hardware, own.hardware
    if theirs is not None and ours is not None:
        for name in ("cpu", "gpu", "threads", "ranks"):
            a, b = getattr(theirs, name), getattr(ours, name)
            if a != b:
                yield f"{name} {'none' if a is None else a}, here {'none' if b is None else b}"
    for name in VERSIONS:
        a, b = getattr(published, name), getattr(own, name)
        if a != b:
            yield f"{name} {a}, here {b}"
    if published.kernels != own.kernels:
        kernels = published.kernels or {}
        keys = sorted(kernels.keys() | (own.kernels or {}).keys())
        named = [k for k in keys if kernels.get(k) != (own.kernels or {}).get(k)]
        yield f"kernels ({', '.join(named)})" if published.kernels else "kernels, not recorded then"


def _short(sha: str | None) -> str:
    return (sha or "unknown")[:10]


def sentence(repetitions: Sequence[Repetition]) -> str:
    """What came of all of them, in one line."""
    words = {
        Agreement.identical: "identical to the published ones",
        Agreement.within: "within what two runs of a row differ by",
        Agreement.different: "different",
        Agreement.itself: "the published ones themselves",
        Agreement.not_run: "not run here",
    }
    counts = Counter(repetition.agreement for repetition in repetitions)
    listed = ", ".join(f"{counts[a]} {text}" for a, text in words.items() if counts[a])
    return f"{count(len(repetitions), 'run')}: {listed}"


def as_json(repetition: Repetition) -> dict[str, object]:
    """For --json."""
    return {
        "id": repetition.published.id,
        "slug": repetition.published.slug,
        "agreement": str(repetition.agreement),
        "parted": repetition.parted,
        "causes": list(repetition.causes),
        "metrics": [msgspec.to_builtins(vars(d)) for d in repetition.differences],
    }
