"""Addresses of rows and cells: `T7.r1` and `T7.r1.knn` in files, with colons where people type.

And what people type that names no experiment: settings, claims, tables in words.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from repro.errors import UserError, near

CLAIM = re.compile(r"C\.(\w+)\.\S+")
IN_WORDS = re.compile(r"(T)ab(?:le)?[\W_]*(?=\d)|(F)ig(?:ure)?[\W_]*(?=\d)", re.IGNORECASE)


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


def with_colon(word: str, known: Collection[str]) -> str:
    """`T7.r3`, as evidence is written, as `T7:r3`; other words stay."""
    name, dot, rows = word.partition(".")
    return f"{name}:{rows}" if dot and name in known else word


def row_name(experiment: str, name: str, rows: Sequence[str]) -> str:
    """Raises: UserError where it is not a row that is named, but one of its cells."""
    row, _, metric = name.replace(":", ".").rpartition(".")
    if name not in rows and row in rows:
        raise UserError(
            f"'{experiment}:{name}' is a cell: repro explain {experiment}:{row}:{metric}; here its "
            f"row: {experiment}:{row}"
        )
    return name


def unknown(reference: str, known: Sequence[str], folder: Path) -> UserError:
    """What to say of a word that names no experiment."""
    key, is_setting, _ = reference.partition("=")
    if is_setting:
        return UserError(
            f"'{reference}': {key} of a table's runs stands in the table's file; settings of your "
            "own are for repro train and repro sweep"
        )
    claim = CLAIM.fullmatch(reference)
    if claim and claim[1] in known:
        return UserError(
            f"'{reference}' is a claim: repro explain {reference}; here its experiment: {claim[1]}"
        )
    by_upper = {name.upper(): name for name in known}
    short = IN_WORDS.sub(lambda match: match[1] or match[2], reference)
    close = near(short.upper(), by_upper)
    hint = f"nearest: {by_upper[close]} (repro list shows all)" if close else "repro list shows all"
    return UserError(f"no experiment '{reference}' in {folder}; {hint}")
