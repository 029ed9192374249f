"""Are the verdicts calibrated? Shares of false ones, coverage of intervals, power that is planned.

    python -m tests.analysis.verdicts.simulated.calibration results/calibration

simulates all of it, about ten minutes on one core, and writes .json and .md; `test_calibration.py`
does with fewer repetitions.

Shapes: R rows, N seeds, B repetitions.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
from scipy.special import stdtrit

from analysis.evidence import model
from analysis.evidence.model import Prior, Table, Variance, alike
from analysis.evidence.stats import Estimate
from analysis.verdicts import power as planner
from analysis.verdicts.family import ALPHA
from repro.harness.experiments.folders import experiments_dir
from tests.analysis.verdicts.simulated.noises import NOISES, Array, Noise
from tests.analysis.verdicts.simulated.scenes import ROWS, SCENES
from tests.analysis.verdicts.simulated.simulation import Stage
from tests.analysis.verdicts.simulated.worlds import TYPICAL, draw, typical

SEEDS = (3, 5, 8)
TABLES = (2, 3, 9, 18, 35)  # rows
REPETITIONS = 3_000  # of families
OF_TABLES = 10_000
OF_CURVES = ("rise_and_fall", "curve_above", "peak_and_decline", "curve_crosses")
# Noises of whole test images, and of points of a curve: tables of made-up numbers have neither.
NOT_OF_TABLES = ("ties at the floor", "drifting curves")


def allowed(share: float, repetitions: int) -> float:
    """Three standard errors of a simulated share."""
    return 3 * math.sqrt(share * (1 - share) / repetitions)


@contextmanager
def stages(*kinds: str) -> Iterator[dict[str, Stage]]:
    """An experiment for each kind, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for kind in kinds:
            own = Path(folder) / kind
            for part in ("base", "scales"):
                shutil.copytree(experiments_dir() / part, own / part)
            found[kind] = Stage.of(SCENES[kind], own)
        yield found


@dataclass(frozen=True)
class FalseVerdicts:
    """Shares of repetitions in which any claim of a family is confirmed, or contradicted, though
    all are at their limits: of the two verdicts one would be false."""

    kind: str
    noise: str
    seeds: int
    confirmed: float
    contradicted: float


def false_verdicts(stage: Stage, noise: Noise, seeds: int, repetitions: int) -> FalseVerdicts:
    world = draw(stage.scene, noise, seeds, repetitions, np.random.default_rng(seeds))
    found = stage.decided(world)
    kind = stage.scene.kind
    return FalseVerdicts(kind, noise.name, seeds, found.any_confirmed, found.any_contradicted)


@dataclass(frozen=True)
class Coverage:
    """Of the 95 % intervals of a difference of two rows and of one row's mean, and of simultaneous
    ones, at 5 % over their number, for the differences of neighbours: whether they cover all."""

    rows: int
    noise: str
    seeds: int
    difference: float
    mean: float
    simultaneous: float


def table_of(rows: int, noise: Noise, seeds: int, repetitions: int) -> Table:
    """Whose true means are 0."""
    random = np.random.default_rng(1000 * rows + seeds)
    collapsed = 1 if noise.collapsed else None
    spreads_RB = noise.spreads_RB(random, rows, repetitions, collapsed)
    values = noise.scattered(random, (rows, seeds, 1, repetitions))[:, :, 0]
    values_RNB = values * spreads_RB[:, None]
    apart = frozenset({"r1"} if noise.collapsed else ())
    return Table("t", {f"r{r}": dict(enumerate(v_NB)) for r, v_NB in enumerate(values_RNB)}, apart)


def neighbours(rows: int) -> list[dict[str, float]]:
    return [{f"r{r}": 1.0, f"r{r + 1}": -1.0} for r in range(rows - 1)]


def covered(estimate: Estimate, level: float) -> Array:
    """Whether the interval at a level covers 0, as `Estimate.bound` has it."""
    half = stdtrit(estimate.df, 1 - level / 2) * estimate.error
    return np.abs(estimate.mean) <= half


