"""Claims on a row's runs at the end of training: collapse and its absence, failing and working.

Sec. 5.3: KL(Pt|Ps) equal to zero indicates a constant output, hence a collapse; its two forms are a
uniform output (entropy = ln K) and one dominant dimension (entropy = 0). Collapse is a state of the
outputs, told by the limits of the sentinel (`repro/dino/sentinel.py`), which were fixed before any
run; any form of it is uniform, one-dimensional or otherwise the same for every image. Of methods
whose outputs are vectors their spread is judged. A run that stopped on its collapse
(`train.stop_on`) tells of its outputs and of nothing that is measured at the end, and of one form
only if it is in that.

Failing is an accuracy: at small scale a collapsed network keeps that of random features, or more.
A row fails whose k-NN has gained less than `HALF` of what the healthy row of its experiment gains
over its own random initialisation, and works if it has gained more. Each is judged by the mean over
seeds (`statement.py`); where a run diverged, by counting seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeVar

from analysis.evidence.evidence import Evidence
from analysis.evidence.measured import Measured, Quantity
from analysis.evidence.rows import MeasuredRow
from analysis.evidence.stats import Numbers
from analysis.verdicts.quantities import (
    ENTROPY,
    GAIN,
    INFORMATION,
    KL,
    LOSS,
    MEAN_ENTROPY,
    SPREAD,
)
from analysis.verdicts.statement import (
    MANY,
    All,
    Bound,
    Expression,
    Frequency,
    Identity,
    Negated,
    Some,
    Statement,
)
from analysis.verdicts.verdict import Judgement, all_of
from repro.dino.sentinel import HIGH, INFORMATION_LIMIT, KL_LIMIT, LOW, SPREAD_LIMIT
from repro.harness.experiments.claims import (
    Collapse,
    Decomposition,
    Fails,
    Healthy,
    NoCollapse,
    OfRows,
    Tokens,
    UniformLoss,
    Works,
)
from repro.harness.experiments.missing import NOT_MEASURED, NOT_RUN, STOPPED
from repro.harness.runs.records import NotMeasured, Record

B = TypeVar("B", bound=OfRows)
CHANCE = 1 / 1000  # top-1 of a constant output on ImageNet
VALIDATION_IMAGES = 50_000
DECOMPOSITION_LIMIT = 1e-4
FORMS = ("uniform", "one_dimension", "constant")  # of collapse
HALF = 0.5  # of the healthy row's gain: nearer to it than to the random network, or not


def collapse(body: Collapse, measured: Measured) -> list[Statement]:
    return of_rows(
        body,
        measured,
        ("collapse", body.form),
        lambda row, variant: _collapsed(row, variant, measured, body.form),
        when_diverged=False,
        at_stop=(body.form,) if body.form else FORMS,
    )


def no_collapse(body: NoCollapse, measured: Measured) -> list[Statement]:
    return of_rows(
        body,
        measured,
        ("collapse", None),
        lambda row, variant: Negated(_collapsed(row, variant, measured, None)),
        when_diverged=False,
        at_stop=FORMS,
    )


def healthy(body: Healthy, measured: Measured) -> list[Statement]:
    def expression(row: MeasuredRow, variant: str) -> Expression:
        bounds = ((KL, KL_LIMIT, True), (ENTROPY, LOW, True), (ENTROPY, HIGH, False))
        return _limits(row, variant, measured, bounds)

    asked = ("healthy",)
    return of_rows(body, measured, asked, expression, when_diverged=False, at_stop=FORMS)


def uniform_loss(body: UniformLoss, measured: Measured) -> list[Statement]:
    """Within as much of ln K as a uniform output may be."""

    def expression(row: MeasuredRow, variant: str) -> Expression:
        return _limits(row, variant, measured, ((LOSS, HIGH, True), (LOSS, 2 - HIGH, False)))

    asked = ("uniform loss",)
    return of_rows(body, measured, asked, expression, when_diverged=False, at_stop=("uniform",))


def fails(body: Fails, measured: Measured) -> list[Statement]:
    return _gains(body, measured, less=True)


def works(body: Works, measured: Measured) -> list[Statement]:
    return _gains(body, measured, less=False)


def decomposition(body: Decomposition, measured: Measured) -> list[Statement]:
    def observe(run: Record) -> tuple[bool, str]:
        error = run.metric("decomposition_error")
        return error < DECOMPOSITION_LIMIT, f"{error:.1e}"

    return _identity(body, measured, "largest error", observe)


def tokens(body: Tokens, measured: Measured) -> list[Statement]:
    def observe(run: Record) -> tuple[bool, str]:
        config, counted = run.config, run.metric("tokens")
        expected = token_count(config["data"]["resolution"], config["model"]["patch_size"])
        return counted == expected, f"{counted:g} for {expected}"

    return _identity(body, measured, "tokens", observe)


def of_rows(
    body: OfRows,
    measured: Measured,
    asked: tuple[Hashable, ...],
    expression: Callable[[MeasuredRow, str], Expression],
    *,
    when_diverged: bool,
    at_stop: Collection[str] = (),
) -> list[Statement]:
    """One statement a row and variant.

    Args:
        asked: what of them, for the key.
        expression: raises NotMeasured where no run has the numbers.
        when_diverged: what a run says that has diverged.
        at_stop: states in which a run that ended early says as much as one of all epochs.
    """
    statements = []
    for address in body.rows:
        row = measured.evidence.row(address)
        for variant in row.experiment.runs_a_row:
            name = f"{address}.{variant}" if variant else address
            key = name if row.missing else (*asked, row.identity(variant))
            runs = row.runs(variant)
            if any(run.sentinel.state not in at_stop for run in row.stopped(variant)):
                statements.append(Statement(name, key, missing={name: STOPPED}))
                continue
            try:
                if not runs:
                    raise NotMeasured(name)
                whole = expression(row, variant)
            except NotMeasured:
                why = NOT_MEASURED if runs else row.missing or NOT_RUN
                statements.append(Statement(name, key, missing={name: why}))
                continue
            lost = [seed for seed, run in runs.items() if run.sentinel.state == "nan"]
            seeds = [seed for seed in _seeds(row, variant, whole) if seed not in lost]
            told = _by_seed(whole, row.identity(variant), seeds)
            yes = sum(_holds(whole, row.identity(variant), seed) for seed in seeds)
            if lost:
                yes += when_diverged * len(lost)
                seeds = sorted({*seeds, *lost})
                whole = Frequency(yes, len(seeds))
                told |= {f"diverged in {', '.join(map(str, lost))}": []}
            statements.append(Statement(name, key, whole, tuple(seeds), yes, told))
    return statements


def _gains(body: Fails | Works, measured: Measured, less: bool) -> list[Statement]:
    """Of a row and of HALF of the healthy one's: its gain minus theirs, above or below zero."""
    healthy = measured.evidence.row(body.healthy)
    variant_of_healthy = healthy.experiment.runs_a_row[0]
    share = None if healthy.missing else healthy.identity(variant_of_healthy)
    table = measured.runs(GAIN)

    def expression(row: MeasuredRow, variant: str) -> Expression:
        own = row.identity(variant)
        if own not in table.values or share not in table.values:
            raise NotMeasured("k-NN")
        assert share is not None
        weights = {own: 1 - HALF} if own == share else {own: 1.0, share: -HALF}
        name = f"{GAIN.name}, minus half of {body.healthy}'s"
        return Bound(name, ((table, weights),), 0.0, not less, GAIN.shown)

    return of_rows(body, measured, ("gain", share), expression, when_diverged=less)


