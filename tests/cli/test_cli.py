"""The `repro` command as people and scripts meet it: words in, lines, JSON and exit codes out."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from repro.cli.experiments import list as list_command
from repro.cli.machine import doctor
from repro.cli.parser import build_parser, main
from repro.config.compose import compose
from repro.harness.experiments.experiment import experiment_ids
from repro.harness.plan.plan import plan
from repro.harness.runs.store import RunFolder, create_run, find_runs

SUBPARSERS = build_parser()[1]
ONE_THREAD = ("--workers", str(os.cpu_count()))  # tests run in parallel; the cores are taken
NEEDS_IDS = ("show", "plan", "submit", "run", "table", "figure", "publish")


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REPRO_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


@pytest.fixture
def nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Path("/dev/null").open())  # noqa: SIM115


@pytest.fixture
def queued(results: Path) -> RunFolder:
    (run,) = plan(["F7:both"], "smoke", 1, results).runs
    return create_run(results / "runs", run.slug, run.config)


def json_of(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main([*words, "--json"]) == 0
    out = capsys.readouterr()
    assert out.err == ""
    return json.loads(out.out)


def mistake(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line that a user's mistake gives."""
    assert main(words) == 2
    out = capsys.readouterr()
    assert out.out == ""
    assert out.err.startswith("repro: error: ")
    assert out.err.count("\n") == 1
    return out.err


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from repro.cli import main; code = main(['--help']);"
        "heavy = {'torch', 'timm', 'pandas', 'numpy', 'hydra', 'omegaconf', 'rich', 'yaml'};"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
    assert all(name in done.stdout for name in SUBPARSERS)
    assert "the four things people do" in done.stdout


@pytest.mark.parametrize("name", SUBPARSERS)
def test_the_help_of_every_command_shows_an_example_that_parses(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--help"]) == 0
    example = capsys.readouterr().out.rpartition("example:")[2].split()
    assert example[:2] == ["repro", name]
    build_parser()[0].parse_args(example[1:])


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["pln", "T7"], "no command 'pln'; nearest: plan"),
        (["plan", "T7", "--seed", "3"], "repro plan: unknown argument '--seed'; nearest: --seeds"),
        (["plan", "T77"], "no experiment 'T77'"),
        (["show", "T7:r10"], "nearest: r1"),
        (["plan", "F7", "--scale", "labtop"], "nearest: laptop"),
        (["submit", "F7", "--cluster", "slrum"], "(known: local, slurm)"),
        (["train", "trian.epochs=3"], "nearest valid key: train.epochs"),
        (["train", "train.epochs"], "write key=value"),
        (["status", "nothing-like-it"], "matches 'nothing-like-it'; nearest: "),
        (["table", "T77"], "T77"),
    ],
)
@pytest.mark.usefixtures("results")
def test_a_mistake_is_one_line_with_the_nearest_valid_word(
    words: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert part in mistake(capsys, *words)


@pytest.mark.parametrize("name", NEEDS_IDS)
def test_a_command_without_its_ids_is_the_users_mistake(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name]) == 2
    assert "required: ID" in capsys.readouterr().err


@pytest.mark.usefixtures("results")
def test_list_has_its_fixed_shape(capsys: pytest.CaptureFixture[str]) -> None:
    entries = json_of(capsys, "list")
    assert [entry["id"] for entry in entries] == experiment_ids()
    seven = next(entry for entry in entries if entry["id"] == "T7")
    assert (seven["kind"], seven["rows"], seven["done"]) == ("table", 9, {})


def test_show_has_its_fixed_shape(capsys: pytest.CaptureFixture[str]) -> None:
    shown = json_of(capsys, "show", "T7")
    assert {"id", "title", "rows", "claims"} <= shown.keys()
    r2, r3 = shown["rows"][1:3]
    assert r2["reported"] == {"knn": 0.1, "linear": 0.1}
    assert (r2["overrides"], r2["trainable"]) == ({"teacher.kind": "student_copy"}, True)
    assert r3["overrides"] == {
        "target.operation": "sinkhorn_knopp",
        "target.centering": False,
    }
    (quoted,) = [r for r in json_of(capsys, "show", "T2")["rows"] if r["name"] == "rn50_barlow"]
    assert not quoted["trainable"]
    assert {"id", "statement", "kind"} == shown["claims"][0].keys()
    assert [e["id"] for e in json_of(capsys, "show", "T7:r1", "F7")] == ["T7", "F7"]


