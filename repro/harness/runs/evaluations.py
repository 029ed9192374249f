"""Requests and evaluations, the files of a run folder's `evaluations/`: NAME.request.json is what a
run was asked for after its training, NAME.json what was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from repro.files import read_object, with_digest, write_json

T = TypeVar("T")


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

    @property
    def published(self) -> dict[str, Any]:
        """What of it is evidence: all but where the data lay."""
        return {key: value for key, value in sorted(asdict(self).items()) if key != "root"}

    def same_numbers(self, other: Request) -> bool:
        """Whether both ask for the same numbers; folders may move."""
        return self.published == other.published


PLAIN_KNN = Request("knn")


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """What one evaluation left: numbers, what else the protocol tells, versions and hardware."""

    protocol: str = ""
    request: Request | None = None
    metrics: dict[str, int | float | None]  # null: not finite
    details: dict[str, Any] = {}
    env: dict[str, Any] | None = None

    def answers(self, request: Request) -> bool:
        """Evaluations made before requests existed are those of plain k-NN."""
        return request.same_numbers(self.request or PLAIN_KNN)

    def write(self, path: Path, of: str = "") -> None:
        """Args:
        of: the run that alone it is an evaluation of, if any.
        """
        content = msgspec.structs.asdict(self)
        for key, value in content.items():
            if isinstance(value, msgspec.Struct):
                content[key] = msgspec.structs.asdict(value)
        content["request"] = self.request and asdict(self.request)
        write_json(path, with_digest(content, of))


class RunEvaluation(Evaluation, frozen=True, kw_only=True):
    """Of a run's checkpoint of `step`."""

    step: int | None = None
    wall_seconds: float | None = None


class Source(msgspec.Struct, frozen=True):
    """The file that weights are from, and which network of it."""

    file: str
    sha256: str
    network: str
    heads: int


class Images(msgspec.Struct, frozen=True):
    name: str
    root: str


class WeightsEvaluation(Evaluation, frozen=True, kw_only=True):
    """Of any weights on any images."""

    weights: Source
    data: Images
    seen: dict[str, Any] = {}  # how images were shown to the network


def read_request(path: Path) -> Request | None:
    """Raises: UserError, where the file is no request."""
    return _read(path, Request)


def read_evaluation(path: Path, run: str) -> RunEvaluation | None:
    """Raises: UserError, where the file is no evaluation of this run."""
    return _read(path, RunEvaluation, run)


def _read(path: Path, kind: type[T], of: str = "") -> T | None:
    from repro.decode import decode  # brings yaml, which `repro --help` does without

    content = read_object(path, of)
    return None if content is None else decode(content, kind, str(path))