def _collapsed(row: MeasuredRow, variant: str, measured: Measured, form: str | None) -> Expression:
    runs = row.runs(variant).values()
    if all("entropy" not in run.metrics for run in runs):
        if form:
            raise NotMeasured("entropy")
        return _limits(row, variant, measured, ((SPREAD, SPREAD_LIMIT, False),))
    small = (KL, KL_LIMIT, False)
    forms = {
        "uniform": (small, (ENTROPY, HIGH, True)),
        "one_dimension": (small, (ENTROPY, LOW, False), (MEAN_ENTROPY, LOW, False)),
        "constant": ((INFORMATION, INFORMATION_LIMIT, False),),
    }
    if form:
        return _limits(row, variant, measured, forms[form])
    return Some(tuple(_limits(row, variant, measured, one) for one in forms.values()))


def _limits(
    row: MeasuredRow,
    variant: str,
    measured: Measured,
    limits: Sequence[tuple[Quantity, float, bool]],
) -> Expression:
    """That every quantity of the row lies above, or below, its limit."""
    identity, bounds = row.identity(variant), []
    for quantity, limit, above in limits:
        table = measured.runs(quantity)
        if identity not in table.values:
            raise NotMeasured(quantity.name)
        terms = ((table, {identity: 1.0}),)
        bounds.append(Bound(quantity.name, terms, quantity.scaled(limit), above, quantity.shown))
    return bounds[0] if len(bounds) == 1 else All(tuple(bounds))


def _seeds(row: MeasuredRow, variant: str, whole: Expression) -> list[int]:
    """Those of the row's runs that have every number."""
    seeds = set(row.runs(variant))
    for values in _own_values(whole, row.identity(variant)):
        seeds &= set(values)
    return sorted(seeds)


def _own_values(whole: Expression, identity: str) -> Iterator[Mapping[int, Numbers]]:
    """By seed, of the row itself; in tables of its evaluations of each of them."""
    for bound in whole.bounds():
        for table, weights in bound.terms:
            own = [identity] if identity in table.values else list(weights)
            yield from (table.values[one] for one in own)


def _value(bound: Bound, identity: str, seed: int) -> float:
    """Of one run; of other rows the mean."""
    total = 0.0
    for table, weights in bound.terms:
        for row, weight in weights.items():
            own = row == identity or identity not in table.values
            total += weight * float(table.values[row][seed] if own else table.mean(row))
    return total


def _holds(whole: Expression, identity: str, seed: int) -> bool:
    return whole.holds(lambda bound: _value(bound, identity, seed))


