"""Composed configs kept between commands: the same as Hydra's, never stale, never in the way."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from repro.config.compose import _groups, compose
from repro.config.composed import _digest, remembered
from repro.config.identity import canonical
from repro.config.schema import RunConfig

ASK = """
import sys
from pathlib import Path
from repro.harness.experiments.experiment import load, row_config
experiment = load("T7")
config = row_config(experiment, experiment.row("r7"), "laptop", 3)
print(config)
print("hydra" in sys.modules)
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "repro-dino"


def ask() -> tuple[str, bool]:
    done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True)
    config, hydra = done.stdout.splitlines()
    return config, hydra == "True"


def test_a_second_command_gets_the_same_config_without_hydra(cache: Path) -> None:
    first, asked = ask()
    assert asked
    assert ask() == (first, False)


def test_a_torn_file_costs_time_and_nothing_else(cache: Path) -> None:
    first, _ = ask()
    (file,) = cache.glob("composed-*.json")
    file.write_bytes(file.read_bytes()[:1000])
    assert ask() == (first, True)
    assert ask() == (first, False)


def test_an_unwritable_cache_is_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/nowhere")
    _, asked = ask()
    assert asked


def test_it_is_what_hydra_composes(repository: Path, cache: Path) -> None:
    experiments = repository / "experiments"
    overrides = {"method": "swav", "seed": 5}
    ours = remembered(
        experiments, "laptop", overrides, lambda: compose(experiments, "laptop", overrides)
    )
    assert canonical(ours) == canonical(compose(experiments, "laptop", overrides))


def test_whoever_gets_a_config_may_change_it(repository: Path, cache: Path) -> None:
    def never() -> RunConfig:
        raise AssertionError("this is known already")

    experiments = repository / "experiments"
    first = remembered(experiments, "smoke", {}, lambda: compose(experiments, "smoke", {}))
    first.head.prototypes += 1
    assert remembered(experiments, "smoke", {}, never).head.prototypes == first.head.prototypes - 1


@pytest.mark.parametrize("name", ["base/method/dino.yaml", "scales/laptop.yaml"])
def test_an_edited_file_makes_another_digest(name: str, repository: Path, tmp_path: Path) -> None:
    experiments = tmp_path / "experiments"
    for part in ("base", "scales"):
        shutil.copytree(repository / "experiments" / part, experiments / part)
    before = _digest(experiments)
    _digest.cache_clear()
    file = experiments / name
    file.write_text(file.read_text() + "\n# another word\n")
    assert _digest(experiments) != before


def test_a_variable_that_a_file_or_an_override_names_is_part_of_what_is_asked(
    repository: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiments = tmp_path / "experiments"
    for part in ("base", "scales"):
        shutil.copytree(repository / "experiments" / part, experiments / part)
    with (experiments / "scales" / "smoke.yaml").open("a") as file:
        file.write("\npaths:\n  data: ${oc.env:MYDATA}\n")
    overrides = {"data.name": "${oc.env:MYNAME}"}

    def ask() -> tuple[str, str]:
        _digest.cache_clear()  # as another command would
        made = remembered(
            experiments, "smoke", overrides, lambda: compose(experiments, "smoke", overrides)
        )
        return made.paths.data, made.data.name

    for folder, name in (("/data/one", "one"), ("/data/two", "one"), ("/data/two", "two")):
        monkeypatch.setenv("MYDATA", folder)
        monkeypatch.setenv("MYNAME", name)
        _groups.cache_clear()
        assert ask() == (folder, name)