def test_show_prints_the_papers_columns_with_ticks_and_what_each_row_changes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["show", "T7"]) == 0
    lines = capsys.readouterr().out.splitlines()
    header = next(line for line in lines if line.startswith("row"))
    assert header.split()[1:7] == ["Method", "Mom.", "SK", "MC", "Loss", "Pred."]
    r2 = next(line for line in lines if line.startswith("r2"))
    assert r2.split()[1:8] == ["✗", "✗", "✓", "CE", "✗", "0.1", "0.1"]
    r3 = next(line for line in lines if line.startswith("r3"))
    assert r3.endswith("target.operation=sinkhorn_knopp, target.centering=False")


def test_plan_has_its_fixed_shape_and_starts_nothing(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planned = json_of(capsys, "plan", "F7", "T7", "--scale", "smoke", "--seeds", "2")
    assert planned["todo"] == len(planned["runs"]) == 24
    assert {"id", "experiment", "row", "seed", "state"} <= planned["runs"][0].keys()
    assert planned["gpu_hours"] is None
    assert planned["skipped"] == []
    assert not results.exists()


def test_status_has_its_fixed_shape(queued: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    (run,) = json_of(capsys, "status")["runs"]
    expected = {"id": queued.id, "experiment": "F7", "row": "both", "seed": 0, "state": "queued"}
    assert expected | {"step": 0, "cause": None} == {
        k: run[k] for k in (*expected, "step", "cause")
    }


@pytest.mark.parametrize("pattern", ["F7", "F7:both", "T7:r1", "queued", "F7-*-s0", "all-of-id"])
def test_a_pattern_finds_a_run_by_any_of_its_names(
    queued: RunFolder, pattern: str, capsys: pytest.CaptureFixture[str]
) -> None:
    word = queued.id[:4] if pattern == "all-of-id" else pattern
    assert [run["id"] for run in json_of(capsys, "status", word)["runs"]] == [queued.id]
    assert json_of(capsys, "status", "T7:r2", "done")["runs"] == []


def test_the_row_of_a_table_with_variants_finds_the_run_of_each(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [
        create_run(results / "runs", run.slug, run.config)
        for run in plan(["T8:l2"], "smoke", 1, results).runs
    ]
    assert len(folders) == 2
    found = json_of(capsys, "status", "T8:l2")["runs"]
    assert {run["id"] for run in found} == {folder.id for folder in folders}


@pytest.mark.usefixtures("nobody_there")
def test_submit_and_retry_refuse_to_start_when_nobody_can_confirm(
    queued: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", "F7:both", "--scale", "smoke"]) == 2
    assert "add --yes" in capsys.readouterr().err
    queued.fail({"kind": "nan", "line": "not finite", "step": 1})
    assert main(["retry", "failed"]) == 2
    assert "add --yes" in capsys.readouterr().err
    assert queued.state(0) == "failed"


def test_a_queued_run_can_be_cancelled_and_is_then_offered_for_retry(
    queued: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["retry"]) == 0
    assert "nothing to retry" in capsys.readouterr().out
    assert main(["cancel", "F7"]) == 0
    assert queued.path.name in capsys.readouterr().out
    assert json_of(capsys, "status")["runs"][0]["state"] == "cancelled"
    assert main(["cancel"]) == 0
    assert "nothing to cancel" in capsys.readouterr().out


def test_the_log_of_a_failed_run_begins_with_what_failed_it(
    queued: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    (queued.path / "log.txt").write_text("".join(f"line {i}\n" for i in range(100)))
    queued.fail({"kind": "nan", "line": "the loss is not finite", "step": 42})
    assert main(["logs", "failed"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"== {queued.path.name} (failed)"
    assert "the loss is not finite (step 42)" in lines[1]
    assert lines[-1] == "line 99"


def test_a_results_folder_that_cannot_be_written_is_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("REPRO_RESULTS", str(tmp_path / "file"))
    line = mistake(capsys, "train", "--scale", "smoke")
    assert str(tmp_path / "file") in line
    assert "REPRO_RESULTS" in line


@pytest.mark.parametrize(
    ("number", "part"), [(errno.ENOSPC, "no space left"), (errno.EROFS, "Read-only file system")]
)
def test_a_full_or_read_only_disk_is_one_line_that_names_the_path(
    number: int, part: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(arguments: Any) -> int:
        raise OSError(number, "Read-only file system", "/disk/run.json")

    monkeypatch.setattr(doctor, "run", refuse)
    line = mistake(capsys, "doctor")
    assert part in line
    assert "/disk/run.json" in line


def test_ctrl_c_is_one_line_and_exit_code_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(arguments: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(list_command, "run", interrupted)
    assert main(["list"]) == 130
    assert capsys.readouterr().err == "repro: interrupted\n"


def test_a_reader_that_has_seen_enough_causes_no_complaint() -> None:
    command = [sys.executable, "-m", "repro.cli", "show", "all"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 0


def test_doctor_names_what_is_broken_and_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("REPRO_RESULTS", str(tmp_path / "file" / "results"))
    assert main(["doctor", "--json"]) == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    broken = [finding for finding in findings if finding["level"] == "fail"]
    assert [finding["what"] for finding in broken] == [str(tmp_path / "file" / "results")]
    assert broken[0]["fix"]
    assert not any(f["fix"] for f in findings if f["level"] == "ok")


def test_run_trains_once_prints_the_table_draws_the_figure_and_never_trains_again(
    results: Path, capfd: pytest.CaptureFixture[str], repository: Path
) -> None:
    words = ["run", "F7:both", "T7:r1", "--scale", "smoke", *ONE_THREAD]
    assert main(words) == 0
    out = capfd.readouterr().out
    assert "Figure 7" in out
    assert "Table 7" in out
    assert str(results / "figures" / "smoke" / "F7.png") in out
    assert (results / "figures" / "smoke" / "F7.svg").stat().st_size > 0
    (folder,) = find_runs(results / "runs")
    config = compose(repository / "experiments", "smoke")
    assert folder.config().head == config.head
    before = {p: p.stat().st_mtime_ns for p in folder.path.rglob("*")}

    assert main(words) == 0
    assert {p: p.stat().st_mtime_ns for p in folder.path.rglob("*")} == before
    assert main(["submit", "F7:both", "--scale", "smoke"]) == 0
    assert "1 run, 0 to do" in capfd.readouterr().out
    rows = {entry["id"]: entry["done"] for entry in json_of(capfd, "list")}
    assert rows["F7"] == rows["T7"] == {"smoke": 1}
    assert json_of(capfd, "status", "done")["runs"][0]["step"] == 8


def test_train_makes_one_run_from_overrides_and_prints_its_metrics(
    results: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "train.epochs=1", "teacher.momentum=0.5", "--scale", "smoke", *ONE_THREAD]
    assert main(words) == 0
    out = capfd.readouterr().out
    (folder,) = find_runs(results / "runs")
    assert folder.slug == "train-smoke-s0"
    assert folder.config().teacher.momentum == 0.5
    assert any(line.startswith("knn ") for line in out.splitlines())
    assert str(folder.path) in out


def test_check_has_its_fixed_shape_and_fails_exactly_when_a_claim_is_contradicted(
    tmp_path: Path,
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checked = json_of(capsys, "check", "F7", "--on", "reported")
    assert {"id", "verdict", "holds", "detail"} <= checked["claims"][0].keys()
    assert sum(checked["summary"].values()) == len(checked["claims"])
    assert not any(claim["holds"] is False for claim in checked["claims"])

    # The same paper, had it printed a collapse of the run with both operations.
    shutil.copytree(repository / "experiments", tmp_path / "experiments")
    spec = tmp_path / "experiments" / "F7.yaml"
    text = spec.read_text()
    spec.write_text(text.replace("{entropy: 0.92, kl: 0.94}", "{entropy: 0.0, kl: 0.0}"))
    assert spec.read_text() != text
    monkeypatch.chdir(tmp_path)
    assert main(["check", "F7", "--on", "reported", "--json"]) == 1
    claims = {c["id"]: c["holds"] for c in json.loads(capsys.readouterr().out)["claims"]}
    assert claims["C.F7.3"] is False
