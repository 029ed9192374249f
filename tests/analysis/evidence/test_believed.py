"""What a record can say that is not so: every lie is refused by name, and nothing else changes.

Each is told in a copy of the published folder and sealed as if it were true, so that the checks of
what it says, not its seal, have to find it. Evidence is then exactly the honest one without what
was refused, hence so is every verdict.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from analysis.evidence.believed import Believed, believe, found_in_files
from analysis.evidence.evidence import Evidence
from analysis.verdicts.claims import check
from repro.harness.runs import contradictions, seal
from repro.harness.runs.records import as_line
from repro.train import MIN_PATIENCE

Line = dict[str, Any]
Told = tuple[list[Line], list[Line]]
Tell = Callable[[list[Line], list[Line]], None]
PUBLISHED = Path(__file__).parents[3] / "results" / "published" / "laptop"
# Table 7's complete method, its seeds 0 and 1; without momentum.
DINO, SEED_1, NO_MOMENTUM = "139aa3a859", "78d86030ee", "3c0f8e9c5d"


def lines_in(name: str) -> list[Line]:
    lines = [json.loads(line) for line in (PUBLISHED / name).read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("previous", "digest")} for line in lines]


HONEST: Told = lines_in("records.jsonl"), lines_in("evaluations.jsonl")
BY_ID = {line["id"]: line for line in HONEST[0]}
COLLAPSED = next(i for i, r in BY_ID.items() if r["sentinel"]["state"] == "one_dimension")


def write(folder: Path, told: Told, sealed: bool = True) -> Path:
    folder.mkdir(parents=True)
    for name, lines in zip(("records.jsonl", "evaluations.jsonl"), told, strict=True):
        texts = seal.sealed(lines, "") if sealed else (json.dumps(line) + "\n" for line in lines)
        (folder / name).write_text("".join(texts))
    return folder


def believed_in(folder: Path) -> Believed:
    return believe(found_in_files(folder), "laptop")


def without(told: Told, ids: Sequence[str]) -> Told:
    records, evaluations = told
    return [r for r in records if r["id"] not in ids], [
        e for e in evaluations if e["run"] not in ids
    ]


def contents(believed: Believed) -> dict[str, tuple[Line, dict[str, Any]]]:
    return {
        i: (as_line(run), {name: as_line(one) for name, one in run.evaluations.items()})
        for i, run in believed.records.items()
    }


def with_id(record: Line) -> Line:
    text = json.dumps(
        {"schema": record["schema"], "config": record["config"]},
        sort_keys=True, separators=(",", ":"),
    )  # fmt: skip
    return record | {"id": hashlib.sha256(text.encode()).hexdigest()[:10]}


def as_seed(record: Line, seed: int) -> Line:
    """The record of another seed, with the same numbers."""
    other = copy.deepcopy(record) | {"seed": seed}
    other["config"]["seed"] = seed
    return with_id(other)


def scaled(record: Line, factor: float) -> Line:
    """Another outcome of the same training: metrics that its curves do not have."""
    other = copy.deepcopy(record)
    for key in ("loss", "entropy", "cross_entropy", "kl"):
        other["metrics"][key] *= factor
    return other


@dataclass(frozen=True)
class Lie:
    """`tell` changes the lines in place; `why` is in the reason; `lost` is what is refused."""

    tell: Tell
    why: str
    lost: tuple[str, ...] = (DINO,)


def set_in(identity: str, *path: str, to: Any) -> Tell:
    """Change one value of a record."""

    def tell(records: list[Line], _: list[Line]) -> None:
        place = next(line for line in records if line["id"] == identity)
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = to

    return tell


def evaluated(of: str, **changes: Any) -> Tell:
    """Change the evaluation of this name of the complete method."""

    def tell(_: list[Line], evaluations: list[Line]) -> None:
        (line,) = (e for e in evaluations if (e["run"], e["name"]) == (DINO, of))
        line |= changes

    return tell


def added(*lines: Line) -> Tell:
    return lambda records, _: records.extend(lines)


def few_steps(records: list[Line], _: list[Line]) -> None:
    (line,) = (r for r in records if r["id"] == DINO)
    line["counts"] |= {"steps": 10, "images_seen": 640}


def smaller_kl(records: list[Line], _: list[Line]) -> None:
    """A collapse, by numbers that agree with one another."""
    (line,) = (r for r in records if r["id"] == DINO)
    line["metrics"] |= {"kl": 0.01, "cross_entropy": line["metrics"]["entropy"] + 0.01}


def longer_curves(records: list[Line], _: list[Line]) -> None:
    (line,) = (r for r in records if r["id"] == DINO)
    for key, values in line["curves"].items():
        if key != "eval":
            line["curves"][key] = values[:30]


def stranger(_: list[Line], evaluations: list[Line]) -> None:
    evaluations.append(evaluations[0] | {"run": "0123456789"})


LINEAR = {"data": "", "protocol": "linear", "source": "", "settings": {"linear_epochs": 1}}
MASKS = {"data": "voc12", "protocol": "attention", "settings": {}, "source": "voc12"}
METRICS = BY_ID[DINO]["metrics"]
CURVE = BY_ID[DINO]["curves"]["eval"]
LIES: dict[str, Lie] = {
    "a config edited under its id": Lie(
        set_in(DINO, "config", "optim", "lr", to=0.4), "its id is not the hash of its config"
    ),
    "a seed that is not the config's": Lie(set_in(DINO, "seed", to=7), "its seed 7 is not the 0"),
    "one id twice": Lie(
        added(BY_ID[DINO] | {"slug": "another"}), "its id stands in 2 places"
    ),
    "another scale": Lie(set_in(DINO, "scale", to="gpu"), "of scale gpu, not laptop"),
    "a layout of the future": Lie(set_in(DINO, "schema", to=99), "schema 99"),
    "a tenth of the steps": Lie(few_steps, "it has 10 of the 640 steps"),
    "images that no step has seen": Lie(
        set_in(DINO, "counts", "images_seen", to=1), "it has seen 1 images in 640 steps"
    ),
    "no test images": Lie(set_in(DINO, "counts", "test_images", to=0), "no test images"),
    "a number that is text": Lie(set_in(DINO, "metrics", "knn", to="71.2"), "is no record"),
    "more than everything": Lie(set_in(DINO, "metrics", "knn", to=101.0), "above 100 %"),
    "less than nothing": Lie(set_in(DINO, "metrics", "entropy", to=-1.0), "below 0"),
    "a share of no number of images": Lie(
        set_in(DINO, "metrics", "knn", to=71.2), "no number of its 1024 test images"
    ),
    "another accuracy": Lie(
        set_in(DINO, "metrics", "knn", to=100 * 800 / 1024), "in its curve 69.7266"
    ),
    "another floor": Lie(
        set_in(DINO, "metrics", "knn_random", to=100 * 64 / 1024), "knn_random is 6.25, in its"
    ),
    "an accuracy and its curve of fewer evaluations": Lie(
        set_in(DINO, "curves", "eval", to={k: v[:-1] for k, v in CURVE.items()}),
        "its evaluations are not those of 10 epochs",
    ),
    "entropy above ln K": Lie(set_in(DINO, "metrics", "mean_entropy", to=9.0), "above ln K"),
    "another ln K": Lie(set_in(DINO, "metrics", "log_K", to=9.0), "ln of its 64 outputs"),
    "a mean with less entropy than what it is of": Lie(
        set_in(DINO, "metrics", "mean_entropy", to=METRICS["entropy"] / 2), "below the mean entropy"
    ),
    "parts that are not the whole": Lie(
        set_in(DINO, "metrics", "kl", to=0.01), "cross_entropy is"
    ),
    "a collapse that agrees with itself": Lie(smaller_kl, "cross_entropy is 2.04945, in its"),
    "an identity that holds better": Lie(
        set_in(DINO, "metrics", "decomposition_error", to=0.0), "decomposition_error is 0"
    ),
    "half the curves": Lie(longer_curves, "its curves have not the 60 points"),
    "health": Lie(
        set_in(COLLAPSED, "sentinel", to={"state": "healthy", "since_step": 1, "meaning": ""}),
        "its sentinel says healthy, its last curves one_dimension",
        (COLLAPSED,),
    ),
    "a collapse": Lie(
        set_in(DINO, "sentinel", to={"state": "uniform", "since_step": 300, "meaning": ""}),
        "its sentinel says uniform since step 300, its curves do not",
    ),
    "a collapse that came too late to be seen": Lie(
        set_in(DINO, "sentinel", to={"state": "constant", "since_step": 630, "meaning": ""}),
        "constant since step 630 of 640",
    ),
    "an end before the start": Lie(set_in(DINO, "times", "ended", to=1.0), "ended before"),
    "a run in no time": Lie(set_in(DINO, "times", "wall_seconds", to=-1.0), "it took -1 s"),
    "a seed that does nothing": Lie(
        added(as_seed(BY_ID[DINO], 5), as_seed(BY_ID[DINO], 6)),
        "seeds 0 and 5 and 6 have the same metrics: a copy, or a seed that does nothing",
    ),
    "a copy whose numbers were changed": Lie(
        added(as_seed(scaled(BY_ID[DINO], 1.0001), 5)), "seeds 0 and 5 have the same curves"
    ),
    "a pilot": Lie(added(as_seed(BY_ID[SEED_1], 123)), "a pilot: seeds from 100 on", ()),
}  # fmt: skip
OF_EVALUATIONS: dict[str, tuple[Tell, str]] = {
    "an earlier checkpoint": (evaluated("linear", step=64), "it is of step 64, the last is 640"),
    "a checkpoint without a step": (evaluated("linear", step=None), "it is of step None"),
    "other settings": (
        evaluated("linear", request=LINEAR), "linear_epochs is 1, columns ask for 30"
    ),
    "other data": (
        evaluated("attention@voc12", request=MASKS), "source is voc12, columns ask for composites"
    ),
    "another protocol": (evaluated("linear", request=MASKS), "data is voc12, columns ask for none"),
    "a number of the training": (
        evaluated("linear", metrics={"linear": 50.0, "knn": 99.0}), "which it does not measure"
    ),
    "more than everything": (evaluated("linear", metrics={"linear": 120.0}), "above 100 %"),
    "a share of no number of images": (
        evaluated("linear", metrics={"linear": 71.2}), "no number of its 1024 test images"
    ),
    "right answers that are not as many": (
        evaluated("knn", answers={"k": 20, "classes": [50.0] * 16, "right": "A" * 171 + "="}),
        "its answers are right for 0 %, not for",
    ),
    "answers to fewer images": (
        evaluated("knn", answers={"k": 20, "classes": [50.0] * 16, "right": "AAAA"}),
        "its answers are not those to 1024 test images of 16 classes",
    ),
    "no protocol": (evaluated("linear", name="guess"), "no such protocol"),
    "a run that is not there": (stranger, "its run is not there, or refused"),
}  # fmt: skip


def told(tell: Tell) -> Told:
    records, evaluations = copy.deepcopy(HONEST)
    tell(records, evaluations)
    return records, evaluations


def test_nothing_published_is_refused_but_a_pilot() -> None:
    believed = believed_in(PUBLISHED)
    (pilot,) = believed.refused
    assert pilot.expected
    assert (pilot.id, len(believed.records)) == ("7cfdf3162b", len(HONEST[0]) - 1)
    joined = sum(len(run.evaluations) for run in believed.records.values())
    assert joined == len(HONEST[1])


@pytest.mark.parametrize("name", LIES)
def test_a_record_that_lies_is_refused_by_name_and_nothing_else_changes(
    name: str, tmp_path: Path
) -> None:
    lie = LIES[name]
    believed = believed_in(write(tmp_path / "told", told(lie.tell)))
    assert any(lie.why in one.why for one in believed.refused), believed.refused[0]
    honest = believed_in(write(tmp_path / "honest", without(HONEST, lie.lost)))
    assert contents(believed) == contents(honest)
    assert {one.id for one in believed.refused if not one.expected} >= set(lie.lost)


@pytest.mark.parametrize("name", OF_EVALUATIONS)
def test_an_evaluation_that_lies_is_refused_by_name_and_its_run_keeps_the_others(
    name: str, tmp_path: Path
) -> None:
    tell, why = OF_EVALUATIONS[name]
    lied = told(tell)
    believed = believed_in(write(tmp_path / "told", lied))
    (refusal,) = (one for one in believed.refused if not one.expected)
    assert why in refusal.why
    unchanged = [line for line in lied[1] if line in HONEST[1] and line["run"] in BY_ID]
    assert contents(believed) == contents(
        believed_in(write(tmp_path / "a", (HONEST[0], unchanged)))
    )


def test_lies_that_are_added_change_no_verdict(tmp_path: Path) -> None:
    """Numbers that would decide, told of seeds that were never trained, and of one id twice."""
    better = copy.deepcopy(BY_ID[DINO])
    better["metrics"]["knn"] = better["curves"]["eval"]["knn"][-1] = 100.0
    dirty = as_seed(BY_ID[NO_MOMENTUM], 9)
    dirty["env"]["dirty"] = True
    liars = [as_seed(better, 100 + i) for i in range(9)]
    liars += [better | {"seed": 8}, better | {"scale": "gpu"}, dirty | {"schema": 2}]
    records, evaluations = copy.deepcopy(HONEST)
    lied = Evidence(
        "laptop", believed_in(write(tmp_path / "a", (records + liars, evaluations))).records
    )
    honest = Evidence("laptop", believed_in(write(tmp_path / "b", HONEST)).records)
    ids = ["T7", "F7", "F6R", "T13"]
    assert [v.as_json() for v in check(ids, lied)] == [v.as_json() for v in check(ids, honest)]


def test_runs_and_evaluations_of_uncommitted_code_are_believed_and_decide_nothing(
    tmp_path: Path,
) -> None:
    records, evaluations = copy.deepcopy(HONEST)
    rows = {r["id"] for r in records if r["config"]["optim"] == BY_ID[DINO]["config"]["optim"]}
    for line in records:
        line["env"]["dirty"] |= line["id"] == DINO
    for line in evaluations:
        line["env"]["dirty"] |= line["run"] == SEED_1 and line["name"] == "linear"
    believed = believed_in(write(tmp_path / "told", (records, evaluations)))
    assert rows & believed.records.keys() == rows - {"7cfdf3162b"}
    evidence = Evidence("laptop", believed.records)
    assert 0 in evidence.cell("T7.r1.knn").values
    assert 0 not in evidence.committed.cell("T7.r1.knn").values
    assert 1 in evidence.committed.cell("T7.r1.knn").values
    assert 1 not in evidence.committed.cell("T7.r1.linear").values
    (healthy,) = (v for v in check(["F7"], evidence) if v.id == "C.F7.3")
    assert str(healthy.verdict) == "2 of 3 seeds"
    honest = Evidence("laptop", believed_in(PUBLISHED).records)
    assert honest.committed is honest


def test_a_file_without_seals_is_believed_as_it_was(tmp_path: Path) -> None:
    folder = write(tmp_path / "told", HONEST, sealed=False)
    assert contents(believed_in(folder)) == contents(believed_in(PUBLISHED))


def test_the_sentinels_patience_is_that_of_the_trainer() -> None:
    assert contradictions.MIN_PATIENCE == MIN_PATIENCE
