"""Addresses of rows and cells: `T7.r1` and `T7.r1.knn` in files, with colons where people type."""

from __future__ import annotations

from dataclasses import dataclass

from repro.errors import UserError


@dataclass(frozen=True)
class Address:
    """A row of an experiment or, with a metric, one of its cells.

    Names of rows may hold dots (AD_m.m0.99), those of experiments and metrics may not: the first
    dot ends the experiment, the last one starts the metric.
    """

    experiment: str
    row: str
    metric: str = ""

    @classmethod
    def of_row(cls, text: str) -> Address:
        """Raises: UserError: not an address such as T7.r1 or T7:r1."""
        experiment, _, row = text.partition(":" if ":" in text else ".")
        if not experiment or not row or ":" in row:
            raise UserError(f"'{text}' is not a row: write ID:ROW, e.g. T7:r2")
        return cls(experiment, row)

    @classmethod
    def of_cell(cls, text: str) -> Address:
        """Raises: UserError: not an address such as T7.r1.knn or T7:r1:knn."""
        sign = ":" if ":" in text else "."
        experiment, _, cell = text.partition(sign)
        row, _, metric = cell.rpartition(sign)
        if not (experiment and row and metric) or ":" in row:
            raise UserError(f"'{text}' is not a cell: write ID:ROW:METRIC, e.g. T7:r2:knn")
        return cls(experiment, row, metric)

    @property
    def of_its_row(self) -> Address:
        return Address(self.experiment, self.row)

    @property
    def typed(self) -> str:
        """With colons."""
        return ":".join(self._names)

    def __str__(self) -> str:
        return ".".join(self._names)

    @property
    def _names(self) -> list[str]:
        return [name for name in (self.experiment, self.row, self.metric) if name]
