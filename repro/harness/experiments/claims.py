"""What an experiment file may claim: statements of the paper, each of one of 21 kinds.

A kind is a type here, with the keys that it needs; what it means is said by
`analysis/verdicts/kinds.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Annotated, Any, Literal, cast, get_args

import msgspec

from repro.decode import Strict, decode
from repro.harness.experiments.about import Topic

ROW, CELL = "T7.r1", "T7.r1.knn"  # what addresses look like; row names may hold dots themselves
Portability = Literal["M", "L", "S", "I"]
OnPaper = Literal["holds", "overclaim", "not numeric"]


def _tag(name: str) -> str:
    """CurveAbove is written curve_above in a file."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


class Body(Strict, frozen=True, kw_only=True, tag_field="kind", tag=_tag):
    """What any kind of claim has: `margin_why` says where a margin of it comes from."""

    margin_why: str = ""

    def __post_init__(self) -> None:
        """Raises: ValueError where something named is no address."""
        for example, addresses in ((ROW, self.row_addresses()), (CELL, self.cell_addresses())):
            for address in addresses:
                if address.count(".") < example.count("."):
                    raise ValueError(f"'{address}' is not an address such as {example}")

    @property
    def kind(self) -> str:
        return str(type(self).__struct_config__.tag)

    def parts(self) -> tuple[ClaimBody, ...]:
        """The claims that this one is made of: itself, if it is not an `AllOf`."""
        assert isinstance(self, ClaimBody), f"{type(self).__name__} is no kind of claim"
        return (self,)

    def row_addresses(self) -> tuple[str, ...]:
        """The rows that it speaks of as a whole, such as T7.r1."""
        return ()

    def cell_addresses(self) -> tuple[str, ...]:
        """The cells that it rests on, such as T7.r1.knn."""
        return ()


class OfRows(Body, frozen=True):
    """A claim on each of some rows, or of their variants."""

    rows: tuple[str, ...]

    def row_addresses(self) -> tuple[str, ...]:
        return self.rows


class Collapse(OfRows, frozen=True):
    """The output is constant, in this form (Sec. 5.3), or in any."""

    form: Literal["one_dimension", "uniform"] | None = None


class NoCollapse(OfRows, frozen=True):
    """The output is not constant, in any form."""


class UniformLoss(OfRows, frozen=True):
    """The loss ends at ln K, that of a uniform output."""


class Healthy(OfRows, frozen=True):
    """The output is not constant, and neither sharp nor flat as a whole."""


class Decomposition(OfRows, frozen=True):
    """Cross-entropy is entropy plus KL divergence (Eq. 5)."""


class OfGains(OfRows, frozen=True):
    """A claim on what training gains, beside the row `healthy`, which has every component."""

    healthy: str

    def row_addresses(self) -> tuple[str, ...]:
        return *self.rows, self.healthy


class Fails(OfGains, frozen=True):
    """Training learns next to nothing: less than half of what the healthy row gains."""


class Works(OfGains, frozen=True):
    """Training learns: more than half of what the healthy row gains."""


class Tokens(OfRows, frozen=True):
    """So many tokens enter the network as its resolution and patches make (Table 1)."""


class RiseAndFall(OfRows, frozen=True):
    """The divergence rises, then falls, while the entropy falls (Fig. 7)."""


class CurveAbove(OfRows, frozen=True):
    """The curve of metric `above` is above that of `below`, from the share `after` of training."""

    above: str
    below: str
    after: float

    def cell_addresses(self) -> tuple[str, ...]:
        return _cells(self.rows, (self.above, self.below))


class PeakAndDecline(OfRows, frozen=True):
    """The curve of this metric ends below its maximum."""

    curve: str

    def cell_addresses(self) -> tuple[str, ...]:
        return _cells(self.rows, (self.curve,))


class CurveCrosses(Body, frozen=True):
    """The second row's curve is above the first's at the beginning, below it at the end."""

    first: str
    second: str
    curve: str

    def row_addresses(self) -> tuple[str, ...]:
        return self.first, self.second

    def cell_addresses(self) -> tuple[str, ...]:
        return _cells(self.row_addresses(), (self.curve,))


class Greater(Body, frozen=True):
    """One cell is greater than another, by more than `by` (where the paper says "clearly")."""

    better: str
    worse: str
    by: Annotated[float, msgspec.Meta(ge=0)] = 0.0

    def cell_addresses(self) -> tuple[str, ...]:
        return self.better, self.worse


class NoWorse(Body, frozen=True):
    """One cell is at most a margin below another; without one a tie could never be confirmed."""

    better: str
    worse: str
    margin: Annotated[float, msgspec.Meta(gt=0)]

    def cell_addresses(self) -> tuple[str, ...]:
        return self.better, self.worse