def coverage(rows: int, noise: Noise, seeds: int, repetitions: int) -> Coverage:
    table = table_of(rows, noise, seeds, repetitions)
    each = [table.contrast(weights) for weights in neighbours(rows)]
    level = ALPHA / len(each)
    together = np.logical_and.reduce([covered(one, level) for one in each])
    return Coverage(
        rows,
        noise.name,
        seeds,
        difference=float(np.mean([covered(one, ALPHA).mean() for one in each])),
        mean=float(
            np.mean([covered(table.contrast({r: 1.0}), ALPHA).mean() for r in table.values])
        ),
        simultaneous=float(together.mean()),
    )


@dataclass(frozen=True)
class Cap:
    """Shares of tables in which some difference of neighbours is falsely shown, by our weight of
    the pooled variance and by limma's."""

    rows: int
    noise: str
    seeds: int
    ours: float
    limma: float


@contextmanager
def limmas_weight() -> Iterator[None]:
    """Infinite where variances are as alike as chance makes them."""
    capped = model.prior_of

    def prior_of(variances: Sequence[Variance]) -> Prior:
        ours = capped(variances)
        if len(variances) < 2:
            return ours
        values_R = np.maximum([one.value for one in variances], 1e-12)
        weight = alike(values_R, np.array([float(one.df) for one in variances]))
        return Prior(ours.pooled, np.minimum(weight, 1e6))

    with patch.object(model, "prior_of", prior_of):
        yield


def cap(rows: int, noise: Noise, seeds: int, repetitions: int) -> Cap:
    def falsely() -> float:
        return 1 - coverage(rows, noise, seeds, repetitions).simultaneous

    ours = falsely()
    with limmas_weight():
        return Cap(rows, noise.name, seeds, ours, falsely())


@dataclass(frozen=True)
class Power:
    """What `repro plan --power` says of a claim with so many seeds, and what its verdicts are."""

    kind: str
    seeds: int
    planned: float
    confirmed: float


# How far, in spreads, the first claim of a scene is true, so that few seeds show it; 3 else.
FAR = {"close": 1.4, "healthy": 1.5, "fails": 2.0, "works": 2.0}


def power(stage: Stage, repetitions: int) -> list[Power]:
    """With three seeds and with as many as are needed, of the first claim of a scene.

    The plan is made on evidence that is typical of the truth, other rows stay as they are.
    """
    alone, towards = stage.with_first_claim, FAR.get(stage.scene.kind, 3.0)
    (claim,) = alone.experiment.claims
    evidence = alone.evidence(typical(stage.scene, towards))
    with patch.object(planner, "chances", partial(planner.chances, draws=repetitions)):
        plan = planner.plan_claim(claim, alone.experiment, evidence)
    assert plan.needed, plan
    found = []
    for n, planned in {3: plan.with_three, plan.needed: plan.then}.items():
        random = np.random.default_rng(n)
        equal = NOISES["equal spreads"]
        world = draw(stage.scene, equal, TYPICAL, repetitions, random, towards=towards)
        seeds_R = tuple(n if r in alone.asked else TYPICAL for r in range(ROWS))
        confirmed = alone.decided(replace(world, seeds_R=seeds_R)).any_confirmed
        assert planned, plan
        found.append(Power(stage.scene.kind, n, planned.confirmed, confirmed))
    return found


def _percent(*shares: float) -> str:
    return " / ".join(f"{100 * share:.1f}" for share in shares)


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    ruled = [head, [":--"] + ["--:"] * (len(head) - 1), *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in ruled)


def _grouped(found: Sequence[FalseVerdicts]) -> list[list[str]]:
    by = {(one.kind, one.noise, one.seeds): one for one in found}
    return [
        [kind, *(_percent(*_worst([by[kind, noise, n] for n in SEEDS])) for noise in NOISES)]
        for kind in SCENES
    ]


def _worst(found: Sequence[FalseVerdicts]) -> tuple[float, float]:
    return max(one.confirmed for one in found), max(one.contradicted for one in found)


