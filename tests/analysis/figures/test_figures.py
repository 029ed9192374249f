"""`repro figure`: names, files, the same bytes every time, no torch."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from PIL import Image

from analysis.evidence.evidence import load_evidence
from analysis.figures.draw import draw, draw_collapse, drawing_of
from analysis.figures.runs import of_folder
from analysis.figures.style import FORMATS
from repro.cli.own.scaffold import scaffold
from repro.cli.parser import main
from repro.decode import plain_yaml
from repro.errors import UserError
from repro.harness.experiments.experiment import experiment_ids, load, parse
from repro.harness.experiments.figure import AnyFigure, Figure
from repro.harness.runs.failures import Failure, FailureKind
from repro.harness.runs.store import create_run
from tests.conftest import MakeConfig

Record = dict[str, Any]
ROWS = (
    "F7.both", "F7.centering", "T7.r2", "F6R.prev_epoch", "F5.s16", "T9.bs128", "T9.bs8",
    "AC_K.K1024", "AC_l2.no_1", "AD_fig_rn50.rn50", "AE_fig_byol.with_mc",
)  # fmt: skip


@pytest.fixture
def records(make: Callable[..., Record]) -> list[Record]:
    made = [make(row, seed) for row in ROWS for seed in range(3)]
    return [
        *made,
        *(make("T8.l2", 0, variant=v, time_h=0.01, mem_G=2.0) for v in ("100ep", "300ep")),
    ]


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize(
    "name",
    ["F7", "F6R", "F6L", "F5", "T7", "T8", "T9", "T14", "AC_K", "AC_l2", "AE_mc", "AE_fig_byol",
     "AD_fig_rn50", "T12", "F4", "scorecard"],
)  # fmt: skip
def test_every_kind_of_figure_can_be_drawn_with_room_for_its_words(
    name: str, records: list[Record], published: Callable[..., Path]
) -> None:
    published(records)
    png, svg = draw([name], load_evidence("laptop"), ["png", "svg"])
    with Image.open(png) as picture:
        grey = picture.convert("L")
    assert grey.width == 1440
    assert len(set(grey.resize((200, 100)).tobytes())) > 5  # not blank
    edge = [grey.crop((0, 0, 2, grey.height)), grey.crop((grey.width - 2, 0, *grey.size))]
    assert all(min(strip.tobytes()) > 250 for strip in edge), "something is cut off"
    assert ET.parse(svg).getroot().tag.endswith("svg")


def test_the_same_records_give_the_same_bytes_in_every_format_and_torch_is_not_imported(
    records: list[Record], published: Callable[..., Path], results: Path
) -> None:
    published(records)
    names = ["F7", "T9", "T7", "F5", "scorecard"]
    script = (
        "import sys\nfrom analysis.figures.draw import draw, draw_collapse\n"
        "from analysis.evidence.evidence import load_evidence\n"
        f"for f in draw({names}, load_evidence('laptop'), {FORMATS}): print(f)\n"
        "for f in draw_collapse(['F7:both'], None, ['svg']): pass\n"
        "assert 'torch' not in sys.modules\n"
    )
    made = []
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        words = [sys.executable, "-c", script]
        out = subprocess.run(words, env=environment, check=True, capture_output=True, text=True)
        made.append({path: Path(path).read_bytes() for path in out.stdout.splitlines()})
    assert len(made[0]) == len(names) * len(FORMATS)
    assert made[0] == made[1]


def test_all_draws_what_has_runs_and_says_in_a_line_what_has_none(
    make: Callable[..., Record],
    published: Callable[..., Path],
    results: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    published([make("F6R.prev_epoch", seed) for seed in range(3)])
    assert main(["figure", "all", "--format", "svg"]) == 0
    drawn, left_out = capsys.readouterr()
    folder = results / "figures" / "laptop"
    assert drawn.split() == [str(folder / f"{n}.svg") for n in ("F6R", "scorecard")]
    assert "F7: no finished run at scale laptop, left out" in left_out.splitlines()
    assert left_out.count(", left out\n") == 35 - 1
    assert left_out.endswith("\nevidence: 3 published runs at laptop scale\n")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["F7"], "F7: no finished run at scale laptop; repro run F7 --scale laptop"),
        (["all"], "no finished run at scale laptop; repro run T7 --scale laptop"),
        (["scorecrd"], "no figure 'scorecrd'; nearest: scorecard"),
        (["collapse"], r"figure collapse: name runs; repro figure collapse 'F7-\*-s0'"),
        (["collapse", "0123456789"], "no run in .* matches '0123456789'"),
        (["collapse", "F7"], "no run here and none published is 'F7'"),
    ],
)
def test_what_cannot_be_drawn_is_the_users_mistake(
    words: list[str], complaint: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def drawn() -> list[str]:
        if words[0] == "collapse":
            return list(draw_collapse(words[1:], None, ["png"]))
        return list(draw(words, load_evidence("laptop"), ["png"]))

    with pytest.raises(UserError, match=complaint):
        drawn()
    assert main(["figure", *words]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("kind", get_args(Figure))
def test_a_kind_that_a_file_may_name_is_drawn_by_the_module_of_that_name(
    kind: type[AnyFigure],
) -> None:
    name = str(kind.__struct_config__.tag)
    draws = drawing_of(name)
    assert draws.__module__ == f"analysis.figures.{name}"
    assert list(inspect.signature(draws).parameters) == ["experiment", "evidence"]
    begun = parse(plain_yaml.read(scaffold(Path("own/mine.yaml")), ""), Path("own/mine.yaml"))
    assert name in {one.figure.kind for one in (*map(load, experiment_ids()), begun)}


def test_an_unknown_format_names_the_nearest(
    records: list[Record], published: Callable[..., Path]
) -> None:
    published(records)
    with pytest.raises(UserError, match="--format sgv: no such figure format; nearest: svg"):
        list(draw(["F7"], load_evidence("laptop"), ["sgv"]))


def test_a_diverged_run_is_nan_in_the_collapse_figure(tmp_path: Path, smoke: MakeConfig) -> None:
    """The step that is not finite ends a run before it is logged; the one before looked healthy."""
    folder = create_run(tmp_path / "runs", "one", smoke())
    step = {"kind": "step", "loss": 5.0, "sentinel": "healthy"}
    folder.append_metrics([step | {"step": n, "epoch": n / 4} for n in (1, 2, 3)])
    assert of_folder(folder).state == "healthy"
    folder.fail(Failure(FailureKind.nan, "Diverged: the loss is nan at step 4", step=4))
    shown = of_folder(folder)
    assert (shown.state, shown.onset) == ("nan", 1.0)
    assert shown.meaning.startswith("the loss is not finite")
