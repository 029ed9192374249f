"""Curves of a run: what it logged a step, averaged over bins, and its evaluations as they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BINS = 60  # points of a record's curves
EVALUATED = ("epoch", "knn", "student_knn")  # what an evaluation during training has
Values = Sequence[int | float | None]


@dataclass(frozen=True)
class Curves:
    """By name a value a bin of steps, or an evaluation; `epoch` says when each one was."""

    steps: Mapping[str, Values]
    evaluations: Mapping[str, Values]

    def points(self, metric: str) -> list[tuple[float, float]]:
        """(epoch, value) of a training diagnostic, or of an evaluation, where it was finite."""
        values = self.steps if metric in self.steps else self.evaluations
        pairs = zip(values.get("epoch", ()), values.get(metric, ()), strict=False)
        return [(float(e), float(v)) for e, v in pairs if e is not None and v is not None]


def curves_of(events: Sequence[Mapping[str, Any]]) -> Curves:
    """Metric lines as curves: means over at most BINS equal bins of steps, and the evaluations.

    Values that were not finite are left out of a bin's mean; an empty bin is null. Means are
    rounded to 6 significant digits, which no reader of a curve can see.
    """
    steps = [event for event in events if event["kind"] == "step"]
    evaluations = [event for event in events if event["kind"] == "eval"]
    keys = [
        key
        for key, value in (steps[0] if steps else {}).items()
        if key != "step" and isinstance(value, int | float | None)
    ]
    bins: list[list[Mapping[str, Any]]] = [[] for _ in range(min(BINS, len(steps)))]
    for index, event in enumerate(steps):
        bins[index * len(bins) // len(steps)].append(event)
    return Curves(
        steps={key: [_mean(events_of_bin, key) for events_of_bin in bins] for key in keys},
        evaluations={key: [event.get(key) for event in evaluations] for key in EVALUATED},
    )


def _mean(events: Sequence[Mapping[str, Any]], key: str) -> float | None:
    values = [event[key] for event in events if event.get(key) is not None]
    return float(f"{sum(values) / len(values):.6g}") if values else None
