"""Records: what a finished run leaves as evidence, a line of published/<scale>/records.jsonl, and a
line of evaluations.jsonl for every evaluation of it, which may come later.

The structs are the files' schema: fields stand in the order of the files' keys, and what they hold
is said beside them, from where `published_schema` writes results/published/SCHEMA.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

import msgspec
from msgspec import Struct

from repro.config.identity import SCHEMA, canonical
from repro.errors import UserError
from repro.harness.runs.curves import Curves, Values, curves_of
from repro.harness.runs.environment import Environment, holds
from repro.harness.runs.seal import lines_of
from repro.harness.runs.store import RunFolder

Metrics = dict[str, int | float | None]
Line = TypeVar("Line", "Record", "PublishedEvaluation", "Replication")
T = TypeVar("T")
_SCHEMA_FIRST = re.compile(rb'\{"schema": (\d{1,9})\b')


class NotMeasured(Exception):
    """A run has no such number."""


class SentinelReport(Struct, frozen=True, kw_only=True):
    """What the collapse sentinel said when a training ended."""

    meaning: Annotated[str, holds("a line for people")]
    since_step: Annotated[int, holds("the step at which the state set in")]
    state: Annotated[
        Literal["healthy", "uniform", "one_dimension", "constant", "nan"],
        holds("healthy, or the form of collapse: uniform, one_dimension, constant, nan"),
    ]

    @property
    def healthy(self) -> bool:
        return self.state == "healthy"


class EarlyEnd(Struct, frozen=True, kw_only=True):
    """Why and where a training ended before its last epoch (`train.stop_on`)."""

    cause: Annotated[Literal["collapse"], holds("what it stopped on; missing if it did not")]
    step: Annotated[int, holds("its last step")]
    of: Annotated[int, holds("steps of all its epochs")]

    def __str__(self) -> str:
        return f"stopped on {self.cause} at step {self.step:,} of {self.of:,}"


class Counts(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How much a run has seen."""

    classes: Annotated[int | None, holds("classes of the data")] = None
    images_seen: Annotated[int | None, holds("by the student: steps times batch size")] = None
    steps: Annotated[int | None, holds("optimiser steps")] = None
    test_images: Annotated[int | None, holds("images that evaluations in training use")] = None
    train_images: Annotated[int | None, holds("images of an epoch")] = None
    unreadable_images: Annotated[int | None, holds("skipped")] = None


class Times(Struct, frozen=True, kw_only=True):
    """When a run happened."""

    created: Annotated[float | None, holds("seconds since 1970")] = None
    started: Annotated[float | None, holds("seconds since 1970")] = None
    ended: Annotated[float | None, holds("seconds since 1970")] = None
    wall_seconds: Annotated[float | None, holds("of training")] = None


class Answers(Struct, frozen=True, kw_only=True):
    """Which test images weighted k-NN named right, for comparisons image by image and by class."""

    k: Annotated[int, holds("neighbours, as in the training's own k-NN")]
    classes: Annotated[
        list[float | None], holds("accuracy of each class, percent; null without test images")
    ]
    right: Annotated[str, holds("a bit a test image, in their order, the first bit first; base64")]


