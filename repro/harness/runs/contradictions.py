"""What a record says against itself: nothing here can be said of an honest run, diverged or not.

A number that is absent (null) contradicts nothing. Curves are means over bins of steps, so what
they can refute is what no steps with these means can have been: a sum of numbers that are never
negative is at least that of a part of them.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import msgspec
from msgspec import Struct

from repro.config.identity import SCHEMA
from repro.dino.sentinel import HIGH, INFORMATION_LIMIT, KL_LIMIT, LOW, SPREAD_LIMIT
from repro.harness.runs.curves import BINS
from repro.harness.runs.records import Metrics, PublishedEvaluation, Record

PERCENTAGES = (
    "knn", "student_knn", "linear", "logistic", "finetune", "scratch", "jaccard", "map_",
    "copy_map", "jf_", "j_", "f_",
)  # fmt: skip
NO_PERCENTAGES = ("_rate", "_penalty")
COUNTED = PERCENTAGES[:6]  # right answers among a run's own test images
NEAR = 1e-3  # nats or images that rounding explains
DAY = 86400.0  # seconds by which clocks of two machines may differ
MIN_PATIENCE = 20  # steps for which the sentinel saw a state at least, as in repro.train
Bins = list[float | None]
Curves = dict[str, Bins | dict[str, Bins]]
_CURVES = msgspec.json.Decoder(Curves)


class _Losses(Struct):
    loss: tuple[float | None, ...] = ()
    grad_norm: tuple[float | None, ...] = ()


_LOSSES = msgspec.json.Decoder(_Losses)


class _Train(Struct):
    epochs: int
    batch_size: int
    stop_on: str = "nothing"
    stop_after: float = 0.0


class _Eval(Struct):
    every_epochs: int


class _Head(Struct):
    prototypes: int


class _Target(Struct):
    operation: str = "softmax"


class _Config(Struct):
    """What of a config the rest of a record must agree with."""

    seed: int
    train: _Train
    eval: _Eval
    head: _Head
    target: _Target = msgspec.field(default_factory=_Target)


@dataclass(frozen=True)
class Bounds:
    """Where the bins of a run's curves lie, in steps from 0, and the mean epoch of each."""

    spans: list[range]
    epochs: list[float]

    @property
    def steps(self) -> int:
        return self.spans[-1].stop


