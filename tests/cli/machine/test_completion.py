"""`repro completion`: bash itself is asked what it would complete."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from repro.cli.parser import main
from repro.harness.experiments.experiment import experiment_ids
from tests.cli.calling import mistake

ASK = """
source {script}
COMP_WORDS=({words}) COMP_CWORD={last} COMPREPLY=()
_shtab_repro
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    pytest.importorskip("shtab")
    assert main(["completion", "bash"]) == 0
    (tmp_path / "repro").write_text(capsys.readouterr().out)
    return tmp_path / "repro"


def completed(script: Path, *words: str) -> list[str]:
    ask = ASK.format(script=script, words=" ".join(words or ["''"]), last=len(words) - 1)
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_commands_options_experiments_scales_and_clusters(script: Path) -> None:
    assert completed(script, "repro", "ta") == ["table"]
    assert completed(script, "repro", "table", "T1") == [
        name for name in experiment_ids() if name.startswith("T1")
    ]
    assert "F7" in completed(script, "repro", "status", "T7", "F")
    assert completed(script, "repro", "table", "--fo") == ["--format"]
    assert completed(script, "repro", "table", "--format", "t") == ["terminal", "tex"]
    assert completed(script, "repro", "plan", "T7", "--scale", "l") == ["laptop"]
    assert completed(script, "repro", "plan", "T7", "--cluster", "s") == ["slurm"]


def test_zsh_is_told_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    assert main(["completion", "zsh"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("#compdef repro")
    assert f"({' '.join(experiment_ids())}" in told


def test_without_the_library_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    line = mistake(capsys, "completion", "bash")
    assert line.endswith("repro completion: needs the library shtab; pip install shtab\n")
