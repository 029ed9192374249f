"""How many seeds a table needs: `repro plan T7 --power`, before GPU-hours are spent.

For everything that a claim tests between cells: how far it is from its bound, how much that varies
between seeds, and the number of seeds with which the verdict would fall in `POWER` of all
repetitions, at the level that Holm leaves to the first of the table's claims. Planner and verdicts
read what is tested from one registry (`kinds.py`). For cells that are judged against the paper's
own number: the same for equivalence within the margin, if there is no true difference.

The spread is measured where three seeds exist, else pooled over the column's healthy rows; where
nothing has been run at all it is that of counting on ImageNet's 50,000 validation images, a lower
bound. The gap is ours where it was measured, else the paper's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
from scipy.integrate import fixed_quad
from scipy.special import ndtr, stdtrit
from scipy.stats import chi

from analysis.evidence.evidence import Evidence
from analysis.evidence.stats import estimate, sampling_floor
from analysis.verdicts.cells import ALPHA, column_spread, margin_of
from analysis.verdicts.comparisons import Comparison, Equivalence
from analysis.verdicts.kinds import comparisons_of
from analysis.verdicts.verdict import SEEDS_NEEDED
from repro.harness.experiments.address import Address
from repro.harness.experiments.experiment import Experiment
from repro.terminal import count, print_table

POWER = 0.8
STAIRS = (3, 5, 8, 10, 20, 50)  # seeds
MOST = 200  # seeds; more will never be run
POINTS = 150  # of the quadrature
REACH = 10.0  # of a chi variable to either side of its middle
Array = npt.NDArray[np.float64]
VALIDATION_IMAGES = 50_000


@dataclass(frozen=True)
class Planned:
    """One comparison. `needed` is None where no number of seeds up to `MOST` is enough."""

    claim: str
    what: str
    gap: float
    sd: float
    spread: str
    margin: float | None  # of an equivalence
    seeds: int
    power: float  # with 3 seeds
    needed: int | None


def power_of_difference(gap: float, sd: float, n: int, alpha: float) -> float:
    """Chance that a two-sided t test of n paired differences finds a true mean `gap`, in its sign.

    The mean must exceed t s / sqrt(n). Integrated over s, since scipy's and statsmodels' noncentral
    t lose all digits at large effects.

    Args:
        alpha: two-sided level.
    """
    if n < 2:
        return 0.0
    if sd == 0:
        return 1.0 if gap > 0 else 0.0
    error, t = sd / math.sqrt(n), float(stdtrit(n - 1, 1 - alpha / 2))
    return _over_spreads(lambda share: ndtr(gap / error - t * share), n - 1, math.inf)


def power_of_equivalence(margin: float, sd: float, n: int, alpha: float, gap: float = 0.0) -> float:
    """Chance that TOST at level `alpha` finds a true difference `gap` to be within the margin.

    The mean must fall within margin - t s / sqrt(n) of zero.
    """
    if n < 2:
        return 0.0
    if sd == 0:
        return 1.0 if abs(gap) < margin else 0.0
    error, t = sd / math.sqrt(n), float(stdtrit(n - 1, 1 - alpha))

    def passes(share: Array) -> Array:
        room = margin - t * error * share
        return cast(Array, ndtr((room - gap) / error) - ndtr((-room - gap) / error))

    return _over_spreads(passes, n - 1, margin / (t * error))


def _over_spreads(passes: Callable[[Array], Array], df: int, widest: float) -> float:
    """The mean of `passes(s / sd)` over the estimates s that `df` degrees of freedom give.

    s / sd is a chi variable over the root of df, independent of the mean; beyond `widest` nothing
    passes.
    """
    root = math.sqrt(df)
    upper = min(widest * root, root + REACH)
    lower = max(0.0, root - REACH)
    if upper <= lower:
        return 0.0
    return float(fixed_quad(lambda c: passes(c / root) * chi.pdf(c, df), lower, upper, n=POINTS)[0])


def seeds_needed(power: Callable[[int], float], target: float = POWER) -> int | None:
    """The fewest seeds, at least 3, with which `power(n)` reaches the target."""
    if power(MOST) < target:
        return None
    low, high = SEEDS_NEEDED, MOST
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle) >= target else (middle + 1, high)
    return low


def plan_power(experiment: Experiment, evidence: Evidence) -> list[Planned]:
    """Every comparison of the claims of one experiment, then its cells against the paper's."""
    tested = comparisons_tested(experiment, evidence)
    alpha = ALPHA / max(1, len({claim for claim, _ in tested}))
    planned = [_comparison(claim, compared, alpha, evidence) for claim, compared in tested]
    return [p for p in planned if p is not None] + _cells(experiment, evidence)


def comparisons_tested(experiment: Experiment, evidence: Evidence) -> list[tuple[str, Comparison]]:
    """(claim, comparison): all that are tested at this scale once every row has been run."""
    return [
        (claim.id, compared)
        for claim in experiment.claims
        for compared in comparisons_of(claim.body)
        if compared.judged_at(evidence)
    ]


def _needed(p: Planned) -> str:
    if p.needed:
        return str(p.needed)
    against = p.margin is None and p.gap <= 0
    return "never: the gap is the other way" if against else f"more than {MOST}"


