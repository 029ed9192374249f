"""Run folders that look trained, made in a moment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from repro.config.compose import compose
from repro.config.identity import slug
from repro.harness.experiments.folders import experiments_dir
from repro.harness.runs.planned import OWN, own_name
from repro.harness.runs.store import RunFolder, create_run

STEPS = (3.0, 2.0, 1.0)  # the loss of each


def make_own(
    results: Path,
    overrides: dict[str, Any] | None = None,
    losses: Sequence[float] = STEPS,
    knn: float | None = 50.0,
    name: str = "",
) -> RunFolder:
    """What `repro train` leaves at smoke scale; without k-NN it is not done."""
    config = compose(experiments_dir(), "smoke", overrides)
    config.label.experiment, config.label.row = OWN, name or own_name(overrides or {})
    folder = create_run(results / "runs", slug(config, OWN, config.label.row), config)
    folder.append_metrics(
        [
            {"kind": "step", "step": i, "epoch": i / 2, "loss": loss, "sentinel": "healthy"}
            for i, loss in enumerate(losses, 1)
        ]
    )
    if knn is not None:
        sentinel = {"state": "healthy", "since_step": 0, "meaning": "well"}
        metrics = {"knn": knn, "loss": losses[-1]}
        counts = {"steps": len(losses)}
        folder.finish({"metrics": metrics, "sentinel": sentinel, "counts": counts})
    return folder
