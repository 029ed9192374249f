"""What a claim says, as an expression over numbers and limits, and what our runs say of it.

A statement is one row's part or one comparison of a claim. Its expression is a number above or
below a limit (`Bound`), or several of them joined (`All`, `Some`, `Negated`). Everything that is
told of it follows from this one expression: p for and against, power, and what would turn it.

p of a `Bound` is that of the mean over seeds, two-sided: few seeds decide where the number is far
from the limit, and more always help. `All` needs every one (the largest p; to contradict it one is
enough: the smallest times their number), `Some` the other way round. Where no mean exists, since a
run diverged, seeds are counted (`Frequency`): exact binomial tests of "in no more than half".
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial, reduce
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from analysis.evidence.model import Table, Variance, combined
from analysis.evidence.stats import Estimate, Numbers, format_p
from repro.harness.experiments.missing import Missing


class P(NamedTuple):
    """Of an expression; small speaks for it, or against it. Numbers, or arrays of many at once."""

    confirming: Numbers
    contradicting: Numbers


class Expression(ABC):
    @abstractmethod
    def judge(self, p: Callable[[Bound], P]) -> P:
        """By those of the bounds."""

    @abstractmethod
    def holds(self, value: Callable[[Bound], float]) -> bool:
        """Whether it is so of single values, on the scale of each bound."""

    @abstractmethod
    def bounds(self) -> Iterator[Bound]:
        """All that it is made of."""

    @cached_property
    def p(self) -> P:
        return self.judge(lambda bound: bound.tested(bound.estimate))

    @property
    def leans(self) -> bool:
        """What the means say, whether or not they are shown."""
        return self.holds(lambda bound: bound.estimate.mean)


@dataclass(frozen=True, eq=False)
class Bound(Expression):
    """A sum of rows of a table, or of several, that should lie above (or below) a limit.

    `shown` puts a value in words, in the unit that people know; `sides` is 1 where two such
    tests make an equivalence (TOST), else 2.
    """

    name: str
    terms: tuple[tuple[Table, Mapping[str, float]], ...]
    limit: float
    above: bool
    shown: Callable[[float], str]
    sides: int = 2

    @cached_property
    def estimate(self) -> Estimate:
        each = [table.contrast(weights) for table, weights in self.terms]
        if len(each) == 1:
            return each[0]
        spread = combined([(1.0, Variance(np.square(e.error), e.df)) for e in each])
        return Estimate(
            mean=sum(e.mean for e in each),
            error=cast(float, np.sqrt(spread.value)),
            df=cast(float, spread.df),
            n=min(e.n for e in each),
            floor=math.sqrt(sum(e.floor**2 for e in each)),
        )

    def gap(self, estimate: Estimate) -> Estimate:
        """How far on the right side of the limit."""
        over = estimate.shifted(-self.limit)
        return over if self.above else over.negative()

    def with_seeds(self, more: float) -> Estimate:
        """The estimate with so many times the seeds."""
        e, less = self.estimate, 1 / math.sqrt(more)
        return replace(e, error=e.error * less, floor=e.floor * less, df=e.df * more)

    def tested(self, estimate: Estimate) -> P:
        gap = self.gap(estimate)
        both = (self.sides * p for p in (gap.p_above(), gap.p_below()))
        return P(*(cast(Numbers, np.minimum(1.0, p)) for p in both))

    def judge(self, p: Callable[[Bound], P]) -> P:
        return p(self)

    def holds(self, value: Callable[[Bound], float]) -> bool:
        return value(self) > self.limit if self.above else value(self) < self.limit

    def bounds(self) -> Iterator[Bound]:
        yield self

    def interval(self, alpha: float) -> tuple[str, str]:
        """Of the estimate, in words."""
        low, high = self.estimate.bound(alpha / 2), self.estimate.bound(1 - alpha / 2)
        return self.shown(low), self.shown(high)

    def words(self, level: float) -> str:
        """The estimate with its plain and its simultaneous interval."""
        sentence = self.shown(self.estimate.mean)
        if math.isnan(self.estimate.error):
            return sentence
        low, high = self.interval(0.05)
        sentence += f" (95 % interval {low} to {high}"
        if level < 0.05:
            low, high = self.interval(level)
            sentence += f"; simultaneous {low} to {high}"
        return f"{sentence})"

    def turns(self, level: float) -> str:
        """At which limits it is shown to lie above, and below."""
        if math.isnan(self.estimate.error):
            return ""
        low, high = self.interval(level * 2 / self.sides)
        return (
            f"{self.name} is shown above any limit up to {low}, below any from {high} on "
            f"(limit now {self.shown(self.limit)})"
        )


@dataclass(frozen=True, eq=False)
class Joined(Expression):
    parts: tuple[Expression, ...]

    def bounds(self) -> Iterator[Bound]:
        for part in self.parts:
            yield from part.bounds()


class All(Joined):
    """Every part must hold (an intersection-union test); one that does not is enough to fail."""

    def judge(self, p: Callable[[Bound], P]) -> P:
        each = [part.judge(p) for part in self.parts]
        against = len(each) * _least([one.contradicting for one in each])
        return P(_greatest([one.confirming for one in each]), np.minimum(1.0, against))

    def holds(self, value: Callable[[Bound], float]) -> bool:
        return all(part.holds(value) for part in self.parts)


class Some(Joined):
    """One part is enough."""

    def judge(self, p: Callable[[Bound], P]) -> P:
        each = [part.judge(p) for part in self.parts]
        confirming = len(each) * _least([one.confirming for one in each])
        return P(np.minimum(1.0, confirming), _greatest([one.contradicting for one in each]))

    def holds(self, value: Callable[[Bound], float]) -> bool:
        return any(part.holds(value) for part in self.parts)


@dataclass(frozen=True, eq=False)
class Negated(Expression):
    part: Expression

    def judge(self, p: Callable[[Bound], P]) -> P:
        confirming, contradicting = self.part.judge(p)
        return P(contradicting, confirming)

    def holds(self, value: Callable[[Bound], float]) -> bool:
        return not self.part.holds(value)

    def bounds(self) -> Iterator[Bound]:
        yield from self.part.bounds()


@dataclass(frozen=True, eq=False)
class Frequency(Expression):
    """In how many seeds something is so: is it in more than half of all seeds, or in less?"""

    yes: int
    n: int

    def judge(self, p: Callable[[Bound], P]) -> P:  # noqa: ARG002
        return p_of_count(self.yes, self.n)

    def holds(self, value: Callable[[Bound], float]) -> bool:  # noqa: ARG002
        return 2 * self.yes > self.n

    def bounds(self) -> Iterator[Bound]:
        yield from ()


def p_of_count(yes: int | npt.NDArray[np.int64], n: int) -> P:
    both = (binom.sf(np.asarray(yes) - 1, n, 0.5), binom.cdf(yes, n, 0.5))
    return P(*(cast(Numbers, np.minimum(1.0, 2 * p)) for p in both))


@dataclass(frozen=True, eq=False)
class Identity(Expression):
    """Something that must be so in every run, by arithmetic: one that differs refutes it."""

    yes: int
    n: int

    def judge(self, p: Callable[[Bound], P]) -> P:  # noqa: ARG002
        return P(0.0, 1.0) if self.yes == self.n else P(1.0, 0.0)

    def holds(self, value: Callable[[Bound], float]) -> bool:  # noqa: ARG002
        return self.yes == self.n

    def bounds(self) -> Iterator[Bound]:
        yield from ()


@dataclass(frozen=True)
class Statement:
    """One part of a claim.

    `key` is the same wherever the same runs are asked the same thing, also the other way round:
    it is one hypothesis, and counts once. Of a row, `yes` is the number of seeds in which it is so,
    and `by_seed` has the numbers of a bound for each of them, in words. `missing` maps what has no
    number to the reason, `not_judged` says why nothing is said at this scale, `partial` why this
    can at most be undecided. Without `chance` seeds cannot differ: it is an identity, and no test.
    """

    name: str
    key: Hashable
    expression: Expression | None = None
    seeds: tuple[int, ...] = ()
    yes: int | None = None
    by_seed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    missing: Mapping[str, Missing] = field(default_factory=dict)
    not_judged: str = ""
    partial: str = ""
    chance: bool = True

    @property
    def n(self) -> int:
        return len(self.seeds)

    @property
    def leans(self) -> bool | None:
        """What the seeds that there are say, however few; None where they say both, or nothing."""
        if self.expression is None or self.yes not in (None, 0, self.n):
            return None
        return self.expression.leans

    def needed(self, level: float) -> tuple[int | None, int | None]:
        """About how many seeds would confirm it, and contradict it, if mean and spread stay as they
        are; None where not even `MOST` would, or nothing is known."""
        if self.expression is None or not self.chance or not list(self.expression.bounds()):
            return None, None
        n, confirming, contradicting = max(self.n, 1), None, None
        for many in range(max(n, LEAST), MOST + 1):
            p = self.expression.judge(partial(_tested_with, many / n))
            if confirming is None and p.confirming < level:
                confirming = many
            if contradicting is None and p.contradicting < level:
                contradicting = many
            if confirming or contradicting:
                break
        return confirming, contradicting

    def words(self, level: float) -> str:
        """The numbers with their intervals, simultaneous ones at `level`, in one sentence."""
        if self.not_judged:
            return f"{self.name}: {self.not_judged}"
        if self.expression is None:
            return ""
        bounds = list({bound.name: bound for bound in self.expression.bounds()}.values())
        tested = {bound.name for bound in bounds}
        others = {name: its for name, its in self.by_seed.items() if name not in tested}
        told = [f"{name} {', '.join(its)}".rstrip() for name, its in others.items()]
        told += [
            f"{bound.name} {', '.join(self.by_seed[bound.name])}, mean {bound.words(level)}"
            if bound.name in self.by_seed
            else f"{bound.name} = {bound.words(level)}"
            for bound in bounds[:MANY]
        ]
        if (more := len(bounds) - MANY) > 0:
            told.append(f"and {more} more")
        if self.yes is not None:
            told.insert(0, f"so in {self.yes} of {self.n} seeds")
        whole = "; ".join(told)
        one = len(bounds) == 1 and bounds[0].name == self.name
        sentence = whole if one else f"{self.name} [{whole}]"
        sentence += f", n = {self.n} (seeds {', '.join(map(str, self.seeds))})"
        if self.chance:
            sentence += f", {format_p(float(min(self.expression.p)))}"
        return f"{sentence} ({self.partial})" if self.partial else sentence


def _tested_with(more: float, bound: Bound) -> P:
    return bound.tested(bound.with_seeds(more))


LEAST, MOST = 3, 100  # seeds that are thought of
MANY = 4  # bounds of one statement that are told


def _least(values: list[Numbers]) -> Numbers:
    return cast(Numbers, reduce(np.minimum, cast(Any, values)))


def _greatest(values: list[Numbers]) -> Numbers:
    return cast(Numbers, reduce(np.maximum, cast(Any, values)))