def page(
    found: Sequence[FalseVerdicts],
    covers: Sequence[Coverage],
    caps: Sequence[Cap],
    powers: Sequence[Power],
) -> str:
    kinds = _table(["kind", *NOISES], _grouped(found))
    intervals = _table(
        ["noise, rows", *(f"{n} seeds" for n in SEEDS)],
        [
            [f"{noise}, {rows}"]
            + [
                _percent(one.difference, one.mean, one.simultaneous)
                for one in covers
                if (one.noise, one.rows) == (noise, rows)
            ]
            for noise in dict.fromkeys(one.noise for one in covers)
            for rows in TABLES
        ],
    )
    weights = _table(
        ["noise, rows", *(f"{n} seeds" for n in SEEDS)],
        [
            [f"{noise}, {rows}"]
            + [
                _percent(one.ours, one.limma)
                for one in caps
                if (one.noise, one.rows) == (noise, rows)
            ]
            for noise in dict.fromkeys(one.noise for one in caps)
            for rows in TABLES
        ],
    )
    plans = _table(
        ["kind", "seeds", "planned", "confirmed"],
        [[p.kind, str(p.seeds), _percent(p.planned), _percent(p.confirmed)] for p in powers],
    )
    return f"""# Are the verdicts calibrated?

Simulated with the code that judges, by `make calibrate`: {REPETITIONS:,} families
each, {OF_TABLES:,} tables, {REPETITIONS:,} repetitions of a plan. The noises are in
[`noises.py`](../tests/analysis/verdicts/simulated/noises.py), the claims in
[`scenes.py`](../tests/analysis/verdicts/simulated/scenes.py).

## False verdicts

Percent of families (of four to eight statements each) in which some claim is confirmed /
contradicted while every one is exactly at its limit; the largest of 3, 5 and 8 seeds. Of the two
verdicts only one can be false, so each may reach 5.

{kinds}

Identities (`decomposition`, `tokens`) are no tests, and have no such share. A t test of a single
row feels skew: where the very logarithms of outputs are skewed as a gamma distribution of shape 2
is, `no_collapse` is falsely contradicted in 5 to 6 percent. In differences skew cancels.

## Coverage

Percent of repetitions in which a 95 % interval covers the truth: of a difference of two rows / of
one row's mean / simultaneous ones of all differences of neighbours, all of them. Two things are
known to be short of 95: differences in a table of three rows whose spreads are 0.5, 1 and 2, which
is too small to tell whose spread is whose (91 to 93), and means of single rows of three seeds where
seeds have most of their spread in common (93 to 94).

{intervals}

## Why the weight of the pooled variance has a limit

Percent of tables in which some difference of neighbours is falsely shown: the weight limited by the
number of rows / limma's own, which is infinite where spreads look alike.

{weights}

## Power

Percent of repetitions in which a claim that is true is confirmed: as `repro plan --power` says
beforehand, and as it is; with three seeds, and with as many as the plan asks for.

{plans}
"""


def main(out: str) -> None:
    found, powers = [], []
    with stages(*SCENES) as made:
        for kind, stage in made.items():
            print(kind, flush=True)
            for noise in NOISES.values():
                found += [false_verdicts(stage, noise, n, REPETITIONS) for n in SEEDS]
            powers += power(stage, REPETITIONS)
    covers, caps = [], []
    for noise in (one for one in NOISES.values() if one.name not in NOT_OF_TABLES):
        print(noise.name, flush=True)
        covers += [coverage(rows, noise, n, OF_TABLES) for rows in TABLES for n in SEEDS]
        caps += [cap(rows, noise, n, OF_TABLES) for rows in TABLES for n in SEEDS]
    content = {
        "repetitions": REPETITIONS,
        "of_tables": OF_TABLES,
        "false": [vars(one) for one in found],
        "coverage": [vars(one) for one in covers],
        "cap": [vars(one) for one in caps],
        "power": [vars(one) for one in powers],
    }
    Path(f"{out}.json").write_text(json.dumps(content, indent=1) + "\n")
    Path(f"{out}.md").write_text(page(found, covers, caps, powers))


if __name__ == "__main__":
    main(*sys.argv[1:])
