"""The deviation ledger, `experiments/base/deviations.yaml`: what concerns which row.

An entry concerns a row when the row's resolved config has all values of the entry's `when`, so a
new row inherits what applies to it. It says where the paper or the authors' code does otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import field

from repro.decode import Strict, check_unique, decode, read_yaml
from repro.errors import UserError, nearest

if TYPE_CHECKING:
    from repro.config.schema import RunConfig


# A line of the authors' code, at the commit that the ledger names, or a part of the paper.
PLACE = re.compile(
    r"[\w/]+\.(py|md):[1-9]\d*"
    r"|(Sec|App|Eq)\. [A-Z\d]+(\.\d+)?|(Table|Figure|Algorithm|issue) \d+"
)
OF_CODE = re.compile(r"\bcode\b")  # what an entry that is about the code says of the authors


class Deviation(Strict, frozen=True, kw_only=True):
    """`experiments` empty: wherever `when` holds. `at` are places of what the authors do; `effect`
    is the difference that it was measured to make, and where; empty where it was not."""

    id: str
    when: Mapping[str, Any] = field(default_factory=dict)
    experiments: tuple[str, ...] = ()
    topic: str
    authors: str
    ours: str
    why: str
    at: tuple[str, ...] = ()
    effect: str = ""

    @property
    def measured(self) -> str:
        """Where the authors' way stands and what the difference makes, in words."""
        parts = [", ".join(self.at), self.effect and f"effect: {self.effect}"]
        return "; ".join(part for part in parts if part)

    def concerns(self, experiment: str, config: RunConfig) -> bool:
        if self.experiments and experiment not in self.experiments:
            return False
        return all(_plain(config, key) in _options(value) for key, value in self.when.items())

    def __str__(self) -> str:
        return f"{self.topic}: authors: {self.authors}; ours: {self.ours}; because {self.why}"


@cache
def read_ledger(experiments: Path) -> list[Deviation]:
    """All entries.

    Raises:
        UserError: an unknown or missing key, a place that is none, or the authors' code without a
            place in it; names the file and the entry.
    """
    from repro.config.keys import dotted_keys

    path = experiments / "base" / "deviations.yaml"
    entries = decode(read_yaml(path), list[Deviation], str(path))
    check_unique([entry.id for entry in entries], str(path))
    known = dotted_keys()
    for entry in entries:
        form = (
            "at is a list of FILE.py:LINE, README.md:LINE or a part of the paper (Sec. 3.1, Eq. 3)"
        )
        if wrong := next((place for place in entry.at if not PLACE.fullmatch(place)), ""):
            raise UserError(f"{path}: {entry.id}: at: '{wrong}' is no place; {form}")
        if OF_CODE.search(entry.authors) and not any(":" in place for place in entry.at):
            raise UserError(f"{path}: {entry.id}: says what the code does, but not where; {form}")
        for key in entry.when:
            if key not in known:
                raise UserError(
                    f"{path}: {entry.id}: when: unknown key '{key}'; nearest valid key: "
                    f"{nearest(key, known)}"
                )
    return entries


def concerned(
    ledger: list[Deviation], experiment: str, rows: Mapping[str, RunConfig]
) -> Iterator[tuple[Deviation, list[str]]]:
    """Each entry that concerns any of the rows' configs, with the names of those rows."""
    for entry in ledger:
        names = [name for name, config in rows.items() if entry.concerns(experiment, config)]
        if names:
            yield entry, names


def _plain(config: RunConfig, key: str) -> Any:
    value: Any = config
    for name in key.split("."):
        value = getattr(value, name)
    return value.name if isinstance(value, Enum) else value


def _options(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
