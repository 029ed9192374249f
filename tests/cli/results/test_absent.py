"""Numbers that are null, missing, NaN or text: every command that shows results goes on without."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from repro.cli.parser import main

PUBLISHED = Path(__file__).parents[3] / "results" / "published" / "laptop"
SHOWN = ("F7-", "F6R-", "T7-")  # runs of Figures 6 and 7 and of Table 7
COMMANDS = (
    ("table", "F7", "T7", "F6L", "F5", "--format", "md"),
    ("check", "F7", "T7", "F6R", "F6L", "F5", "-v"),
    ("figure", "F7", "F6L", "T7", "scorecard", "--format", "png"),
    ("explain", "F7:both:entropy"),
    ("explain", "C.F7.3"),
    ("report",),
)


def damaged() -> Iterator[str]:
    """Each kind of absence, in runs of rows that have others and in all runs of a row."""
    for line in (PUBLISHED / "records.jsonl").read_text().splitlines():
        run: dict[str, Any] = json.loads(line)
        if not run["slug"].startswith(SHOWN):
            continue
        del run["previous"], run["digest"]
        metrics, curves = run["metrics"], run["curves"]
        match run["slug"].removesuffix(f"-laptop-s{run['seed']}"), run["seed"]:
            case "F7-both", 0:
                run["metrics"] = dict.fromkeys(metrics)
            case "F7-both", 1:
                run["metrics"] = {}
            case "F7-both", 2:
                yield json.dumps(run | {"metrics": metrics | {"knn": "71.2"}})
                continue
            case "F7-sharpening", 0:
                yield json.dumps(run).replace('"knn": ', '"knn": NaN, "was": ', 1)
                continue
            case "F7-sharpening", 2:
                run["counts"]["steps"] = None
                run["curves"] = {key: [None] * 60 for key in curves if key != "eval"}
                run["curves"]["epoch"] = curves["epoch"]
                run["curves"]["eval"] = curves["eval"]
            case "F7-centering" | "F6R-student_copy", _:
                run["metrics"] |= dict.fromkeys(("entropy", "kl", "mean_entropy", "knn_random"))
                run["curves"]["eval"] |= {"knn": [None] * 6, "student_knn": [None] * 6}
            case "F7-neither", _:
                run["metrics"] = {"knn_pixels": None}
                run["curves"] |= {"entropy": [None] * 60, "kl": [None] * 60}
        yield json.dumps(run)


@pytest.fixture
def absent(results: Path) -> Path:
    folder = results / "published" / "laptop"
    folder.mkdir(parents=True)
    (folder / "records.jsonl").write_text("\n".join(damaged()) + "\n")
    return folder


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[:2]))
def test_a_command_counts_what_is_absent_and_goes_on(
    command: tuple[str, ...], absent: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(command)
    said = capsys.readouterr()
    assert code in (0, 1)
    assert code == 0 or command[0] == "check"
    told = said.out if command[0] == "check" else said.err
    assert "2 records refused" in told
    assert "numbers absent, being not finite: " in told


def test_check_names_what_was_refused_for_people_and_for_programs(
    absent: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["check", "F7", "-v"])
    lines = capsys.readouterr().out.splitlines()
    assert any("line " in line and "is no record: Expected `int" in line for line in lines)
    assert any("line " in line and "is not valid JSON" in line for line in lines)
    main(["check", "F7", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert len(told["refused"]) == 2
    assert told["refused"][0].keys() == {"where", "id", "why", "expected"}
    assert "knn of F7-both-laptop-s0" in told["absent"]
