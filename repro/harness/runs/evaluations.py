"""Requests and evaluations, the files of a run folder's `evaluations/`: NAME.request.json is what a
run was asked for after its training, NAME.json what was measured.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from repro.files import read_object, with_digest, write_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

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


class Judged(msgspec.Struct, frozen=True):
    """What each test item contributes to a number, in the order of the data.

    Attributes:
        right: a bit an item, the first bit first, in base64, where each is right or wrong.
        shares: else of each item, from 0 to 1.
    """

    count: int
    right: str = ""
    shares: list[float] = []

    def values(self) -> NDArray[Any]:
        """Floats [count]."""
        import numpy as np

        if not self.right:
            return np.array(self.shares, dtype=np.float64)
        packed = np.frombuffer(base64.b64decode(self.right), dtype=np.uint8)
        return np.unpackbits(packed, count=self.count).astype(np.float64)


def judged(items: Any) -> Judged:
    """Args:
    items: a tensor of bools, or numbers from 0 to 1.
    """
    import numpy as np

    values = np.asarray(items)
    if values.dtype == bool:
        return Judged(len(values), base64.b64encode(np.packbits(values).tobytes()).decode())
    return Judged(len(values), shares=values.astype(np.float64).tolist())


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """What one evaluation left: numbers, what else the protocol tells, versions and hardware.

    Attributes:
        judged: by number what each test item contributes to it, where it is a mean over them.
        items: which items these are, alike for all networks that were judged on the same.
        made: seconds since 1970.
    """

    protocol: str = ""
    request: Request | None = None
    metrics: dict[str, int | float | None]  # null: not finite
    details: dict[str, Any] = {}
    env: dict[str, Any] | None = None
    judged: dict[str, Judged] = {}
    items: str = ""
    made: float | None = None

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
        content["judged"] = msgspec.to_builtins(self.judged)
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
    """Of any weights on any images.

    Attributes:
        seen: how images were shown to the network.
        rests_on: digest of all that makes the numbers; empty in those of earlier versions.
    """

    weights: Source
    data: Images
    seen: dict[str, Any] = {}
    rests_on: str = ""


def read_request(path: Path) -> Request | None:
    """Raises: UserError, where the file is no request."""
    return _read(path, Request)


def read_evaluation(path: Path, run: str) -> RunEvaluation | None:
    """Raises: UserError, where the file is no evaluation of this run."""
    return _read(path, RunEvaluation, run)


def read_weights_evaluation(path: Path) -> WeightsEvaluation | None:
    """Raises: UserError, where the file is no evaluation, or damaged."""
    return _read(path, WeightsEvaluation)


def _read(path: Path, kind: type[T], of: str = "") -> T | None:
    from repro.decode import decode  # brings yaml, which `repro --help` does without

    content = read_object(path, of)
    return None if content is None else decode(content, kind, str(path))
