"""`repro init`: a folder in which everything works, and nothing that was there is touched."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from repro.cli.parser import main
from repro.harness.experiments.clusters import SlurmCluster, load_cluster
from repro.harness.experiments.folders import (
    benchmarks_in,
    experiments_dir,
    own_dir,
    published_in,
    results_dir,
    study_dir,
)
from tests.cli.calling import mistake


@pytest.fixture
def study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REPRO_RESULTS", raising=False)
    assert main(["init", "my birds"]) == 0
    return tmp_path / "my birds"


def test_the_next_two_commands_are_printed_and_the_second_plans_a_sweep_there(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["init", "other"]) == 0
    enter, sweep = (line.strip() for line in capsys.readouterr().out.splitlines()[-2:])
    assert enter == "cd other"
    monkeypatch.chdir("other")
    words = shlex.split(sweep)
    assert words[0] == "repro"
    assert main([*words[1:], "--dry-run"]) == 0
    assert "4 runs, 4 to do" in capsys.readouterr().out


def test_everything_of_one_s_own_lies_in_the_study_and_the_paper_s_with_the_program(
    study: Path, monkeypatch: pytest.MonkeyPatch, repository: Path
) -> None:
    inside = study / "experiments" / "clusters"
    for place in (study, inside):
        monkeypatch.chdir(place)
        assert study_dir() == study
        assert own_dir() == study / "experiments" / "own"
        assert results_dir() == study / "results"
        assert experiments_dir() == repository / "experiments"
        assert published_in(results_dir()) == repository / "results" / "published"
        assert benchmarks_in(results_dir()) == repository / "results" / "benchmarks"


def test_its_cluster_is_known_by_name_and_begins_as_the_template_does(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(study)
    mine, template = load_cluster("mine"), load_cluster("slurm")
    assert isinstance(mine, SlurmCluster)
    assert {**vars_of(mine), "name": ""} == {**vars_of(template), "name": ""}
    file = study / "experiments" / "clusters" / "mine.yaml"
    file.write_text(file.read_text().replace("gpus: 1 ", "gpus: 4 "))
    changed = load_cluster("mine")
    assert isinstance(changed, SlurmCluster)
    assert changed.gpus == 4
    (study / "experiments" / "clusters" / "night.yaml").write_text("{profile: mine, qos: night}")
    elsewhere = study.parent / "lab.yaml"
    elsewhere.write_text("{profile: night, cpus: 2}")
    lab = load_cluster(str(elsewhere))
    assert isinstance(lab, SlurmCluster)
    assert (lab.gpus, lab.qos, lab.cpus) == (4, "night", 2)


def vars_of(cluster: SlurmCluster) -> dict[str, object]:
    return {name: getattr(cluster, name) for name in cluster.__struct_fields__}


def test_the_addresses_in_its_cluster_file_exist(study: Path) -> None:
    text = (study / "experiments" / "clusters" / "mine.yaml").read_text()
    named = [word for word in text.replace("=", " ").split() if word.startswith("/")]
    assert [Path(word).is_file() for word in named if word.endswith(("json", "yaml"))] == [True] * 2
    assert yaml.safe_load(text)["profile"] == "slurm"


def test_git_sees_experiments_and_no_runs(study: Path) -> None:
    (study / "results" / "runs" / "one").mkdir(parents=True)
    (study / "results" / "runs" / "one" / "run.json").touch()
    (study / "results" / "published").mkdir()
    (study / "results" / "published" / "README.md").touch()
    subprocess.run(["git", "init", "-q", study], check=True)
    command = ["git", "-C", str(study), "ls-files", "--others", "--exclude-standard"]
    seen = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert seen == [
        ".gitignore",
        "README.md",
        "experiments/clusters/mine.yaml",
        "experiments/own/.gitkeep",
        "results/published/README.md",
    ]


def test_a_place_with_something_in_it_is_refused_in_a_line_and_stays_as_it_is(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert "my birds: holds .gitignore and 2 more; name a new folder, or an empty one" in mistake(
        capsys, "init", str(study)
    )
    (study.parent / "file").touch()
    assert "is a file" in mistake(capsys, "init", str(study.parent / "file"))
    (study.parent / "empty").mkdir()
    assert main(["init", str(study.parent / "empty")]) == 0
