"""What a run is asked for after its training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Request:
    """`protocol` on the benchmark `data` (empty: the run's own data), for which `source` stands at
    this scale, in the folder `root`.
    """

    protocol: str
    data: str = ""
    source: str = ""
    root: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.protocol}@{self.data}" if self.data else self.protocol

    def same_numbers(self, made: Mapping[str, Any]) -> bool:
        """Whether an evaluation made for the request `made` answers this one; folders may move."""
        ours = asdict(self) | {"settings": dict(self.settings)}
        return all(made.get(key) == ours[key] for key in ours if key != "root")
