"""Which records and evaluations are evidence: the only place where one is believed.

Each is checked against itself (`contradictions.py`), against the others, and against what the
scale asks for. What fails is refused, with the reason in one line, and has no part in any cell,
claim or figure. What code that was not committed has made is believed, and no claim rests on it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import msgspec

from repro.config.compose import compose
from repro.config.schema import RunConfig
from repro.errors import UserError
from repro.harness.evaluation.names import PROTOCOLS, numbers
from repro.harness.evaluation.requests import request_for
from repro.harness.experiments.folders import experiments_dir
from repro.harness.runs.contradictions import (
    losses_of,
    of_answers,
    of_content,
    of_identity,
    of_metrics,
)
from repro.harness.runs.planned import OWN
from repro.harness.runs.published import Candidate, Read, Refusal, read
from repro.harness.runs.records import (
    PublishedEvaluation,
    Record,
    evaluations_of,
    record,
    with_evaluations,
)
from repro.harness.runs.store import RunFolder, find_runs

FIRST_PILOT = 100  # runs of this seed and later ones choose settings; they are no evidence
ALSO_THERE = "made by repro train, and asked for by no submission: it is no evidence"
PILOT = f"a pilot: seeds from {FIRST_PILOT} on are no evidence"
# What two seeds of a config share only where one is a copy, or where a seed does nothing.
OF_THE_SEED = ("loss", "grad_norm", "feature_spread", "knn", "student_knn", "knn_random")
Runs = list[Candidate[Record]]
Numbers = tuple[float | None, ...]


@dataclass(frozen=True)
class Believed:
    """Records with the metrics of their evaluations, by run id, and what was refused."""

    records: Mapping[str, Record]
    refused: tuple[Refusal, ...]


@dataclass(frozen=True)
class Beside:
    """A finished run of one's own that no submission asked for: it is there and does not count."""

    slug: str
    seed: int


@dataclass(frozen=True)
class Found:
    """What a source has, before it is believed."""

    runs: Read[Record] = field(default_factory=lambda: Read([], []))
    evaluations: Read[PublishedEvaluation] = field(default_factory=lambda: Read([], []))
    beside: dict[str, Beside] = field(default_factory=dict)


def found_in_files(folder: Path) -> Found:
    """The lines of a folder of published/."""
    return Found(
        read(folder / "records.jsonl", Record),
        read(folder / "evaluations.jsonl", PublishedEvaluation),
    )


def found_in_runs(runs: Path, scale: str) -> Found:
    """The finished run folders of a scale; one that cannot be read is refused."""
    found = Found()
    for folder in find_runs(runs):
        try:
            _add(found, folder, scale)
        except UserError as error:
            found.runs.refused.append(Refusal(str(folder.path), folder.id, str(error)))
    return found


def _add(found: Found, folder: RunFolder, scale: str) -> None:
    told = folder.read_run()
    if told.scale not in (scale, "") or folder.result() is None:
        return
    if told.experiment == OWN:
        found.beside[folder.id] = Beside(folder.slug, told.seed)
        return
    run = record(folder)
    if run.scale == scale:
        where = str(folder.path)
        found.runs.candidates.append(Candidate(where, run))
        made = [Candidate(f"{where}: {one.name}", one) for one in evaluations_of(folder)]
        found.evaluations.candidates.extend(made)