def _comparison(
    claim: str, compared: Comparison, alpha: float, evidence: Evidence
) -> Planned | None:
    """None where neither we nor the paper know how large a difference is to be found."""
    values = [compared.tested(value) for value in compared.by_seed(evidence).values()]
    reported = compared.reported(evidence)
    printed = {address: value for address, value in reported.items() if value is not None}
    if not values and len(printed) < len(reported):
        return None
    mean = sum(values) / len(values) if values else compared.tested(compared.value(printed))
    sd, spread = _spread_of(compared, values, evidence)
    above, below = compared.bounds
    gap, margin, level = 0.0, None, alpha
    if above is not None and below is not None:
        margin = (below - above) / 2
        # Of an equivalence no difference is expected; TOST spends its level on either side.
        if not isinstance(compared, Equivalence):
            gap, level = mean - (above + below) / 2, alpha / 2
    elif above is not None:
        gap = mean - above
    else:
        assert below is not None, f"{compared} has no bound"
        gap = below - mean
    return _planned(claim, compared.question, gap, sd, spread, margin, len(values), level)


def _spread_of(compared: Comparison, values: list[float], evidence: Evidence) -> tuple[float, str]:
    """Of a sum of cells: its own, else that of the cells' columns, as if they varied apart."""
    if len(values) >= SEEDS_NEEDED:
        return estimate(values).sd, f"of {len(values)} differences"
    spreads = {a: _spread_of_cell(a, compared, evidence) for a in compared.weights()}
    variance = sum((w * spreads[a][0]) ** 2 for a, w in compared.weights().items())
    return math.sqrt(variance), ", ".join(dict.fromkeys(source for _, source in spreads.values()))


def _spread_of_cell(address: str, compared: Comparison, evidence: Evidence) -> tuple[float, str]:
    """That of its column, in the unit in which the comparison is tested."""
    c, row = evidence.cell(address), evidence.row(Address.of_cell(address))
    spread = column_spread(row.experiment, evidence.metric(address), evidence)
    sd, source = (spread.sd, spread.source) if spread else (_least(c.reported), "")
    level = c.mean if c.mean is not None else c.reported
    if compared.in_logarithms and level:
        sd /= level  # to first order
    return sd, source or "sampling of ImageNet alone"


def _least(reported: float | None) -> float:
    return sampling_floor(reported if reported is not None else 50.0, VALIDATION_IMAGES)


def _cells(experiment: Experiment, evidence: Evidence) -> list[Planned]:
    judged = []
    for row in evidence.rows(experiment):
        for metric in experiment.metrics:
            c, margin = row.cell(metric.key), margin_of(metric)
            if c.reported is None or margin is None or row.missing:
                continue
            if not row.distance(metric.variant):
                judged.append((c, metric, margin))
    planned = []
    for c, metric, margin in judged:
        values = list(c.values.values())
        if len(values) >= SEEDS_NEEDED:
            sd, source = estimate(values).sd, f"of {len(values)} seeds"
        elif spread := column_spread(experiment, metric, evidence):
            sd, source = spread.sd, spread.source
        else:
            sd, source = _least(c.reported), "sampling of ImageNet alone"
        what = f"{c.address} = {c.reported:g}"
        alpha = ALPHA / len(judged)
        planned.append(_planned("", what, 0.0, sd, source, margin, len(values), alpha))
    return planned


def _planned(
    claim: str,
    what: str,
    gap: float,
    sd: float,
    spread: str,
    margin: float | None,
    n: int,
    alpha: float,
) -> Planned:
    def power(seeds: int) -> float:
        if margin is not None:
            return power_of_equivalence(margin, sd, seeds, alpha, gap)
        return power_of_difference(gap, sd, seeds, alpha)

    return Planned(
        claim, what, gap, sd, spread, margin, n, power(SEEDS_NEEDED), seeds_needed(power)
    )


def _gap_or_margin(p: Planned) -> str:
    if p.margin is None:
        return f"{p.gap:+.2f}"
    return f"± {p.margin:g}" if not p.gap else f"{p.gap:+.2f} of ± {p.margin:g}"


def print_power(experiment: Experiment, planned: Sequence[Planned], scale: str) -> None:
    """A line a comparison, and the number of seeds that decides all that can be decided."""
    rows = [
        (
            p.claim or "cell",
            p.what,
            _gap_or_margin(p),
            f"{p.sd:.2f}",
            str(p.seeds),
            f"{100 * p.power:.0f} %",
            _needed(p),
            p.spread,
        )
        for p in planned
    ]
    title = f"{experiment.id} at {scale} scale: seeds for a power of {100 * POWER:.0f} %"
    if not rows:
        print(f"{title}: nothing to compare: no claim of this experiment is a test between rows")
        return
    head = (
        "claim",
        "comparison",
        "gap or margin",
        "sd",
        "seeds now",
        "power at 3",
        "needed",
        "sd from",
    )
    print_table(title, head, rows)
    decided = (
        f"{n} seeds {sum(p.needed is not None and p.needed <= n for p in planned)}" for n in STAIRS
    )
    print(f"Decided, of {count(len(planned), 'comparison')}, with {', '.join(decided)}.")