class PublishedEvaluation(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One evaluation of a run."""

    schema: Annotated[int, holds("version of this layout")]
    run: Annotated[str, holds("`id` of the run")]
    slug: Annotated[str, holds("`slug` of the run")]
    name: Annotated[str, holds("which evaluation: PROTOCOL or PROTOCOL@BENCHMARK")]
    request: Annotated[
        dict[str, Any],
        holds("protocol, benchmark (`data`), what stood for it (`source`) and the settings"),
    ]
    step: Annotated[int | None, holds("of the checkpoint that was evaluated")]
    metrics: Metrics
    env: Annotated[Environment, holds("as in a record")]
    wall_seconds: Annotated[float | None, holds("how long it took")]
    answers: Answers | None = None


class Agreement(StrEnum):
    """How a repetition compares with the published run."""

    identical = "identical"  # all numbers, bit for bit, but for the machine's speed and memory
    within = "within"  # no farther apart than two runs of the same row are
    different = "different"
    itself = "itself"  # it is the published training, not a repetition
    not_run = "not run"


class Replication(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One repetition of a published run."""

    schema: Annotated[int, holds("version of this layout")]
    run: Annotated[str, holds("`id` of the run, which both have")]
    slug: Annotated[str, holds("a name for people")]
    agreement: Annotated[Agreement, holds("identical, within (as two runs of a row) or different")]
    metrics: Annotated[Metrics, holds("of the repetition, those of its evaluations too")]
    allowed: Annotated[
        dict[str, float],
        holds("how far two runs of its row may be apart when it was compared, by column"),
    ] = {}
    parted: Annotated[
        float | None, holds("epoch at which the curves are first different; missing if never")
    ] = None
    causes: Annotated[
        list[str], holds("what was otherwise: code, data, hardware, threads, versions, kernels")
    ] = []
    env: Annotated[Environment, holds("as in a record, of the repetition")]
    started: Annotated[float | None, holds("seconds since 1970")] = None


class Record(Struct, frozen=True, kw_only=True, omit_defaults=True, dict=True):
    """One finished run."""

    schema: Annotated[int, holds(f"version of this layout and of the run id, now {SCHEMA}")]
    id: Annotated[
        str,
        holds(
            "ten hexadecimal digits: hash of `config` and `schema`; a row of an experiment finds "
            "its runs by it"
        ),
    ]
    slug: Annotated[
        str,
        holds("a name for people: experiment, row and scale the run was first made for, and seed"),
    ]
    scale: Annotated[str, holds("`laptop`, `gpu` or `paper`; smoke runs are never published")]
    seed: Annotated[
        int, holds("also in `config`; rows of one seed share initial weights, data order and views")
    ]
    config: Annotated[
        dict[str, Any],
        holds(
            "every setting that can change a number, fully resolved (`repro/config/schema.py`); "
            "keys that joined later are left out at the value that reproduces earlier behaviour, "
            "parts that a method does not use are left out"
        ),
    ]
    metrics: Metrics
    sentinel: SentinelReport
    counts: Counts
    # Nine tenths of a line, and few readers look at them.
    undecoded_curves: msgspec.Raw = msgspec.field(name="curves")
    env: Environment
    times: Times
    stopped_on: EarlyEnd | None = None
    evaluations: Mapping[
        str, PublishedEvaluation
    ] = {}  # those that joined `metrics`; no part of a line

    def metric(self, name: str) -> float:
        """One of `metrics`.

        Raises:
            NotMeasured: it is not there, or was not finite.
        """
        value = self.metrics.get(name)
        if value is None:
            raise NotMeasured(name)
        return value

    @cached_property
    def curves(self) -> Curves:
        """Raises: UserError: the line has something else in place of curves."""
        try:
            content = msgspec.json.decode(self.undecoded_curves, type=dict[str, Any])
            evaluations = msgspec.convert(content.pop("eval", {}), dict[str, Values])
            return Curves(msgspec.convert(content, dict[str, Values]), evaluations)
        except msgspec.ValidationError as error:
            raise UserError(f"record {self.id}: curves: {error}") from None


NOUNS: Mapping[type[Struct], str] = {
    Record: "record",
    PublishedEvaluation: "evaluation",
    Replication: "replication",
}


def record(folder: RunFolder) -> Record:
    """What a finished run leaves as evidence.

    The uncommitted diff stays in the run folder; the record says whether there was one (`dirty`).

    Raises:
        UserError: the run is not done, or its files hold something else; names the file.
    """
    result = folder.result()
    if result is None:
        raise UserError(f"{folder.path}: this run is not done; repro status {folder.id}")
    config = folder.config()
    run = folder.read_run()
    where = str(folder.path / "result.json")
    times = {"created": run.created, "started": run.started, "ended": run.ended}
    curves = curves_of(folder.metrics())
    return Record(
        schema=SCHEMA,
        id=folder.id,
        slug=folder.slug,
        scale=config.label.scale,
        seed=config.seed,
        config=canonical(config),
        metrics=_typed(result.get("metrics"), Metrics, f"{where}: metrics"),
        sentinel=_typed(result.get("sentinel"), SentinelReport, f"{where}: sentinel"),
        counts=_typed(result.get("counts"), Counts, f"{where}: counts"),
        undecoded_curves=msgspec.Raw(
            msgspec.json.encode({**curves.steps, "eval": curves.evaluations})
        ),
        env=environment_of(folder),
        times=_typed(times | {"wall_seconds": result.get("wall_seconds")}, Times, where),
        stopped_on=early_end(result, where),
    )


def early_end(result: Mapping[str, Any] | None, where: str) -> EarlyEnd | None:
    """What the result of a run says of an early end.

    Raises:
        UserError: it says something else; names `where`.
    """
    told = (result or {}).get("stopped_on")
    return None if told is None else _typed(told, EarlyEnd, f"{where}: stopped_on")


def environment_of(folder: RunFolder) -> Environment:
    """What a run noted of its code and machine, without the uncommitted diff."""
    return _typed(folder.environment(), Environment, str(folder.path / "env.json"))


def evaluations_of(folder: RunFolder) -> list[PublishedEvaluation]:
    """What each evaluation of a run leaves as evidence, a line of evaluations.jsonl.

    Raises:
        UserError: an answer holds something else; names its file.
    """
    evaluations = []
    for name, made in folder.evaluations().items():
        where = str(folder.path / "evaluations" / f"{name}.json")
        evaluations.append(
            PublishedEvaluation(
                schema=SCHEMA,
                run=folder.id,
                slug=folder.slug,
                name=name,
                request=made.request.published if made.request else {},
                step=made.step,
                metrics=made.metrics,
                env=_typed(made.env or {}, Environment, f"{where}: env"),
                wall_seconds=made.wall_seconds,
                answers=_answers(made.details.get("answers"), where),
            )
        )
    return evaluations


def _answers(value: Any, where: str) -> Answers | None:
    return None if value is None else _typed(value, Answers, f"{where}: details: answers")


def with_evaluations(run: Record, evaluations: Iterable[PublishedEvaluation]) -> Record:
    """A record with the metrics of its evaluations; of two of one name the later one counts."""
    metrics, by_name = dict(run.metrics), dict(run.evaluations)
    for one in evaluations:
        metrics |= one.metrics
        by_name[one.name] = one
    return msgspec.structs.replace(run, metrics=metrics, evaluations=by_name)


def as_line(line: Struct) -> dict[str, Any]:
    """A record or an evaluation as its file has it."""
    if isinstance(line, Record):
        line = msgspec.structs.replace(line, evaluations={})
    return cast(dict[str, Any], msgspec.json.decode(msgspec.json.encode(line)))


def read_records(path: Path) -> list[Record]:
    """As `read_evaluations`, of a records.jsonl."""
    return _read(path, Record)


def read_evaluations(path: Path) -> list[PublishedEvaluation]:
    """The lines of an evaluations.jsonl; none where there is no such file.

    Raises:
        UserError: a line is no evaluation; names the file, the line and the key.
    """
    return _read(path, PublishedEvaluation)


def decoded(lines: Iterable[bytes], kind: type[Line]) -> Iterator[Line | str]:
    """Each line as what it should be, or why it is not."""
    decoder = msgspec.json.Decoder(kind)
    for line in lines:
        schema = _SCHEMA_FIRST.match(line)  # before all that another one may have otherwise
        if schema and int(schema[1]) != SCHEMA:
            yield f"has schema {int(schema[1])}, and this version of the program reads {SCHEMA}"
            continue
        try:
            yield decoder.decode(line)
        except msgspec.ValidationError as error:
            yield f"is no {NOUNS[kind]}: {error}"
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            yield f"is not valid JSON ({error})"


def _read(path: Path, kind: type[Line]) -> list[Line]:
    lines = []
    for number, line in enumerate(decoded(lines_of(path), kind), 1):
        if isinstance(line, str):
            raise UserError(f"{path}: line {number} {line}")
        lines.append(line)
    return lines


def _typed(value: Any, kind: type[T], where: str) -> T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise UserError(f"{where}: {error}") from None
