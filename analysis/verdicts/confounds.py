"""What else differs: settings in which the rows that a claim compares are unlike, beside those that
it is about (`about` in its experiment file), e.g. a temperature that came with a method.

Found in the composed configs of a scale, so nothing that a row brings along goes unsaid. What is no
part of a run's identity (machine, paths, seed) is no difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, product
from operator import attrgetter
from typing import Any

from analysis.evidence.distance import protocol_distance
from analysis.evidence.evidence import Evidence
from analysis.evidence.rows import MeasuredRow
from analysis.evidence.words import plain
from repro.config.identity import canonical
from repro.config.schema import Part, RunConfig
from repro.harness.experiments.about import concerns
from repro.harness.experiments.address import Address
from repro.harness.experiments.claims import Claim, ClaimBody, OfRows, SmallerGap
from repro.harness.experiments.experiment import run_name
from repro.terminal import count

# Metrics of a network that training does not change, and the sections that do.
UNTRAINED = (
    "knn_random", "jaccard_random", "scratch", "images_per_second", "im_s", "params_M", "tokens",
)  # fmt: skip
OF_NETWORKS = ("data", "model")


@dataclass(frozen=True)
class Confound:
    """A key of the config that two compared runs have otherwise, though no claim is made of it.

    `runs` are addresses of their rows, with the variant where it is not the same.
    """

    runs: tuple[str, str]
    key: str
    values: tuple[Any, Any]


@dataclass(frozen=True)
class _Compared:
    """One side of a comparison: a variant of a row; `trained` unless the network as such counts."""

    row: MeasuredRow
    variant: str
    trained: bool

    def name(self, with_variant: bool) -> str:
        variant = self.variant if with_variant else ""
        return str(Address(self.row.experiment.id, run_name(self.row.row, variant)))


def confounds(claim: Claim, evidence: Evidence) -> tuple[Confound, ...]:
    """Of every comparison of a claim, at the scale of the evidence; none where a row has no run."""
    pairs: dict[frozenset[_Compared], tuple[_Compared, _Compared]] = {}
    for pair in _comparisons(claim.body, evidence):
        pairs.setdefault(frozenset(pair), pair)
    return tuple(
        confound
        for first, second in pairs.values()
        for confound in _differences(first, second)
        if not concerns(claim.about, confound.key)
    )


def _differences(first: _Compared, second: _Compared) -> Iterator[Confound]:
    """All settings in which two runs differ that can tell their numbers apart."""
    if first.row.missing or second.row.missing:
        return
    ours, theirs = first.row.config(first.variant), second.row.config(second.variant)
    with_variant = first.variant != second.variant
    names = first.name(with_variant), second.name(with_variant)
    for key in protocol_distance(canonical(ours), canonical(theirs)):
        section, _, name = key.partition(".")
        if section not in OF_NETWORKS and not (first.trained and second.trained):
            continue
        if name != "used" and not (_used(ours, section) and _used(theirs, section)):
            continue  # a predictor that one of them lacks is one difference
        yield Confound(names, key, (_value(ours, key), _value(theirs, key)))


def sentences(found: Sequence[Confound]) -> list[str]:
    """Such as "T7.r3 and T7.r9 also differ in target.temp (0.04, 0.05)": those alike in one."""
    alike: dict[str, dict[str, list[str]]] = {}
    for (first, second), group in groupby(found, key=attrgetter("runs")):
        what = _listed([f"{one.key} ({', '.join(map(plain, one.values))})" for one in group])
        alike.setdefault(what, {}).setdefault(first, []).append(second)
    return [f"{_runs_that_differ(others)} {what}" for what, others in alike.items()]


def _runs_that_differ(others: Mapping[str, Sequence[str]]) -> str:
    """Which runs differ from which `others`, as a sentence begins; of many pairs the first."""
    firsts, (seconds, *more) = list(others), others.values()
    if any(names != seconds for names in more):
        further = count(sum(map(len, others.values())) - 1, "further pair")
        return f"{firsts[0]} and {seconds[0]}, and {further}, also differ in"
    if len(firsts) == len(seconds) == 1:
        return f"{firsts[0]} and {seconds[0]} also differ in"
    verb = "differ" if len(firsts) > 1 else "differs"
    return f"{_listed(firsts)} also {verb} from {_listed(seconds)} in"


def _comparisons(body: ClaimBody, evidence: Evidence) -> Iterator[tuple[_Compared, _Compared]]:
    """The first cell of each part against its others; rows of which each is judged alone, none."""
    for part in body.parts():
        if isinstance(part, SmallerGap):
            ours, others = (
                _runs([f"{row}.{key}" for row in rows for key in (part.high, part.low)], evidence)
                for rows in (part.rows, part.than)
            )
            yield from product(ours, others)
        elif not isinstance(part, OfRows):
            first, *others = _runs(part.cell_addresses(), evidence)
            yield from ((first, other) for other in others)


def _runs(cells: Sequence[str], evidence: Evidence) -> list[_Compared]:
    """What stands behind some cells, each run once."""
    runs = {}
    for cell in cells:
        row, column = evidence.row(Address.of_cell(cell).of_its_row), evidence.metric(cell)
        for key in column.difference or (column.key,):
            trained = row.source(key).partition("@")[0].removesuffix("_clean") not in UNTRAINED
            variant = row.experiment.metric(key).variant
            runs[row.address, variant, trained] = _Compared(row, variant, trained)
    return list(runs.values())


def _used(config: RunConfig, section: str) -> bool:
    part = getattr(config, section)
    return not isinstance(part, Part) or part.used


def _value(config: RunConfig, key: str) -> Any:
    return attrgetter(key)(config)


def _listed(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
