"""How an experiment is drawn: each kind of figure is a type here, with what its file says of it.

`analysis/figures/<kind>.py` draws it, in a function `draw_<kind>`.
"""

from __future__ import annotations

from repro.decode import Strict


def _tag(name: str) -> str:
    """RowsFigure is written rows in a file."""
    return name.removesuffix("Figure").lower()


class AnyFigure(Strict, frozen=True, tag_field="kind", tag=_tag):
    """A picture of an experiment's rows."""

    @property
    def kind(self) -> str:
        return str(type(self).__struct_config__.tag)


class RowsFigure(AnyFigure, frozen=True):
    """One line a row, the paper's number and ours: Figure 6 right, and every table by default."""


class AblationFigure(AnyFigure, frozen=True, kw_only=True):
    """A curve over one variable (App. C to F, Table 9).

    `over` is the descriptive column with the paper's numbers of the variable, `key` the config key
    that holds ours; without one ours are the paper's. Columns of yes and no in `curves` make a
    curve each.
    """

    over: str
    key: str = ""
    curves: tuple[str, ...] = ()


class HeatmapFigure(AnyFigure, frozen=True, kw_only=True):
    """A field a row, of two descriptive columns: a grid's axes `down` and `across`; a panel for
    every combination of the other columns."""

    down: str
    across: str


class CurvesFigure(AnyFigure, frozen=True):
    """What a metric does during training: Figure 6 left, and figures of App. D and E."""


class CollapseFigure(AnyFigure, frozen=True):
    """Entropy and KL divergence during training: Figure 7."""


class ColumnsFigure(AnyFigure, frozen=True):
    """One mark a row and column, where the columns are alike: Figure 4."""


class ThroughputFigure(AnyFigure, frozen=True):
    """Accuracy against images a second: Figure 5."""


class CostFigure(AnyFigure, frozen=True):
    """Accuracy against training time and memory: Table 8."""


Figure = (
    RowsFigure
    | AblationFigure
    | HeatmapFigure
    | CurvesFigure
    | CollapseFigure
    | ColumnsFigure
    | ThroughputFigure
    | CostFigure
)