def believe(found: Found, scale: str) -> Believed:
    """What of one source is evidence at a scale."""
    refused = [*found.runs.refused, *found.evaluations.refused]
    sound: list[Candidate[Record]] = []
    for candidate in found.runs.candidates:
        run = candidate.line
        if run.scale == scale and run.seed >= FIRST_PILOT and not any(of_identity(run)):
            refused.append(Refusal(candidate.where, run.id, PILOT, expected=True))
        elif why := next(_against_itself(run, scale), ""):
            refused.append(Refusal(candidate.where, run.id, why))
        else:
            sound.append(candidate)
    doubtful: dict[str, str] = {}
    for group, why in _told_twice(sound):
        doubtful = {one.where: why for one in group} | doubtful
    refused += [
        Refusal(one.where, one.line.id, doubtful[one.where])
        for one in sound
        if one.where in doubtful
    ]
    records = {one.line.id: one.line for one in sound if one.where not in doubtful}
    pilots = {refusal.id for refusal in refused if refusal.expected}
    believed: dict[str, list[PublishedEvaluation]] = defaultdict(list)
    for one in found.evaluations.candidates:
        made = one.line
        if made.run in pilots:
            refused.append(Refusal(one.where, made.run, PILOT, expected=True))
        elif why := next(_against_its_run(made, records.get(made.run), scale), ""):
            refused.append(Refusal(one.where, made.run, f"{made.name}: {why}"))
        else:
            believed[made.run].append(made)
    joined = {i: with_evaluations(records[i], made) for i, made in believed.items()}
    return Believed(records | joined, tuple(refused))


def _against_itself(run: Record, scale: str) -> Iterator[str]:
    yield from of_identity(run)
    if run.scale != scale:
        yield f"it is of scale {run.scale}, not {scale}"
    yield from of_content(run)


def _told_twice(sound: Iterable[Candidate[Record]]) -> Iterator[tuple[Runs, str]]:
    """Groups of records that cannot all be true; nothing tells which one is."""
    by_id: dict[str, Runs] = defaultdict(list)
    by_outcome: dict[tuple[bytes, str, Numbers], Runs] = defaultdict(list)
    for candidate in sound:
        run = candidate.line
        by_id[run.id].append(candidate)
        config = msgspec.json.encode(run.config | {"seed": None}, order="sorted")
        values = tuple(run.metrics.get(key) for key in OF_THE_SEED)
        if values[0] is not None:
            by_outcome[config, "metrics", values].append(candidate)
        if len(losses := losses_of(run)) > 1:
            by_outcome[config, "curves", losses].append(candidate)
    for group in by_id.values():
        if len(group) > 1:
            yield group, f"its id stands in {len(group)} places"
    for (_, what, _), group in by_outcome.items():
        seeds = sorted({one.line.seed for one in group})
        if len(seeds) > 1:
            named = " and ".join(map(str, seeds))
            yield group, f"seeds {named} have the same {what}: a copy, or a seed that does nothing"


def _against_its_run(made: PublishedEvaluation, run: Record | None, scale: str) -> Iterator[str]:
    if run is None:
        yield "its run is not there, or refused"
        return
    steps = run.counts.steps or _steps_seen(run)
    if made.step is None or (steps and made.step != steps):
        yield f"it is of step {made.step}, the last is {steps}"
    yield from _against_request(made, scale)
    yield from of_metrics(made.metrics, run.counts.test_images)
    yield from of_answers(made, run)


def _steps_seen(run: Record) -> int | None:
    seen = run.counts.images_seen
    return seen and seen // int(run.config["train"]["batch_size"])


def _against_request(made: PublishedEvaluation, scale: str) -> Iterator[str]:
    """Whether it answers what columns of this scale ask for, and says nothing else."""
    protocol, _, data = made.name.partition("@")
    if protocol not in PROTOCOLS:
        yield "no such protocol"
        return
    ending = f"@{data}" if data else ""
    plain = {f"{name}{ending}" for name in numbers(protocol)}
    for key in made.metrics:
        beside = key.removesuffix(ending).endswith(("_rate", "_penalty"))
        if key not in plain and not (beside and key.startswith(protocol)):
            yield f"it has {key}, which it does not measure"
    if not made.request and protocol == "knn":
        return  # as before requests were kept
    asked = request_for(made.name, _config_of(scale, experiments_dir())).published
    said = dict(made.request)
    settings = said.pop("settings", {})
    wanted = asked.pop("settings")
    differ = {key: (said.get(key), value) for key, value in asked.items() if said.get(key) != value}
    differ |= {k: (settings[k], v) for k, v in wanted.items() if k in settings and settings[k] != v}
    for key, (ours, its) in differ.items():
        yield f"{key} is {ours or 'none'}, columns ask for {its or 'none'}"


@cache
def _config_of(scale: str, experiments: Path) -> RunConfig:
    return compose(experiments, scale)
