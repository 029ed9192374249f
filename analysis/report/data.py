"""What the report shows, collected from one body of evidence: sections, counts, cost, provenance.

`analysis/report/cells.py` makes what opens behind a cell, `analysis/report/page.py` the page.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain

from analysis.evidence.evidence import Evidence
from analysis.evidence.rows import PAPER
from analysis.evidence.words import code_of, hardware_of
from analysis.figures.scorecard import MARKS, OVERCLAIM, Mark, kind_of
from analysis.tables.formats import described, groups, spans
from analysis.tables.table import Line, Printed, build
from analysis.verdicts.claims import ClaimVerdict, judge_reported
from analysis.verdicts.confounds import sentences
from repro.errors import UserError
from repro.harness.experiments.claims import Claim
from repro.harness.experiments.experiment import Experiment, experiment_ids, own_ids
from repro.harness.experiments.paper import Anchor, Inconsistency, read_paper
from repro.harness.runs.environment import Environment
from repro.harness.runs.records import Record

PARTS = {"T": "Tables", "F": "Figures", "A": "Appendix"}  # by the first letter of an id
PACKAGES = ("python", "torch", "torchvision", "timm", "numpy")


@dataclass(frozen=True)
class ShownClaim:
    """A verdict with its sign; `printed` is the verdict on the paper's own numbers.

    `cells` and `rows` are what it rests on: of a cell also whether there is a number behind it, of
    a row also the first of its cells that has one.
    """

    verdict: ClaimVerdict
    kind: str
    printed: ClaimVerdict
    cells: list[tuple[str, bool]]
    rows: list[tuple[str, str]]

    @property
    def mark(self) -> Mark:
        return MARKS[self.kind]

    @property
    def number(self) -> str:
        """The claim's own, 6b of C.T7.6b."""
        return self.verdict.id.rpartition(".")[2]

    @property
    def beside(self) -> str:
        """In what else the compared rows differ."""
        return "; ".join(sentences(self.verdict.confounds))

    @property
    def overclaim(self) -> bool:
        return self.verdict.on_paper == OVERCLAIM


@dataclass(frozen=True)
class Cost:
    """What runs have cost and which code and machine made them; in the order of the page."""

    runs: int
    seeds: list[int]
    hours: float
    images: int
    hardware: list[str]
    code: list[str]
    packages: list[str]
    days: str


@dataclass(frozen=True)
class Section:
    """One experiment of the page."""

    experiment: Experiment
    printed: Printed
    claims: list[ShownClaim]
    cost: Cost
    sources: list[str]
    inconsistencies: list[Inconsistency]
    own: bool = False  # somebody's, not the paper's

    @property
    def anchor(self) -> str:
        """Its place on the page, where an experiment of one's own may be called as a part of it."""
        return f"own-{self.experiment.id}" if self.own else self.experiment.id

    @property
    def part(self) -> str:
        return PARTS[self.experiment.id[0]]  # of the paper's

    @property
    def spans(self) -> list[tuple[str, int]]:
        return spans(self.printed.headings)

    @property
    def groups(self) -> list[tuple[str, list[Line]]]:
        return groups(self.printed.lines)

    @property
    def described(self) -> int:
        """How many columns come before the numbers."""
        return described(self.printed)

    @property
    def counts(self) -> dict[str, int]:
        return count(self.claims)


def sections_of(evidence: Evidence) -> list[Section]:
    """All experiments: tables before figures before appendices, Table 2 before Table 10."""
    names = sorted(experiment_ids(), key=_page_order)
    return [_section(evidence.experiment(name), evidence) for name in names]


def own_sections_of(evidence: Evidence) -> list[Section]:
    """People's own experiments that have runs among the evidence, apart from the paper's: a page
    that cannot be read is not theirs to stop.
    """
    found = []
    for name in own_ids():
        with suppress(UserError):
            experiment = evidence.experiment(name)
            if any(row.all_runs for row in evidence.rows(experiment)):
                found.append(replace(_section(experiment, evidence), own=True))
    return found


