"""Every command in the README, in CONTRIBUTING and in docs/ does what a reader would see it do.

A page's commands run in its order, in one process, in a copy of the published records and of a few
experiments, so that what concerns all of them takes seconds. What stands for what the reader has:
`RUN` and `FILE` are a run trained here at smoke scale, `/data/...` small folders in the layout of
those data, and SLURM's commands give scripted answers. Two things are left out: training itself,
which the local pool only notes down (`make smoke` and the tests of `repro run` train), and the
commands in `PARSED`. Commands in running text are parsed, and the experiments and rows that they
name looked up. A form that is not known here fails.
"""

from __future__ import annotations

import contextlib
import io
import re
import runpy
import shutil
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from repro.cli import build_parser, main
from repro.config.compose import compose
from repro.decode import decode
from repro.harness.experiments.claims import SHAPES, read_claim
from repro.harness.experiments.clusters import load_cluster
from repro.harness.experiments.grid import Grid
from repro.harness.local import pool
from repro.harness.runs.store import RunFolder, find_runs
from repro.harness.status import overview
from tests.harness.scripted import scripted
from tests.pages import PAGES, ROOT, SHELL, YAML, Page

__all__ = ["scripted"]

FINE, NEGATIVE = 0, 1
PARSED = {  # and why
    "repro doctor --cluster mine": "it waits for a job: tests/slurm/test_doctor.py",
    "repro verify": "the copy has no tables: tests/analysis/test_verify.py",
    "repro completion bash": "it needs an extra: tests/cli/machine/test_completion.py",
}
CONTRADICTED = {  # commands whose exit code 1 is what the page says of them
    "repro check F7 F6R",
    "repro check all -v",
    "repro check all --junit verdicts.xml",
    "repro check all --on reported",
}
NOT_TRAINED = (  # exit code 1 where no run is trained in the pool's place
    "repro replicate F7 --seeds 0",
    "repro replicate T7 --seeds 0,1,2 --publish",
)
TRAINS = "docs/own-grids.md"  # runs of seconds: its commands are about what has been trained
WALKED = "docs/your-own-study.md"  # in a folder outside of any clone: tests/installed
# Those on the pages, T6 for its overclaim, T8 for its times.
EXPERIMENTS = ("F6L", "F6R", "F7", "T3", "T6", "T7", "T8")
MODULES = (
    "repro.sizing",
    "repro.harness.worker",
    "repro.harness.experiments.json_schema",
    "repro.harness.runs.published_schema",
    "repro.harness.runs.seal",
)
BARE = ("make", "make help")


def ids(page: Page) -> str:
    return page.name


class Reader(io.StringIO):
    """Somebody at a terminal who says yes."""

    def isatty(self) -> bool:
        return True

    def readline(self, size: int = -1) -> str:
        return "y\n"