@lru_cache(maxsize=256)
def bounds_of(steps: int, per_epoch: int) -> Bounds:
    bins = min(BINS, steps)
    starts = [-(-b * steps // bins) for b in range(bins + 1)]
    spans = list(itertools.starmap(range, itertools.pairwise(starts)))
    return Bounds(spans, [(span.start + 1 + span.stop) / 2 / per_epoch for span in spans])


def of_identity(run: Record) -> Iterator[str]:
    """Whether it is the record of its own config."""
    if run.schema != SCHEMA:
        yield f"schema {run.schema} is not the one that this code knows ({SCHEMA})"
        return
    content = {"schema": run.schema, "config": run.config}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    identity = hashlib.sha256(text.encode()).hexdigest()[:10]
    if identity != run.id:
        yield f"its id is not the hash of its config, which is {identity}"
    if run.config.get("seed") != run.seed:
        yield f"its seed {run.seed} is not the {run.config.get('seed')} of its config"


def of_content(run: Record) -> Iterator[str]:
    """Whether counts, numbers, curves and sentinel can be those of one run of its config."""
    try:
        config = msgspec.convert(run.config, _Config)
        curves = _CURVES.decode(run.undecoded_curves)
    except msgspec.ValidationError as error:
        yield f"its config or curves: {error}"
        return
    yield from of_metrics(run.metrics, run.counts.test_images)
    yield from _of_counts(run, config)
    yield from _of_early_end(run, config)
    yield from _of_entropies(run, config)
    yield from _of_times(run)
    evaluated = curves.pop("eval", {})
    steps = {key: bins for key, bins in curves.items() if isinstance(bins, list)}
    if not isinstance(evaluated, dict) or len(steps) < len(curves):
        yield "its curves are no curves"
        return
    yield from _of_evaluations(run, config, evaluated)
    n, images = run.counts.steps, run.counts.train_images
    if not n or not images or images < config.train.batch_size:
        return
    per_epoch = images // config.train.batch_size
    wrong = _places(steps, bounds_of(n, per_epoch))
    yield from wrong or itertools.chain(
        _of_last_epoch(run, steps, bounds_of(n, per_epoch), per_epoch),
        _of_sentinel(run, steps, bounds_of(n, per_epoch), per_epoch, config.train.epochs),
    )


def losses_of(run: Record) -> tuple[float | None, ...]:
    """Loss and gradient norm over training: no two seeds have the same."""
    curves = _LOSSES.decode(run.undecoded_curves)
    return curves.loss + curves.grad_norm


def of_metrics(metrics: Metrics, test_images: int | None) -> Iterator[str]:
    """Numbers that nothing measures, of a record or of an evaluation."""
    for key, value in metrics.items():
        if value is None:
            continue
        name, _, data = key.partition("@")
        percent = name.startswith(PERCENTAGES) and not name.endswith(NO_PERCENTAGES)
        if value < 0 and name != "loss" and (name != "kl" or value < -NEAR):
            yield f"{key} is {value:g}: below 0"
        elif percent and value > 100:
            yield f"{key} is {value:g}: above 100 %"
        elif percent and name.startswith(COUNTED) and test_images and not data:
            right = value * test_images / 100
            if abs(right - round(right)) > NEAR * max(1.0, right * NEAR):
                yield f"{key} is {value:g} %: no number of its {test_images} test images"


def of_answers(made: PublishedEvaluation, run: Record) -> Iterator[str]:
    """Whether as many images are right as its accuracy says."""
    images = run.counts.test_images
    if made.answers is None or not images or made.request.get("data"):
        return
    try:
        right = base64.b64decode(made.answers.right, validate=True)
    except ValueError:
        yield "its answers are no base64"
        return
    if len(right) != -(-images // 8) or len(made.answers.classes) != (run.counts.classes or 0):
        yield f"its answers are not those to {images} test images of {run.counts.classes} classes"
        return
    share = 100 * int.from_bytes(right).bit_count() / images
    accuracy = made.metrics.get(f"knn_{made.answers.k}")
    if accuracy is not None and abs(share - accuracy) > NEAR:
        yield f"its answers are right for {share:g} %, not for {accuracy:g} %"


def _of_counts(run: Record, config: _Config) -> Iterator[str]:
    counts, train = run.counts, config.train
    if counts.test_images == 0:
        yield "it has no test images"
    steps, images = counts.steps, counts.train_images
    if steps is not None and images is not None:
        whole = train.epochs * (images // train.batch_size)
        if steps != (whole if run.stopped_on is None else run.stopped_on.step):
            yield f"it has {steps} of the {whole} steps of its config"
        if run.stopped_on is not None and run.stopped_on.of != whole:
            yield f"it stopped early of {run.stopped_on.of} steps, its config has {whole}"
    seen = counts.images_seen
    if steps is not None and seen is not None and seen != steps * train.batch_size:
        yield f"it has seen {seen} images in {steps} steps of {train.batch_size}"


def _of_early_end(run: Record, config: _Config) -> Iterator[str]:
    """It ends at an epoch's end, on a collapse that was seen for as long as its config says."""
    end, train = run.stopped_on, config.train
    if end is None:
        return
    if train.stop_on != end.cause:
        yield f"it {end}, its config stops on {train.stop_on}"
    elif not 0 < end.step < end.of or end.step * train.epochs % end.of:
        yield f"it {end}, which is not the end of one of {train.epochs} epochs before the last"
    elif run.sentinel.state in ("healthy", "nan"):
        yield f"it {end}, its sentinel says {run.sentinel.state}"
    elif end.step - run.sentinel.since_step + 1 < train.stop_after * end.of:
        yield f"it {end}, its sentinel saw that since step {run.sentinel.since_step} only"


def _of_entropies(run: Record, config: _Config) -> Iterator[str]:
    """In nats: bounded by ln K, that of the mean not below the mean, H = h + KL."""
    known = {key: value for key, value in run.metrics.items() if value is not None}
    log_K, h = known.get("log_K"), known.get("entropy")
    of_labels = config.target.operation == "labels" and run.counts.classes
    outputs = run.counts.classes if of_labels else config.head.prototypes
    if log_K is not None and outputs and abs(log_K - math.log(outputs)) > NEAR:
        yield f"log_K is {log_K:g}, ln of its {outputs} outputs {math.log(outputs):g}"
        return
    for key in ("entropy", "mean_entropy"):
        if log_K is not None and known.get(key, 0) > log_K + NEAR:
            yield f"{key} is {known[key]:g}: above ln K"
    if h is None:
        return
    if known.get("mean_entropy", h) < h - NEAR:
        yield "the entropy of the mean target is below the mean entropy"
    whole, kl = known.get("cross_entropy"), known.get("kl")
    if whole is not None and kl is not None and abs(whole - h - kl) > NEAR * max(1.0, whole):
        yield f"cross_entropy is {whole:g}, entropy and kl are {h:g} and {kl:g}"


def _of_times(run: Record) -> Iterator[str]:
    times, hours = run.times, run.metrics.get("time_h")
    if times.started and times.ended and times.ended < times.started - DAY:
        yield "it ended before it was started"
    wall = times.wall_seconds
    if wall is not None and (wall < 0 or (hours and hours * 3600 > wall + 60)):
        yield f"it took {wall:g} s, and its steps alone {hours or 0:g} h"


def _of_evaluations(run: Record, config: _Config, curves: Mapping[str, Bins]) -> Iterator[str]:
    """The curves of evaluations begin at the initial network and end at the metrics."""
    places, epochs, every = curves.get("epoch", []), config.train.epochs, config.eval.every_epochs
    if run.stopped_on is not None:
        epochs = epochs * run.stopped_on.step // max(1, run.stopped_on.of)
    middle = range(every, epochs, every)
    if places != [0, *middle, epochs]:
        yield f"its evaluations are not those of {epochs} epochs, one every {every}"
        return
    for curve, at, metric in (("knn", 0, "knn_random"), ("knn", -1, "knn"),
                              ("student_knn", -1, "student_knn")):  # fmt: skip
        values, number = curves.get(curve, []), run.metrics.get(metric)
        if number is not None and len(values) == len(places) and values[at] not in (number, None):
            yield f"{metric} is {number:g}, in its curve {values[at]:g}"


def _places(curves: Mapping[str, Bins], bounds: Bounds) -> list[str]:
    """Whether the curves are those of all steps."""
    epochs = curves.get("epoch", [])
    if any(len(values) != len(bounds.epochs) for values in curves.values()) or not epochs:
        return [f"its curves have not the {len(bounds.epochs)} points of its steps"]
    if any(a is None or abs(a - b) > 1e-4 * b for a, b in zip(epochs, bounds.epochs, strict=True)):
        return ["its curves are not those of all its steps"]
    return []


def _of_last_epoch(
    run: Record, curves: Mapping[str, Bins], bounds: Bounds, per_epoch: int
) -> Iterator[str]:
    """Metrics of training are means of the last epoch, the decomposition error the largest."""
    first = bounds.steps - per_epoch
    sizes = list(map(len, bounds.spans))
    inside = [b for b, span in enumerate(bounds.spans) if span.start >= first]
    begun = inside[0] - 1 if inside and bounds.spans[inside[0]].start > first else None
    for key, value in run.metrics.items():
        bins = curves.get(key)
        if value is None or bins is None:
            continue
        if key == "decomposition_error":
            largest = max((b for b in bins if b is not None), default=0.0)
            if value < largest * (1 - NEAR):
                yield f"{key} is {value:g}, in its curve up to {largest:g}"
            continue
        sums = [(bins[b] or 0.0) * sizes[b] for b in inside]
        rest = (bins[begun] or 0.0) * sizes[begun] if begun is not None else 0.0
        if not inside or min(*sums, rest, 0.0) < 0:
            continue
        low, high = sum(sums) / per_epoch, (sum(sums) + rest) / per_epoch
        if not low * (1 - NEAR) - 1e-9 <= value <= high * (1 + NEAR) + 1e-9:
            yield f"{key} is {value:g}, in its curve {low:g} to {high:g} at the end"


def _of_sentinel(
    run: Record, curves: Mapping[str, Bins], bounds: Bounds, per_epoch: int, epochs: int
) -> Iterator[str]:
    """A state held for `patience` steps from `since_step` on; what all of the last steps show is
    the state at the end.
    """
    sentinel, steps, planned = run.sentinel, bounds.steps, epochs * per_epoch
    patience = max(MIN_PATIENCE, per_epoch)
    log_K = run.metrics.get("log_K")
    since, state = sentinel.since_step, sentinel.state
    late = since + patience - 1 > steps and state not in ("healthy", "nan")
    if not 1 <= since <= steps or late:
        yield f"its sentinel says {state} since step {since} of {steps}"
        return
    windows = list(enumerate(bounds.spans))
    held = [b for b, of in windows if since - 1 <= of.start and of.stop < since + patience]
    if state not in ("healthy", "nan") and not all(_shows(state, curves, b, log_K) for b in held):
        yield f"its sentinel says {state} since step {since}, its curves do not"
    last = [(b, len(of)) for b, of in windows if of.stop > steps - patience]
    for other in ("uniform", "one_dimension"):
        judged = steps - patience > planned // 5 and log_K and state not in (other, "nan")
        if judged and all(_shows(other, curves, b, log_K, size) for b, size in last):
            yield f"its sentinel says {state}, its last curves {other}"


def _shows(
    state: str, curves: Mapping[str, Bins], b: int, log_K: float | None, size: int = 0
) -> bool:
    """Whether the means of a bin can be those of steps in this state; with `size`, whether every
    one of so many steps must have been.
    """

    def mean(key: str) -> float | None:
        return curves[key][b] if key in curves else None

    h, kl, of_mean, spread = map(mean, ("entropy", "kl", "mean_entropy", "output_spread"))
    if spread is not None and h is None:
        return size == 0 and (state != "constant" or spread < SPREAD_LIMIT)
    if h is None or kl is None or of_mean is None or not log_K:
        return size == 0
    times = size or 1 - NEAR  # of one mean, rounding is forgiven
    uniform = kl * times < KL_LIMIT and (log_K - h) * times < (1 - HIGH) * log_K
    one = kl * times < KL_LIMIT and max(h, of_mean) * times < LOW * log_K
    constant = (of_mean - h) * times < INFORMATION_LIMIT * log_K
    return {"uniform": uniform, "one_dimension": one, "constant": constant}[state]