def _section(experiment: Experiment, evidence: Evidence) -> Section:
    paper = read_paper()
    runs = unique(chain(*(row.all_runs for row in evidence.rows(experiment))))
    printed = build(experiment, evidence)
    on_paper = judge_reported(experiment, Evidence(PAPER, {}))
    shown = zip(experiment.claims, printed.claims, on_paper, strict=True)
    return Section(
        experiment=experiment,
        printed=printed,
        claims=[_shown(claim, ours, theirs, evidence) for claim, ours, theirs in shown],
        cost=cost_of(runs),
        sources=[paper.sources.get(name, name) for name in experiment.source],
        inconsistencies=paper.concerning(experiment),
    )


def _shown(
    claim: Claim, ours: ClaimVerdict, printed: ClaimVerdict, evidence: Evidence
) -> ShownClaim:
    cells = [evidence.cell(address) for address in dict.fromkeys(claim.body.cell_addresses())]
    return ShownClaim(
        verdict=ours,
        kind=kind_of(ours),
        printed=printed,
        cells=[(cell.address.typed, bool(cell.values)) for cell in cells],
        rows=[
            (address, _first_measured(address, evidence))
            for address in dict.fromkeys(claim.body.row_addresses())
        ],
    )


def _first_measured(address: str, evidence: Evidence) -> str:
    row = evidence.row(address)
    cells = (row.cell(metric.key) for metric in row.experiment.metrics)
    return next((cell.address.typed for cell in cells if cell.values), "")


def cost_of(runs: Sequence[Record]) -> Cost:
    times = [run.times for run in runs]
    made = sorted(t.ended for t in times if t.ended)
    days = list(dict.fromkeys(f"{datetime.fromtimestamp(t, UTC):%Y-%m-%d}" for t in made))
    return Cost(
        runs=len(runs),
        seeds=sorted({run.seed for run in runs}),
        hours=sum(t.wall_seconds or 0 for t in times) / 3600,
        images=sum(run.counts.images_seen or 0 for run in runs),
        hardware=counted(hardware_of(run.env.hardware) for run in runs),
        code=counted(code_of(run.env) for run in runs),
        packages=counted(_packages(run.env) for run in runs),
        days=" to ".join(dict.fromkeys([days[0], days[-1]])) if days else "",
    )


def _packages(env: Environment) -> str:
    versions = ((name, getattr(env, name)) for name in PACKAGES)
    return ", ".join(f"{name} {version}" for name, version in versions if version) or "not recorded"


def counted(names: Iterable[str]) -> list[str]:
    """Each once, the most frequent first, with its number where there are several."""
    counts = sorted(Counter(names).items(), key=lambda item: (-item[1], item[0]))
    return [f"{name} ({n})" if len(counts) > 1 else name for name, n in counts]


def count(claims: Iterable[ShownClaim]) -> dict[str, int]:
    """Claims by kind of verdict, in the order of `MARKS`, without the kinds that have none."""
    kinds = Counter(claim.kind for claim in claims)
    return {kind: kinds[kind] for kind in MARKS if kinds[kind]}


def unique(runs: Iterable[Record]) -> list[Record]:
    return list({run.id: run for run in runs}.values())


def coverage(sections: Sequence[Section]) -> dict[str, int]:
    """How much of the paper has been measured, in cells and experiments."""
    cells = [section.printed.tidy for section in sections]
    return {
        "experiments": len(sections),
        "experiments_measured": sum(bool((frame["n"] > 0).any()) for frame in cells),
        "reported": sum(int(frame["reported"].notna().sum()) for frame in cells),
        "both": sum(int((frame["reported"].notna() & (frame["n"] > 0)).sum()) for frame in cells),
        "measured": sum(int((frame["n"] > 0).sum()) for frame in cells),
    }


def all_runs(sections: Sequence[Section], evidence: Evidence) -> list[Record]:
    """Every run behind the page, each once."""
    rows = (row for section in sections for row in evidence.rows(section.experiment))
    return unique(chain(*(row.all_runs for row in rows)))


def anchors() -> list[tuple[Anchor, str]]:
    """What others measured, with its source in words."""
    paper = read_paper()
    return [(anchor, paper.sources[anchor.source]) for anchor in paper.anchors]


def _page_order(name: str) -> tuple[int, int, str]:
    number = re.match(r"[TF](\d+)", name)
    return list(PARTS).index(name[0]), int(number[1]) if number else 0, name
