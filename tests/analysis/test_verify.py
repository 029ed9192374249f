"""`repro verify`: what was changed by hand in a published folder is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.publish import LINES, rebuild, write_from_records
from analysis.verify import REPLICATIONS, verify
from repro.cli.parser import main
from repro.errors import UserError
from repro.harness.runs.records import as_line, read_records
from repro.harness.runs.seal import append, end_of, lines_of, lost, sealed

PUBLISHED = Path(__file__).parents[2] / "results" / "published" / "laptop"


@pytest.fixture
def copied(results: Path) -> Path:
    """The published folder, in which somebody edits; figures are left out."""
    folder = results / "published" / "laptop"
    kept = shutil.ignore_patterns("*.png", "*.svg")
    shutil.copytree(PUBLISHED, folder, ignore=kept)
    return folder


def wrong(scale: str = "laptop") -> list[str]:
    return verify(scale, figures=False).wrong


def edit(file: Path, number: int, change: Callable[[str], str]) -> None:
    lines = file.read_text().splitlines(keepends=True)
    lines[number - 1] = change(lines[number - 1])
    file.write_text("".join(lines))


def test_what_is_published_is_sealed_and_is_what_its_records_give(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "--quick"]) == 0
    said = capsys.readouterr().out
    assert all(line.startswith("fine: ") for line in said.splitlines())
    assert "a pilot: seeds from 100 on are no evidence" in said


def test_the_first_line_that_was_edited_is_named(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(copied / "records.jsonl", 7, lambda line: line.replace('"knn": ', '"knn": 1', 1))
    assert main(["verify", "--quick"]) == 1
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith(f"{copied / 'records.jsonl'}: line 7 (")
    assert first.endswith("its digest is not that of its content: edited by hand")


def test_a_line_that_was_removed_is_missed(copied: Path) -> None:
    edit(copied / "evaluations.jsonl", 5, lambda _: "")
    assert "evaluations.jsonl: line 4 (" in wrong()[0]


def test_a_chain_that_was_made_anew_is_not_the_one_that_the_page_names(copied: Path) -> None:
    """Also where all numbers of all tables stay as they are."""
    file = copied / "evaluations.jsonl"
    contents = [json.loads(line) for line in lines_of(file)]
    plain = [{k: v for k, v in c.items() if k not in ("previous", "digest")} for c in contents]
    plain[3]["wall_seconds"] += 1
    file.write_text("".join(sealed(plain, "")))
    lost, page = wrong()
    assert lost.startswith(f"{file}: lines are lost: none has the digest ")
    assert page.startswith(f"{copied / 'README.md'}: not what the records give, first in line")


def test_lines_at_the_end_are_missed(copied: Path) -> None:
    file = copied / "records.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    lost, page = wrong()  # a pilot's: no table misses it
    assert lost.startswith(f"{file}: lines are lost: none has the digest ")
    assert "README.md: not what the records give" in page


@pytest.mark.slow
def test_every_command_that_shows_published_records_names_a_file_that_was_cut(
    copied: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    at = ["--scale", "laptop"]
    commands = (
        ["table", "F7", *at], ["check", "F7", *at], ["check", "F7", *at, "--json"],
        ["report", *at, "--out", str(tmp_path / "page.html")],
        ["figure", "F7", *at], ["publish", "F7", *at],
    )  # fmt: skip
    for name, asked in (("records.jsonl", commands), ("evaluations.jsonl", commands[:1])):
        file = copied / name
        content = file.read_bytes()
        file.write_bytes(content[: len(content) * 2 // 3])
        for command in asked:
            refused = 2 if command[0] == "publish" else 0
            assert main(command) == refused, command
            told = capfd.readouterr()
            where = f'"{file}",' if "--json" in command else f"{file}: "
            assert where in told.out + told.err, command
            assert "lines are lost: none has the digest" in told.out + told.err, command
        assert file.read_bytes() == content[: len(content) * 2 // 3]
        file.write_bytes(content)


def test_a_list_names_published_records_that_are_lost(
    copied: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = copied / "records.jsonl"
    file.write_bytes(b"")
    assert main(["list", "--json"]) == 0
    told = capfd.readouterr()
    assert f"{file}: lines are lost" in told.err
    assert json.loads(told.out)


def test_lines_that_joined_after_the_page_was_written_are_no_loss(copied: Path) -> None:
    file = copied / "evaluations.jsonl"
    contents = [json.loads(line) for line in lines_of(file)]
    again = {k: v for k, v in contents[0].items() if k not in ("previous", "digest")}
    append(file, [again])
    assert not lost(file, lines_of(file))
    write_from_records("laptop", copied, ())
    assert end_of(file) in (copied / "README.md").read_text()
    assert not lost(file, lines_of(file))


def test_a_table_that_was_typed_in_is_named_with_its_line(copied: Path) -> None:
    edit(copied / "T7.md", 5, lambda line: line.replace("70.8", "76.8"))
    (copied / "T99.md").write_text("| ours | 99.9 |\n")
    (copied / "F7.tex").unlink()
    (copied / "NOTES.md").write_text("What people write is theirs.\n")
    missing, edited, foreign = sorted(wrong())
    assert missing.endswith("F7.tex: missing, though the records give it")
    assert edited.endswith("T7.md: not what the records give, first in line 5")
    assert foreign.endswith("T99.md: the records do not give it")


def test_lines_without_digests_are_said_to_be_unprotected(copied: Path) -> None:
    for name in LINES:
        contents = [json.loads(line) for line in lines_of(copied / name)]
        plain = [{k: v for k, v in c.items() if k not in ("previous", "digest")} for c in contents]
        (copied / name).write_text("".join(json.dumps(line) + "\n" for line in plain))
    said = wrong()
    assert "records.jsonl: its lines have no digests; python -m repro.harness.runs.seal" in said[0]


@pytest.fixture
def replicated(copied: Path) -> Path:
    """Two repetitions of a published run, one to the bit and one not."""
    run = next(r for r in read_records(copied / "records.jsonl") if r.slug == "F7-both-laptop-s0")
    started = (run.times.started or 0.0) + 1000.0
    same = {
        "schema": run.schema, "run": run.id, "slug": run.slug, "agreement": "identical",
        "metrics": run.metrics, "env": as_line(run)["env"], "started": started,
    }  # fmt: skip
    knn = run.metric("knn") + 1
    other = same | {
        "agreement": "within", "metrics": run.metrics | {"knn": knn}, "allowed": {"knn": 6.1},
        "parted": 0.1, "started": started + 1000.0,
    }  # fmt: skip
    append(copied / REPLICATIONS, [same, other])
    return copied / REPLICATIONS


def test_replications_are_held_against_the_runs_that_they_repeat(replicated: Path) -> None:
    found = verify("laptop", figures=False)
    assert found.wrong == []
    assert "2 replications as the numbers say" in found.right
    assert any(line.startswith(f"{REPLICATIONS}: 2 lines, to ") for line in found.right)


def test_an_edited_replication_is_named(replicated: Path) -> None:
    edit(replicated, 2, lambda line: line.replace('"within"', '"identical"'))
    (only,) = wrong()
    assert only.startswith(f"{replicated}: line 2 (")
    assert only.endswith("its digest is not that of its content: edited by hand")


def test_a_replication_that_is_sealed_anew_still_contradicts_its_numbers(replicated: Path) -> None:
    contents = [json.loads(line) for line in lines_of(replicated)]
    plain = [{k: v for k, v in c.items() if k not in ("previous", "digest")} for c in contents]
    plain[1]["agreement"] = "identical"
    plain[0]["agreement"] = "perfect"
    replicated.write_text("".join(sealed(plain, "")))
    first, second = wrong()
    assert "line 1" in first
    assert "it is no replication: " in first
    assert "line 2" in second
    assert second.endswith("it says identical, its numbers are within")


def test_nothing_published_is_a_mistake_of_one_line(results: Path) -> None:
    with pytest.raises(UserError, match=r"no records.jsonl; repro publish all --scale gpu"):
        verify("gpu")


def test_figures_are_drawn_again_and_compared(results: Path) -> None:
    folder = results / "published" / "laptop"
    folder.mkdir(parents=True)
    few = [line for line in lines_of(PUBLISHED / "records.jsonl") if b'"F7-' in line[:80]]
    contents = [json.loads(line) for line in few]
    plain = [{k: v for k, v in c.items() if k not in ("previous", "digest")} for c in contents]
    (folder / "records.jsonl").write_text("".join(sealed(plain, "")))
    rebuild("laptop")
    assert verify("laptop").wrong == []
    with (folder / "F7.svg").open("a") as drawing:
        drawing.write("<!-- retouched -->\n")
    (only,) = verify("laptop").wrong
    assert "F7.svg: not what the records give" in only