def pictures(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for index in range(count):
        noise = np.random.default_rng(index).integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{index}.jpg")


def objects(root: Path) -> None:
    """One picture of PASCAL VOC12, with one object."""
    pictures(root / "JPEGImages", 1)
    for part in ("SegmentationObject", "ImageSets/Segmentation"):
        (root / part).mkdir(parents=True)
    (root / "ImageSets/Segmentation/val.txt").write_text("0\n")
    marks = np.zeros((32, 32), np.uint8)
    marks[8:24, 8:24] = 1
    mask = Image.fromarray(marks).convert("P")
    mask.putpalette([0, 0, 0, 128, 0, 0] + [224] * 762)
    mask.save(root / "SegmentationObject" / "0.png")


class Checkout:
    """A reader's working directory, and what the words of a command stand for in it."""

    def __init__(self, folder: Path, run: RunFolder | None) -> None:
        self.folder = folder
        self.trained: list[str] = []
        for part in ("base", "clusters", "scales"):
            shutil.copytree(ROOT / "experiments" / part, folder / "experiments" / part)
        for name in EXPERIMENTS:
            shutil.copy(ROOT / f"experiments/{name}.yaml", folder / "experiments")
        shutil.copytree(ROOT / "results/benchmarks", folder / "results/benchmarks")
        (folder / "results/published/laptop").mkdir(parents=True)
        shutil.copy(ROOT / "CITATION.cff", folder)
        for records in (ROOT / "results/published/laptop").glob("*.jsonl"):
            shutil.copy(records, folder / "results/published/laptop")
        for split in ("train", "val"):
            for kind in ("crow", "gull", "wren"):
                pictures(folder / "birds" / split / kind, 12)
        pictures(folder / "clip", 2)
        objects(folder / "VOC2012")
        self.stands_for = {
            "birds=/data/birds": f"birds={folder / 'birds'}",
            "birds-10pct=/data/birds": f"birds-10pct={folder / 'birds'}",
            "voc12=/data/VOC2012": f"voc12={folder / 'VOC2012'}",
            "20": "1",  # epochs of a probe
            "cat.jpg": str(folder / "clip" / "0.jpg"),
            "clip.mp4": str(folder / "clip"),
        }
        if run is not None:
            shutil.copytree(run.path, folder / "results" / "runs" / run.path.name)
            copy = folder / "results" / "runs" / run.path.name
            self.stands_for["RUN"] = str(copy)
            shutil.copy(copy / "checkpoints" / "last.pt", folder / "ours.pt")
            self.stands_for["FILE"] = str(folder / "ours.pt")

    def dispatch(self, planned: Sequence[Any], *_: Any, **__: Any) -> pool.Outcome:
        """In the pool's place: the runs that it would train."""
        self.trained += [run.id for run in planned]
        return pool.Outcome()


@pytest.fixture
def checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Checkout:
    page: Page = request.getfixturevalue("page")
    words = {word for command in page.commands for word in command}
    run = request.getfixturevalue("trained") if words & {"RUN", "FILE"} else None
    made = Checkout(tmp_path / "checkout", run)
    monkeypatch.chdir(made.folder)
    monkeypatch.delenv("REPRO_RESULTS", raising=False)
    if page.name != TRAINS:
        monkeypatch.setattr(pool, "dispatch", made.dispatch)
    monkeypatch.setattr(overview, "JUST_SENT", 0.0)  # the scripted queue forgets its jobs at once
    monkeypatch.setattr(sys, "stdin", Reader())
    return made


def run_here(words: list[str], checkout: Checkout) -> None:
    """One command of a page, as far as it can run without training; an unknown form fails."""
    line = " ".join(words)
    if line in PARSED:
        parse(words)
    elif words[0] == "repro":
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([checkout.stands_for.get(word, word) for word in words[1:]])
        expected = NEGATIVE if line in (*CONTRADICTED, *NOT_TRAINED) else FINE
        assert code == expected, f"{line}\n{out.getvalue()[-1000:]}{err.getvalue()}"
    elif words[:2] == ["python", "-m"]:
        assert words[2] in MODULES, line
        call, _, target = line.partition(" > ")
        out = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
            patch.setattr(sys, "argv", call.split()[2:])
            runpy.run_module(words[2], run_name="__main__")
        assert not target or out.getvalue() == (ROOT / target).read_text(), line
    elif words[0] == "make":
        assert_targets(words[1:])
    elif words[0] == "cp":
        shutil.copy(*words[1:])
    elif words[0] == ".venv/bin/pytest":
        assert all((ROOT / word).exists() for word in words[1:] if word.startswith("tests/")), line
    else:
        pytest.fail(f"no way to check: {line}")


def parse(words: list[str]) -> None:
    """The real parser takes these words, and the experiments and rows that they name exist."""
    parser, commands = build_parser()
    words = [word for word in words if word != "--help"]
    if words[1:]:
        assert words[1] in commands, words
    if not words[2:]:
        return
    _, unknown = parser.parse_known_args(words[1:])
    assert not unknown, words
    named = [word for word in words[2:] if re.fullmatch(r"[TF]\d+[LR]?(:[\w,]+)?|A[C-F]_\w+", word)]
    if named:
        assert main(["show", *named]) == FINE


def assert_targets(words: Sequence[str]) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for word in words:
        name, setting, _ = word.partition("=")
        known = rf"\b{name}\b" if setting else rf"^{name}:"
        assert re.search(known, makefile, re.MULTILINE), f"make {word}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in (TRAINS, WALKED)], ids=ids
)
@pytest.mark.usefixtures("scripted")
def test_the_commands_of_a_page_run(page: Page, checkout: Checkout) -> None:
    for words in page.commands:
        run_here(words, checkout)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page.name == TRAINS], ids=ids)