class Close(Body, frozen=True):
    """Two cells are equal within a margin."""

    a: str
    b: str
    margin: float

    def cell_addresses(self) -> tuple[str, ...]:
        return self.a, self.b


class Best(Body, frozen=True):
    """One cell is greater than each of some others."""

    best: str
    among: tuple[str, ...]

    def cell_addresses(self) -> tuple[str, ...]:
        return self.best, *self.among


class Order(Body, frozen=True):
    """Each of these cells is greater than the next."""

    order: tuple[str, ...]

    def cell_addresses(self) -> tuple[str, ...]:
        return self.order


class Bounded(Body, frozen=True, kw_only=True):
    """A number that lies between two bounds, of which one may be missing."""

    above: float | None = None
    below: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.above is None and self.below is None:
            raise ValueError(f"{self.kind} needs a bound: above, below or both")


class Contrast(Bounded, frozen=True):
    """A sum of cells, each with its weight."""

    terms: dict[str, float]

    def cell_addresses(self) -> tuple[str, ...]:
        return tuple(self.terms)


class Ratio(Bounded, frozen=True):
    """One cell over another."""

    over: str
    under: str

    def cell_addresses(self) -> tuple[str, ...]:
        return self.over, self.under


class SmallerGap(OfRows, frozen=True):
    """From metric `high` to metric `low` it is less far in every one of `rows` than in `than`."""

    high: str
    low: str
    than: tuple[str, ...]

    def row_addresses(self) -> tuple[str, ...]:
        return *self.rows, *self.than

    def cell_addresses(self) -> tuple[str, ...]:
        return _cells(self.row_addresses(), (self.high, self.low))


class AllOf(Body, frozen=True):
    """Several claims that must all hold."""

    claims: tuple[ClaimBody, ...]

    def parts(self) -> tuple[ClaimBody, ...]:
        return tuple(chain.from_iterable(claim.parts() for claim in self.claims))

    def row_addresses(self) -> tuple[str, ...]:
        return tuple(chain.from_iterable(claim.row_addresses() for claim in self.claims))

    def cell_addresses(self) -> tuple[str, ...]:
        return tuple(chain.from_iterable(claim.cell_addresses() for claim in self.claims))


ClaimBody = (
    Collapse
    | NoCollapse
    | UniformLoss
    | Healthy
    | Decomposition
    | Fails
    | Works
    | Tokens
    | RiseAndFall
    | CurveAbove
    | PeakAndDecline
    | CurveCrosses
    | Greater
    | NoWorse
    | Close
    | Best
    | Order
    | Contrast
    | Ratio
    | SmallerGap
    | AllOf
)
SHAPES: Mapping[str, type[Body]] = {
    str(shape.__struct_config__.tag): shape for shape in get_args(ClaimBody)
}


class Claim(Strict, frozen=True, kw_only=True):
    """A statement of the paper; in the file the keys of `body` stand beside the others.

    `portability`: M(echanism) holds at any scale, L(arge gap) and S(mall gap) need more of it,
    I(mageNet) is tied to its data, to hardware or to others' networks. `about`: what the rows that
    it compares differ in on purpose. `where` it stands in the paper. `on_paper`: whether the
    paper's own numbers bear it out.
    """

    id: str
    statement: str
    portability: Portability
    about: tuple[Topic, ...] = ()
    where: str = ""
    on_paper: OnPaper = "holds"
    note: str = ""
    body: ClaimBody

    @property
    def kind(self) -> str:
        return self.body.kind


def read_claim(item: Any, where: str, source: str, about: tuple[str, ...] = ()) -> Claim:
    """A claim as it stands in a file; what it does not say of itself, `where` it stands and what it
    is `about`, is that of its table.

    Args:
        source: begins the message of a mistake.

    Raises:
        UserError: one line that names the claim, the key and the nearest valid one.
    """
    own = [field for field in Claim.__struct_fields__ if field != "body"]
    content = decode(item, dict[str, Any], f"{source}: claim")
    here = f"{source}: claim {content.get('id', '')}".rstrip()
    shape = {key: value for key, value in content.items() if key not in own}
    body = decode(shape, cast(type[ClaimBody], ClaimBody), here, beside=own)
    claim = decode({k: v for k, v in content.items() if k in own}, Claim, here, body=body)
    return msgspec.structs.replace(claim, where=claim.where or where, about=claim.about or about)


def _cells(rows: Iterable[str], metrics: Iterable[str]) -> tuple[str, ...]:
    metrics = tuple(metrics)
    return tuple(f"{row}.{metric}" for row in rows for metric in metrics)
