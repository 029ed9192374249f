"""Any encoding, any stream, any home, any folder: a command does its work or says why not."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from repro.cli.parser import main
from repro.errors import UserError
from repro.hardware import cache_folder
from repro.harness.local.pool import Slot, start_worker
from repro.harness.runs.store import RunFolder, create_run, refresh_resources
from repro.terminal import STAND_INS, confirm
from tests.cli.calling import mistake
from tests.conftest import MakeConfig

SIGNS = "print('\\u2713 \\u2717 \\u0394 72.8 \\u00b1 0.1 \\u674e')"


def printed(code: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    ready = f"from repro.terminal import ready_streams\nready_streams()\n{code}"
    environment = {**os.environ, **environment}
    return subprocess.run(
        [sys.executable, "-c", ready], check=False, capture_output=True, env=environment
    )


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("ascii", b"y n D 72.8 +- 0.1 \\u674e\n"),
        ("latin-1", "y n D 72.8 ± 0.1 \\u674e\n".encode("latin-1")),
        ("cp1252", "y n D 72.8 ± 0.1 \\u674e\n".encode("cp1252")),
        ("ascii:strict", b"y n D 72.8 +- 0.1 \\u674e\n"),
        ("utf-8", "✓ ✗ Δ 72.8 ± 0.1 李\n".encode()),
    ],
)
def test_every_encoding_of_standard_output_can_show_a_table(encoding: str, expected: bytes) -> None:
    done = printed(SIGNS, PYTHONIOENCODING=encoding)
    assert (done.stdout, done.stderr) == (expected, b"")


def test_what_stands_for_a_sign_is_ascii() -> None:
    assert all(stand_in.isascii() and not sign.isascii() for sign, stand_in in STAND_INS.items())
    assert STAND_INS["✓"] != STAND_INS["✗"]


@pytest.mark.parametrize("closed", ["0", "1", "2", "0 1", "0 1 2"])
def test_a_command_ends_well_with_closed_streams(closed: str, tmp_path: Path) -> None:
    ends = " ".join(f"{number}>&-" for number in closed.split())
    code = "import sys; from repro.cli import main; sys.exit(main(['status', 'nothing']))"
    command = ["bash", "-c", f'"$0" -c "$1" {ends}', sys.executable, code]
    environment = {**os.environ, "REPRO_RESULTS": str(tmp_path)}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert done.stdout == ""
    assert ("matches 'nothing'" in done.stderr) == ("2" not in closed)
    assert "Traceback" not in done.stderr


def test_a_file_opened_later_is_not_taken_for_a_closed_stream(tmp_path: Path) -> None:
    ready = "from repro.terminal import ready_streams; ready_streams();"
    ready += "import os, sys; os.write(2, str(open(sys.argv[1], 'w').fileno()).encode())"
    command = ["bash", "-c", '"$0" -c "$1" "$2" 0>&- 1>&-', sys.executable, ready]
    command.append(str(tmp_path / "x"))
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert int(done.stderr) > 2


def test_nobody_answers_where_standard_input_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UserError, match="add --yes"):
        confirm("Stop?", yes=False)


def test_a_user_without_home_has_a_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(uid: int) -> None:
        raise KeyError(uid)

    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert cache_folder() == Path(tempfile.gettempdir()) / f"repro-dino-{os.getuid()}"


@pytest.mark.parametrize("argv", [["status"], ["plan", "F7"], ["train"], ["table", "F7"], ["gc"]])
def test_a_results_folder_with_too_long_a_name_is_one_line(
    argv: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("REPRO_RESULTS", str(tmp_path / ("x" * 300)))
    line = mistake(capsys, *argv, *(["--scale", "smoke"] if argv[0] in ("plan", "train") else []))
    assert "File name too long; is REPRO_RESULTS the folder that you mean?" in line


@pytest.mark.parametrize("argv", [["report"], ["figure", "F7"], ["publish", "F7"]])
def test_a_results_folder_that_is_a_file_is_one_line(
    argv: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("REPRO_RESULTS", str(tmp_path / "file"))
    assert main(argv) == 2
    said = capsys.readouterr().err.splitlines()
    assert "Not a directory; is REPRO_RESULTS the folder that you mean?" in said[-1]


def test_a_notebooks_backend_does_not_stop_a_figure(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "MPLBACKEND": "module://matplotlib_inline.not_installed_here",
        "REPRO_RESULTS": str(tmp_path),
    }
    code = (
        "import sys; from repro.cli import main; main(['list']);"
        "import matplotlib; matplotlib.use(matplotlib.get_backend());"
        "import matplotlib.pyplot as plt; plt.figure().savefig(sys.argv[1])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "figure.png")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "figure.png").stat().st_size > 0


def test_the_working_directory_is_not_on_a_workers_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("random", "yaml", "repro"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('of the working directory')\n")
    monkeypatch.chdir(tmp_path)
    folder = RunFolder(tmp_path / "no-run")
    process, _ = start_worker(folder, Slot(1, None).environment(), tmp_path / "log")
    assert process.wait() == 2
    assert "not a run folder" in (tmp_path / "log").read_text()


def test_a_run_is_written_with_the_whole_paths_of_its_data(
    smoke: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    overrides = {"paths.data": "cats", "paths.benchmarks": {"voc12": "../voc", "davis17": "/davis"}}
    folder = create_run(tmp_path / "runs", "one", smoke({"data": "folder", **overrides}))
    assert folder.config().paths.data == str(tmp_path / "cats")
    assert folder.config().paths.benchmarks == {
        "voc12": str(tmp_path / "../voc"), "davis17": "/davis"
    }  # fmt: skip
    before = (folder.path / "config.yaml").stat().st_mtime_ns
    refresh_resources(folder, smoke({"data": "folder", **overrides}))
    assert (folder.path / "config.yaml").stat().st_mtime_ns == before
    refresh_resources(folder, smoke({"data": "folder", "paths.data": "dogs"}))
    assert folder.config().paths.data == str(tmp_path / "dogs")


def test_no_path_of_data_stays_none(smoke: MakeConfig, tmp_path: Path) -> None:
    assert create_run(tmp_path / "runs", "one", smoke()).config().paths.data == ""


@pytest.mark.parametrize(
    "argv",
    [
        ["train", "seed=3", "--scale", "smoke", "trian.epochs=1"],
        ["train", "--scale", "smoke", "seed=3", "trian.epochs=1"],
        ["train", "seed=3", "trian.epochs=1", "--scale", "smoke"],
    ],
)
@pytest.mark.usefixtures("results")
def test_words_may_stand_around_options(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "nearest valid key: train.epochs" in mistake(capsys, *argv)


@pytest.mark.usefixtures("results")
def test_ids_around_an_option_are_all_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "F7:both", "--scale", "smoke", "T7:r1"]) == 0
    said = capsys.readouterr().out
    assert "F7:both" in said
    assert "T7:r1" in said


def test_a_page_of_a_value_is_cut_in_the_line_that_refuses_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = mistake(capsys, "train", "train.epochs=" + "[1,\n" * 9000)
    assert len(line) < 1100
