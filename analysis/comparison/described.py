"""A run as it is set beside others: its settings and numbers, of a folder here or of a record.

Folders are read as plain values, so one whose config this code does not know is shown as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from analysis.evidence.differences import Flat, flat_identity
from repro.decode import read_yaml
from repro.errors import UserError
from repro.harness.runs.environment import Environment
from repro.harness.runs.records import EarlyEnd, Record, early_end, environment_of
from repro.harness.runs.store import RunFolder
from repro.lines import last_lines

Numbers = Mapping[str, float | None]
NOT_NUMBERS = ("kind", "step", "epoch")  # of a metric line


@dataclass(frozen=True)
class Described:
    """One run.

    Attributes:
        state: as `repro status` says it, or "published".
        metrics: of a run that is not done the last ones logged.
    """

    id: str
    slug: str
    scale: str
    seed: int
    state: str
    config: Flat
    metrics: Numbers
    sentinel: str = ""
    stopped_on: EarlyEnd | None = None
    experiment: str = ""
    row: str = ""
    tags: Sequence[str] = ()
    created: float = 0.0
    env: Environment | None = None
    folder: RunFolder | None = None
    record: Record | None = None


def of_folder(folder: RunFolder, state: str) -> Described:
    """A run here.

    Raises:
        UserError: one of its files is damaged; names it.
    """
    file = folder.path / "config.yaml"
    values = read_yaml(file)
    if not isinstance(values, dict):
        raise UserError(f"{file}: damaged: it describes no run")
    run, result = folder.read_run(), folder.result()
    metrics, sentinel = _last(folder)
    if result is not None:
        metrics, sentinel = dict(result["metrics"]), str(result["sentinel"]["state"])
        for made in folder.evaluations().values():
            metrics |= made.metrics
    return Described(
        id=folder.id,
        slug=folder.slug,
        scale=run.scale,
        seed=run.seed,
        state=state,
        config=flat_identity(cast(Mapping[str, Any], values)),
        metrics=metrics,
        sentinel=sentinel,
        stopped_on=early_end(result, str(folder.path / "result.json")),
        experiment=run.experiment,
        row=run.row,
        tags=run.tags,
        created=run.created or 0.0,
        folder=folder,
    )


def of_record(record: Record) -> Described:
    """A published run."""
    return Described(
        id=record.id,
        slug=record.slug,
        scale=record.scale,
        seed=record.seed,
        state="published",
        config=flat_identity(record.config),
        metrics=record.metrics,
        sentinel=record.sentinel.state,
        stopped_on=record.stopped_on,
        env=record.env,
        record=record,
    )


def sentinel_words(run: Described) -> str:
    """What the sentinel said last, and whether the training ended on it."""
    return f"{run.sentinel}, {run.stopped_on}" if run.stopped_on else run.sentinel


def environment(run: Described) -> Environment:
    """What it noted of its code and machine."""
    if run.folder is not None:
        return environment_of(run.folder)
    return run.env or Environment()


def _last(folder: RunFolder) -> tuple[dict[str, float | None], str]:
    """The last numbers logged, of a step and of an evaluation, and what the sentinel said."""
    numbers: dict[str, float | None] = {}
    sentinel = ""
    for line in last_lines(folder.path / "metrics.jsonl").values:
        sentinel = str(line.get("sentinel", sentinel))
        numbers |= {
            key: value
            for key, value in line.items()
            if key not in NOT_NUMBERS and isinstance(value, int | float)
        }
    return numbers, sentinel
