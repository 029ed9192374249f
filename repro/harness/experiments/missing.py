"""Why a cell of a table has no number of ours."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    REPORTED_ONLY = "reported only"
    OTHER_SCALE = "only at scale"
    NOT_RUN = "not run"
    NOT_MEASURED = "not measured by these runs"
    STOPPED = "stopped early, on collapse"  # so nothing of it is of the end of a training


@dataclass(frozen=True)
class Missing:
    """`detail`: why nothing but the paper's number is wanted, or the scales that have runs."""

    reason: Reason
    detail: str = ""

    def __str__(self) -> str:
        match self.reason:
            case Reason.REPORTED_ONLY:
                return f"{self.reason}: {self.detail}"
            case Reason.OTHER_SCALE:
                return f"{self.reason} {self.detail}"
        return str(self.reason)


NOT_RUN = Missing(Reason.NOT_RUN)
NOT_MEASURED = Missing(Reason.NOT_MEASURED)
STOPPED = Missing(Reason.STOPPED)
TO_COME = frozenset({NOT_RUN, NOT_MEASURED, STOPPED})  # which other runs would have
