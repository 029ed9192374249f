"""The deviation ledger, `experiments/base/deviations.yaml`: what concerns which row.

An entry concerns a row when the row's resolved config has all values of the entry's `when`, so a
new row inherits what applies to it.
"""

from __future__ import annotations

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


class Deviation(Strict, frozen=True, kw_only=True):
    """`experiments` empty: wherever `when` holds."""

    id: str
    when: Mapping[str, Any] = field(default_factory=dict)
    experiments: tuple[str, ...] = ()
    topic: str
    authors: str
    ours: str
    why: str

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
        UserError: an unknown or missing key, naming the file and the entry.
    """
    from repro.config.keys import dotted_keys

    path = experiments / "base" / "deviations.yaml"
    entries = decode(read_yaml(path), list[Deviation], str(path))
    check_unique([entry.id for entry in entries], str(path))
    known = dotted_keys()
    for entry in entries:
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
