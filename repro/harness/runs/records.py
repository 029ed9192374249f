"""Records: what a finished run leaves as evidence, a line of published/<scale>/records.jsonl, and a
line of evaluations.jsonl for every evaluation of it, which may come later.

Its schema stands in ARCHITECTURE.md, key by key in results/published/SCHEMA.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import msgspec

from repro.config.identity import SCHEMA, canonical
from repro.errors import UserError
from repro.files import read_json
from repro.harness.runs.store import RunFolder

BINS = 60  # points of a record's curves


def record(folder: RunFolder) -> dict[str, Any]:
    """What a finished run leaves as evidence, in the schema of ARCHITECTURE.md.

    The uncommitted diff stays in the run folder; the record says whether there was one (`dirty`).

    Raises:
        UserError: the run is not done.
    """
    result = folder.result()
    if result is None:
        raise UserError(f"{folder.path}: this run is not done; repro status {folder.id}")
    config = folder.config()
    run = folder.read_run()
    env = read_json(folder.path / "env.json") or {}
    return {
        "schema": SCHEMA,
        "id": folder.id,
        "slug": folder.slug,
        "scale": config.label.scale,
        "seed": config.seed,
        "config": canonical(config),
        "metrics": result["metrics"],
        "sentinel": result["sentinel"],
        "counts": result["counts"],
        "curves": curves(folder.metrics()),
        "env": {key: value for key, value in env.items() if key != "diff"},
        "times": {key: getattr(run, key) for key in ("created", "started", "ended")}
        | {"wall_seconds": result.get("wall_seconds")},
    }


def curves(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Metric lines as curves: {key: [means over at most BINS equal bins of steps]}, and `eval`.

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
    bins: list[list[dict[str, Any]]] = [[] for _ in range(min(BINS, len(steps)))]
    for index, event in enumerate(steps):
        bins[index * len(bins) // len(steps)].append(event)
    binned: dict[str, Any] = {key: [_mean(b, key) for b in bins] for key in keys}
    eval_keys = ("epoch", "knn", "student_knn")
    return binned | {"eval": {key: [e.get(key) for e in evaluations] for key in eval_keys}}


def evaluation_lines(folder: RunFolder) -> list[dict[str, Any]]:
    """What each evaluation of a run leaves as evidence, a line of evaluations.jsonl."""
    lines = []
    for name, made in folder.evaluations().items():
        lines.append(
            {
                "schema": SCHEMA,
                "run": folder.id,
                "slug": folder.slug,
                "name": name,
                "request": made.request.published if made.request else {},
                "step": made.step,
                "metrics": made.metrics,
                "env": made.env,
                "wall_seconds": made.wall_seconds,
            }
        )
    return lines


def with_evaluations(record: dict[str, Any], lines: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """A record with the metrics of its evaluations; of two of one name the later one counts.

    `evaluations` says by name where they come from: the request, code version and host.
    """
    metrics, origins = dict(record["metrics"]), dict(record.get("evaluations", {}))
    for line in lines:
        metrics |= line["metrics"]
        origins[line["name"]] = {"request": line["request"], "env": line["env"]}
    return record | {"metrics": metrics, "evaluations": origins}


class Curves(Mapping[str, Any]):
    """The curves of a line of records.jsonl: nine tenths of it, decoded when first looked at."""

    def __init__(self, raw: msgspec.Raw) -> None:
        self._raw = raw

    @cached_property
    def _decoded(self) -> dict[str, Any]:
        return cast(dict[str, Any], msgspec.json.decode(self._raw))

    def __getitem__(self, key: str) -> Any:
        return self._decoded[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._decoded)

    def __len__(self) -> int:
        return len(self._decoded)


def read_records(path: Path) -> list[dict[str, Any]]:
    """The lines of a records.jsonl or evaluations.jsonl; none where there is no such file.

    A last line without its newline is still being written, or torn, and does not count.

    Raises:
        UserError: names the file and the line that is not valid JSON.
    """
    content = b""
    with suppress(FileNotFoundError):
        content = path.read_bytes()
    records = []
    split = msgspec.json.Decoder(dict[str, msgspec.Raw])
    for number, line in enumerate(content[: content.rfind(b"\n") + 1].splitlines(), 1):
        try:
            parts = split.decode(line)
            records.append(
                {
                    key: Curves(raw) if key == "curves" else msgspec.json.decode(raw)
                    for key, raw in parts.items()
                }
            )
        except msgspec.DecodeError as error:
            raise UserError(f"{path}: line {number} is not valid JSON ({error})") from None
    return records


def _mean(events: list[dict[str, Any]], key: str) -> float | None:
    values = [event[key] for event in events if event.get(key) is not None]
    return float(f"{sum(values) / len(values):.6g}") if values else None