def _by_seed(whole: Expression, identity: str, seeds: Sequence[int]) -> dict[str, list[str]]:
    return {
        bound.name: [bound.shown(_value(bound, identity, seed)) for seed in seeds]
        for bound in islice(whole.bounds(), MANY)
    }


def _identity(
    body: OfRows, measured: Measured, what: str, observe: Callable[[Record], tuple[bool, str]]
) -> list[Statement]:
    statements = []
    for address in body.rows:
        row = measured.evidence.row(address)
        observed = {}
        for seed, run in row.runs().items():
            try:
                observed[seed] = observe(run)
            except NotMeasured:
                continue
        key = (what, address)
        if not observed:
            why = NOT_MEASURED if row.runs() else row.missing or NOT_RUN
            statements.append(Statement(address, key, missing={address: why}, chance=False))
            continue
        yes = sum(holds for holds, _ in observed.values())
        told = {what: [words for _, words in observed.values()]}
        whole = Identity(yes, len(observed))
        seeds = tuple(observed)
        statements.append(Statement(address, key, whole, seeds, yes, told, chance=False))
    return statements


# On the paper's own numbers.


def has_collapsed(entropy: float, kl: float, log_K: float, form: str | None) -> bool:
    """Whether printed numbers, in nats, are those of a constant output of this form, or of any.

    The paper prints no entropy of the batch mean, which one dimension needs as well.
    """
    shapes = {"uniform": entropy / log_K > HIGH, "one_dimension": entropy / log_K < LOW}
    return kl < KL_LIMIT and (shapes[form] if form else any(shapes.values()))


def is_healthy(entropy: float, kl: float, log_K: float) -> bool:
    return kl > KL_LIMIT and LOW < entropy / log_K < HIGH


def token_count(resolution: int, patch: int) -> int:
    """Patches and the class token (Table 1)."""
    side = resolution // patch
    return side * side + 1


def at_chance(accuracy: float) -> bool:
    """Whether an ImageNet top-1 accuracy in percent is that of a constant output."""
    noise = 3 * math.sqrt(CHANCE * (1 - CHANCE) / VALIDATION_IMAGES)
    return accuracy / 100 <= max(2 * CHANCE, CHANCE + noise)


def by_row(
    printed: Callable[[B, MeasuredRow], Judgement],
) -> Callable[[B, Evidence], Judgement]:
    """How the paper's numbers are judged, row by row."""

    def judge(body: B, evidence: Evidence) -> Judgement:
        judgements = []
        for address in body.rows:
            one = printed(body, evidence.row(address))
            judgements.append(Judgement(one.holds, f"{address}: {one.numbers}"))
        return all_of(judgements)

    return judge


def printed_collapse(body: Collapse, line: MeasuredRow) -> Judgement:
    """By the outputs where they are printed; else by what a constant output leaves: chance."""
    outputs = _printed_outputs(line, lambda h, kl, log_K: has_collapsed(h, kl, log_K, body.form))
    return outputs if body.form or outputs.holds is not None else printed_chance(body, line)


def printed_health(_body: Healthy, line: MeasuredRow) -> Judgement:
    return _printed_outputs(line, is_healthy)


def printed_chance(_body: OfRows, line: MeasuredRow) -> Judgement:
    printed = _printed_accuracies(line)
    return _of_accuracies(printed, all(at_chance(value) for value in printed.values()))


def printed_work(_body: OfRows, line: MeasuredRow) -> Judgement:
    printed = _printed_accuracies(line)
    return _of_accuracies(printed, not any(at_chance(value) for value in printed.values()))


def printed_tokens(_body: Tokens, line: MeasuredRow) -> Judgement:
    config = line.paper_config()
    expected = token_count(config.data.resolution, config.model.patch_size)
    printed = line.row.reported.get("tokens")
    if printed is None:
        return Judgement(None, "no number of tokens is printed")
    return Judgement(printed == expected, f"{printed:g} tokens for {expected}")


def not_numeric(_body: Decomposition, _evidence: Evidence) -> Judgement:
    numbers = "an identity at every step; the paper prints no number to test it on"
    return Judgement(None, numbers)


def _printed_outputs(line: MeasuredRow, holds: Callable[[float, float, float], bool]) -> Judgement:
    """Args: holds: asked with entropy, KL and ln K, in nats."""
    entropy, kl = line.row.reported.get("entropy"), line.row.reported.get("kl")
    if entropy is None or kl is None:
        return Judgement(None, "not printed")
    log_K = math.log(line.paper_config().head.prototypes)
    numbers = f"entropy {entropy:g} of ln K = {log_K:.2f}, KL {kl:g} nats"
    return Judgement(holds(entropy, kl, log_K), numbers)


def _printed_accuracies(line: MeasuredRow) -> dict[str, float]:
    percent = {metric.key for metric in line.experiment.metrics if metric.unit == "%"}
    return {key: value for key, value in line.row.reported.items() if key in percent}


def _of_accuracies(printed: Mapping[str, float], holds: bool) -> Judgement:
    if not printed:
        return Judgement(None, "no accuracy is printed")
    return Judgement(holds, ", ".join(f"{key} {value:g} %" for key, value in printed.items()))