@pytest.mark.usefixtures("scripted")
def test_the_commands_of_a_page_train(page: Page, checkout: Checkout) -> None:
    for words in page.commands:
        run_here(words, checkout)
    runs = find_runs(checkout.folder / "results" / "runs")
    assert sum(folder.is_done() for folder in runs) == 12  # 8 of the first line, 4 of a value added


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_the_commands_in_a_page_s_text_are_valid(
    page: Page, capsys: pytest.CaptureFixture[str]
) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for span in page.spans:
        words = span.replace("'", "").split()
        if span in BARE:
            continue
        if words[0] == "repro":
            parse(words)
        elif words[0] == "make":
            assert_targets(words[1:])
        elif words[:2] == ["python", "-m"]:
            assert words[2] in MODULES, span
        elif words[0] == "pip":
            assert re.fullmatch(r"pip install -e \.\[(\w+)\]", " ".join(words)), span
            assert words[-1][2:-1] in project["optional-dependencies"], span
        else:
            assert words[0] not in ("python", "pytest", "git", "cp"), span


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_no_command_hides_from_these_tests(page: Page) -> None:
    assert page.languages <= {SHELL, YAML}
    assert not re.search(r"^(    |\t)\s*(\$ )?(repro|make|python|pip) ", page.prose, re.MULTILINE)


def test_every_command_of_the_program_stands_in_a_page() -> None:
    written = {words[1] for page in PAGES for words in page.commands if words[0] == "repro"}
    assert written == set(build_parser()[1])


def test_the_exceptions_stand_in_a_page() -> None:
    written = {" ".join(words) for page in PAGES for words in page.commands}
    assert set(PARSED) | CONTRADICTED <= written


def test_the_tests_that_pages_name_exist() -> None:
    files = Path(__file__).parent.rglob("test_*.py")
    tests = {name for file in files for name in re.findall(r"def (test_\w+)", file.read_text())}
    named = {name for page in PAGES for name in re.findall(r"`(test_\w+)`", page.prose)}
    assert len(named) > 50
    assert named <= tests


@pytest.mark.parametrize("target", ["demo", "smoke"])
def test_what_the_makefile_runs_is_valid(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    makefile = (ROOT / "Makefile").read_text()
    recipe = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert recipe
    lines = re.findall(r"\$\(BIN\)/(repro [^>|\n]*)", recipe[1])
    assert lines
    for line in lines:
        parse(line.split())


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_the_keys_of_a_profile_a_grid_or_a_baseline_that_a_page_shows_are_known(
    page: Page, tmp_path: Path
) -> None:
    complete = yaml.safe_load((ROOT / "experiments/clusters/slurm.yaml").read_text())
    for block in page.blocks(YAML):
        content = yaml.safe_load(block)
        if isinstance(content, dict) and "grid" in content:
            assert decode(content["grid"], Grid, page.name).points()
        elif isinstance(content, dict) and "baseline" in content:
            assert compose(ROOT / "experiments", "smoke", content["baseline"], page.name)
        elif isinstance(content, dict):
            (tmp_path / "mine.yaml").write_text(yaml.safe_dump(complete | content))
            load_cluster(str(tmp_path / "mine.yaml"))


def test_the_page_on_grids_has_an_example_of_every_kind_of_claim() -> None:
    (page,) = (page for page in PAGES if page.name == TRAINS)
    head = {"id": "C", "statement": "so", "portability": "M"}
    examples = [yaml.safe_load(span) for span in page.spans if span.startswith("{kind: ")]
    claims = [read_claim(head | one, "here", page.name) for one in examples]
    assert [claim.kind for claim in claims if claim.kind not in SHAPES] == []
    assert {claim.kind for claim in claims} == set(SHAPES)


@pytest.mark.parametrize(
    "line",
    [
        "repro tabel T7",
        "repro table T7 --fromat tex",
        "repro table T77",
        "repro explain T7:r2:knm",
        "repro train trian.epochs=3",
        "make no-such-target",
        "make gpu NO_SUCH_SETTING=1",
        "python -m repro.no_such_module",
        "curl example.org",
    ],
)
@pytest.mark.parametrize("page", PAGES[:1], ids=ids)
def test_a_command_that_is_wrong_fails(line: str, page: Page, checkout: Checkout) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception, SystemExit)):
        run_here(line.split(), checkout)
