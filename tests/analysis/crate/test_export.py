"""`repro export-crate`: what is published and how each number was made, against its sources."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from analysis.crate.export import METADATA, export_crate
from repro.cli import main
from repro.errors import UserError
from repro.harness.runs.records import as_line, read_records
from repro.harness.runs.seal import append
from tests.analysis.crate.conftest import Entities, entities_of

ROOT = Path(__file__).parents[3]
PUBLISHED = ROOT / "results" / "published" / "laptop"


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (PUBLISHED / name).read_text().splitlines()]


def ids(value: Any) -> list[str]:
    return [one["@id"] for one in (value if isinstance(value, list) else [value])]


def values(entities: Entities, action: dict[str, Any], key: str) -> dict[str, Any]:
    """Settings among what an action refers to, by name."""
    named = [entities[identity] for identity in ids(action[key]) if identity in entities]
    return {one["name"]: one["value"] for one in named if one["@type"] == "PropertyValue"}


def test_its_files_are_those_of_the_repository_with_their_checksums(
    crate: Path, entities: Entities
) -> None:
    on_disk = {path.relative_to(crate).as_posix() for path in crate.rglob("*") if path.is_file()}
    told = {identity for identity, one in entities.items() if one["@type"] == "File"}
    assert told == on_disk - {METADATA}
    assert set(ids(entities["./"]["hasPart"])) == told
    for place in told:
        content = (crate / place).read_bytes()
        assert content == (ROOT / place).read_bytes()
        assert entities[place]["sha256"] == hashlib.sha256(content).hexdigest()
        assert entities[place]["contentSize"] == str(len(content))
    published = {path.name for path in PUBLISHED.iterdir()}
    assert {place.rpartition("/")[2] for place in told if "/laptop/" in place} == published
    experiments = {path.name for path in (ROOT / "experiments").glob("*.yaml")}
    assert {p for p in told if p.count("/") == 1} >= {f"experiments/{n}" for n in experiments}
    assert {"CITATION.cff", "LICENSE", "results/published/SCHEMA.md"} <= told
    assert not any("clusters" in place for place in told)  # of a place, not of a result


def test_every_published_run_is_an_action_with_its_code_rows_times_and_agent(
    entities: Entities,
) -> None:
    records = lines("records.jsonl")
    trainings = {i for i in entities if i.startswith("#run-")}
    assert trainings == {f"#run-{record['id']}" for record in records}
    for number, record in enumerate(records, 1):
        action = entities[f"#run-{record['id']}"]
        assert action["@type"] == "CreateAction"
        env, times = record["env"], record["times"]
        code, *packages = [entities[identity] for identity in ids(action["instrument"])]
        assert code["@id"] == f"swh:1:rev:{env['git_sha']}"
        assert (code["@type"], code["version"]) == ("SoftwareSourceCode", env["git_sha"])
        versions = {one["name"]: one["softwareVersion"] for one in packages}
        assert versions == {name: env[name] for name in versions}
        assert versions.keys() == {"python", "torch", "torchvision", "timm", "numpy"}
        for key, time in (("startTime", times["started"]), ("endTime", times["ended"])):
            told = datetime.fromisoformat(action[key])
            assert abs(told - datetime.fromtimestamp(time, UTC)).total_seconds() <= 1
        made_of = values(entities, action, "object")
        assert (made_of["seed"], made_of["data"]) == (record["seed"], "skimage16")
        assert "experiments/scales/laptop.yaml" in ids(action["object"])
        results = ids(action["result"])
        assert results[0] == "results/published/laptop/records.jsonl"
        assert values(entities, action, "result") == {"record": record["id"]}
        assert f"line {number} of records.jsonl" in action["description"]
        used = values(entities, action, "resourceUsage")
        hardware = {k: v for k, v in env["hardware"].items() if v is not None}
        assert used.items() >= (hardware | {"platform": env["platform"]}).items()
        assert entities[ids(action["agent"])[0]]["name"] == "The dino-repro authors"


def test_a_run_names_every_row_that_it_serves_and_their_files(entities: Entities) -> None:
    (run,) = [r for r in lines("records.jsonl") if r["slug"] == "F7-both-laptop-s0"]
    action = entities[f"#run-{run['id']}"]
    rows = [entities[i]["value"] for i in ids(action["object"]) if i.startswith("#row-")]
    assert {"F7.both", "T7.r1", "F6R.momentum"} <= set(rows)
    files = {identity for identity in ids(action["object"]) if identity.endswith(".yaml")}
    of_rows = {f"experiments/{row.partition('.')[0]}.yaml" for row in rows}
    assert files == of_rows | {"experiments/scales/laptop.yaml"}
    assert all(row in action["description"] for row in rows)


def test_every_evaluation_is_an_action_on_its_run(entities: Entities) -> None:
    made = lines("evaluations.jsonl")
    assert sum(identity.startswith("#evaluation-") for identity in entities) == len(made)
    for number, line in enumerate(made, 1):
        action = entities[f"#evaluation-line-{number}"]
        expected = {"record": line["run"], "protocol": line["name"]}
        assert values(entities, action, "object") == expected
        assert ids(action["instrument"])[0] == f"swh:1:rev:{line['env']['git_sha']}"


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if value.keys() == {"@id"}:
            yield value["@id"]
        else:
            for one in value.values():
                yield from references(one)
    elif isinstance(value, list):
        for one in value:
            yield from references(one)


def test_what_is_referred_to_is_there(entities: Entities) -> None:
    referred = {i for one in entities.values() for i in references(list(one.values()))}
    assert referred - entities.keys() == {"https://w3id.org/ro/crate/1.1"}
    actions = {i for i, one in entities.items() if one["@type"] == "CreateAction"}
    assert set(ids(entities["./"]["mentions"])) == actions


def test_it_names_licence_profile_and_the_paper_with_its_authors(entities: Entities) -> None:
    root = entities["./"]
    assert root["license"]["@id"] == "https://spdx.org/licenses/Apache-2.0"
    assert root["conformsTo"]["@id"] == "https://w3id.org/ro/wfrun/process/0.5"
    paper = entities[root["citation"]["@id"]]
    assert paper["@id"] == "https://doi.org/10.1109/ICCV48922.2021.00951"
    assert "arXiv:2104.14294" in paper["identifier"]
    families = [entities[identity]["familyName"] for identity in ids(paper["author"])]
    assert families[0] == "Caron"
    assert len(families) == 7
    ended = max(record["times"]["ended"] for record in lines("records.jsonl"))
    told = datetime.fromisoformat(root["datePublished"])
    assert abs(told.timestamp() - ended) <= 1  # not today


def test_the_same_records_give_the_same_bytes(
    crate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = tmp_path / "again"
    again.mkdir()
    assert main(["export-crate", str(again)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == str(again / METADATA)
    runs, made = len(lines("records.jsonl")), len(lines("evaluations.jsonl"))
    assert second.startswith(f"{runs} runs, {made} evaluations, ")
    assert (again / METADATA).read_bytes() == (crate / METADATA).read_bytes()


@pytest.fixture
def copied(results: Path) -> Path:
    folder = results / "published" / "laptop"
    folder.mkdir(parents=True)
    for name in ("records.jsonl", "evaluations.jsonl"):
        shutil.copy(PUBLISHED / name, folder)
    return folder


def test_repetitions_are_actions_too(copied: Path, tmp_path: Path) -> None:
    run = read_records(copied / "records.jsonl")[0]
    line = {
        "schema": run.schema, "run": run.id, "slug": run.slug, "agreement": "identical",
        "metrics": run.metrics, "env": as_line(run)["env"] | {"git_sha": "f" * 40}, "started": 6e8,
    }  # fmt: skip
    append(copied / "replications.jsonl", [line])
    assert export_crate(tmp_path / "crate", "laptop").replications == 1
    entities = entities_of(tmp_path / "crate")
    action = entities["#replication-line-1"]
    assert ids(action["instrument"])[0] == f"swh:1:rev:{'f' * 40}"
    assert action["result"]["@id"] == "results/published/laptop/replications.jsonl"
    assert action["startTime"] == "1989-01-05T10:40:00+00:00"
    assert values(entities, action, "object") == {"record": run.id}


def test_records_that_cannot_be_believed_are_not_exported(copied: Path, tmp_path: Path) -> None:
    file = copied / "records.jsonl"
    file.write_text(file.read_text().replace('"knn": ', '"knn": 1', 1))
    with pytest.raises(UserError, match=r"line 1 .*edited by hand; repro verify --scale laptop"):
        export_crate(tmp_path / "crate", "laptop")
    assert not (tmp_path / "crate").exists()


def test_mistakes_are_one_line(
    copied: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def complaint(*words: str) -> str:
        assert main(["export-crate", *words]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert "no records.jsonl; repro publish all --scale gpu" in complaint("new", "--scale", "gpu")
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    assert f"{full}: something is there" in complaint(str(full))
    assert "something is there" in complaint(str(full / "mine.txt"))
    assert [path.name for path in full.iterdir()] == ["mine.txt"]
    monkeypatch.setitem(sys.modules, "rocrate.rocrate", None)
    assert complaint(str(tmp_path / "new")).endswith("pip install rocrate")
    assert not (tmp_path / "new").exists()
