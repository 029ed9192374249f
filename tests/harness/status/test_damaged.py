"""One damaged run folder is one damaged run: it is named, and everything else goes on."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from repro.cli.parser import main
from repro.config.identity import run_id
from repro.errors import UserError
from repro.harness.local.pool import dispatch
from repro.harness.plan.plan import planned_run
from repro.harness.runs.store import RunFolder, create_runs, find_runs
from tests.conftest import MakeConfig

Damage = Callable[[Path], None]


@pytest.fixture
def runs(tmp_path: Path, smoke: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> list[RunFolder]:
    monkeypatch.setenv("REPRO_RESULTS", str(tmp_path))
    config = smoke()
    named = [("notes", replace(config, seed=seed)) for seed in range(3)]
    return create_runs(tmp_path / "runs", named)


def written(name: str, content: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content) and None


def folder_instead(name: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()

    return damage


def later_version(folder: Path) -> None:
    with (folder / "config.yaml").open("a") as file:
        file.write("invented_later: 1\n")


def other_rate(folder: Path) -> None:
    text = (folder / "config.yaml").read_text()
    assert "lr: 0.0" in text
    (folder / "config.yaml").write_text(text.replace("lr: 0.0", "lr: 0.1", 1))


DAMAGES: dict[str, tuple[Damage, str]] = {
    "config edited": (other_rate, "config.yaml: edited"),
    "config empty": (written("config.yaml", b""), "config.yaml: damaged"),
    "config of nothing": (written("config.yaml", b"{}"), "config.yaml"),
    "config not UTF-8": (written("config.yaml", b"\xff\xfe\x00"), "config.yaml"),
    "config of a later version": (later_version, "invented_later"),
    "config a folder": (folder_instead("config.yaml"), "config.yaml: cannot be read"),
    "run.json a list": (written("run.json", b"[]"), "run.json: damaged"),
    "run.json torn": (written("run.json", b'{"state":'), "run.json: not valid JSON"),
    "run.json not UTF-8": (written("run.json", b"\xff\xfe"), "run.json: not valid JSON"),
    "run.json a folder": (folder_instead("run.json"), "run.json: cannot be read"),
    "result a list": (written("result.json", b"[]"), "result.json: damaged"),
    "result torn": (written("result.json", b"{"), "result.json: not valid JSON"),
    "result a folder": (folder_instead("result.json"), "result.json: cannot be read"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_folder_is_shown_as_such_beside_the_others(
    name: str, runs: list[RunFolder], capsys: pytest.CaptureFixture[str]
) -> None:
    damage, word = DAMAGES[name]
    damage(runs[1].path)
    assert main(["status", "--json"]) == 0
    entries = {entry["id"]: entry for entry in json.loads(capsys.readouterr().out)["runs"]}
    states = {identity: entry["state"] for identity, entry in entries.items()}
    assert states == {runs[0].id: "queued", runs[1].id: "damaged", runs[2].id: "queued"}
    assert word in entries[runs[1].id]["cause"]
    assert "\n" not in entries[runs[1].id]["cause"]


def test_every_command_goes_on_beside_damaged_folders_and_foreign_files(
    runs: list[RunFolder], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    written("run.json", b"[]")(runs[0].path)
    other_rate(runs[1].path)
    (tmp_path / "runs" / "empty-0123456789").mkdir()
    (tmp_path / "runs" / "a-file-0123456789").write_text("notes")
    (tmp_path / "runs" / "link-0123456789").symlink_to(tmp_path / "nowhere")
    for command in (
        ["status"], ["status", "--runs"], ["list"], ["plan", "F7", "--scale", "smoke"],
        ["gc", "--dry-run"], ["table", "F7", "--scale", "smoke"], ["retry", "--yes"],
    ):  # fmt: skip
        assert main(command) == 0, command
        printed = capsys.readouterr().out
        if command[0] in ("status", "retry"):
            assert "config.yaml: edited" in printed, command
    assert len(find_runs(tmp_path / "runs")) == 4


def test_no_cut_of_a_config_is_taken_for_a_run(runs: list[RunFolder]) -> None:
    """At every line; what is left of it describes another run, with ImageNet's defaults."""
    folder = runs[0]
    file = folder.path / "config.yaml"
    lines = file.read_text().splitlines(keepends=True)
    taken = 0
    for number in range(len(lines)):
        file.write_text("".join(lines[:number]))
        with suppress(UserError):
            assert run_id(folder.config()) == folder.id
            taken += 1
    assert taken < len(lines) / 4  # the end of the file is no part of the identity


def test_no_flipped_bit_of_a_config_trains_something_else(runs: list[RunFolder]) -> None:
    folder, draw = runs[0], random.Random(0)
    file = folder.path / "config.yaml"
    content = file.read_bytes()
    named = 0
    for _ in range(200):
        damaged = bytearray(content)
        damaged[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        file.write_bytes(damaged)
        try:
            assert run_id(folder.config()) == folder.id
        except UserError:
            named += 1
    assert named > 100


def test_no_flipped_bit_of_a_result_is_another_number(runs: list[RunFolder]) -> None:
    folder, draw = runs[0], random.Random(0)
    result = {"metrics": {"knn": 71.25, "loss": 0.1 + 0.2, "lost": None}, "wall_seconds": 1e-7}
    folder.finish(result)
    assert folder.result() == result
    file = folder.path / "result.json"
    content = file.read_bytes()
    named = 0
    for _ in range(200):
        damaged = bytearray(content)
        damaged[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        file.write_bytes(damaged)
        try:
            read = folder.result() or {}
        except UserError:
            named += 1
        else:  # only the name of the digest was hit
            assert {key: read.get(key) for key in result} == result
    assert named > 100


def test_a_pool_leaves_a_damaged_run_alone_and_trains_the_others(
    tmp_path: Path, smoke: MakeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    configs = [smoke({"train.epochs": 1, "seed": seed}) for seed in range(2)]
    first, second = create_runs(tmp_path, [("pool", config) for config in configs])
    other_rate(first.path)
    before = sorted(path.name for path in first.path.iterdir())
    outcome = dispatch([planned_run(config, {}) for config in configs], tmp_path, workers=1)
    assert [folder.id for folder in outcome.failed] == [first.id]
    assert [folder.id for folder in outcome.done] == [second.id]
    assert "damaged, and left as it is" in capsys.readouterr().err
    assert sorted(path.name for path in first.path.iterdir()) == before
