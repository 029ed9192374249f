"""The report as a file: the same bytes, nothing from outside, nothing that leaves its data."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from analysis.evidence.evidence import load_evidence
from analysis.report.page import render, write
from repro.cli.parser import main
from repro.errors import UserError

Record = dict[str, Any]
HOSTILE = "</script><img src=x onerror=alert(1)>&\u2028"
BUILD = """
import sys
from repro.cli import main
assert main(["report", "--out", sys.argv[1]]) == 0
assert "torch" not in sys.modules, "torch was imported"
"""


class Page(HTMLParser):
    """Ids, links within the page, whatever could be loaded from elsewhere, and the data."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.targets: set[str] = set()
        self.loaded: list[str] = []
        self.tags: set[str] = set()
        self.buttons: list[str] = []
        self._in_data = False
        self.data: dict[str, Any] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {key: value or "" for key, value in attrs}
        self.tags.add(tag)
        if "id" in values:
            self.ids.append(values["id"])
        for key in ("href", "src", "xlink:href", "action", "srcset"):
            link = values.get(key, "")
            if link.startswith("#"):
                self.targets.add(link[1:])
            elif link and not link.startswith("data:"):
                self.loaded.append(link)
        if values.get("class") == "cell":
            self.buttons.append(values["id"])
        self._in_data = values.get("id") == "data"

    def handle_data(self, data: str) -> None:
        if self._in_data:
            self.data = json.loads(data)
            self._in_data = False


@pytest.fixture
def some(make: Callable[..., Record], published: Callable[..., Path]) -> Path:
    """Three seeds of a row, one of another, on a machine with a name that is no name."""
    records = [make("T7.r2", seed, knn=55.0 + seed) for seed in range(3)] + [make("T7.r5", 0)]
    for record in records:
        record["env"]["hardware"] = {"cpu": HOSTILE, "cores": 2, "threads": 1, "gpu": None}
    return published(records).parents[1]


def test_the_same_records_give_the_same_bytes_without_torch(some: Path, tmp_path: Path) -> None:
    pages = []
    for seed in ("1", "2"):
        path = tmp_path / f"{seed}.html"
        environment = os.environ | {"PYTHONHASHSEED": seed, "REPRO_RESULTS": str(some)}
        subprocess.run([sys.executable, "-c", BUILD, str(path)], check=True, env=environment)
        pages.append(path.read_bytes())
    assert pages[0] == pages[1]


def test_the_page_holds_all_it_needs_and_its_data_stay_data(some: Path) -> None:
    text = render(load_evidence("laptop"))
    page = Page(text)
    assert page.loaded == []
    assert not re.search(r"@import|url\((?!#|T7-)", text)
    repeated = {name for name in page.ids if page.ids.count(name) > 1}
    assert repeated == set()
    assert page.targets - {"main"} <= set(page.ids)
    assert "img" not in page.tags
    assert sorted(page.data["cells"]) == sorted(page.buttons)
    cell = page.data["cells"]["T7:r2:knn"]
    assert cell["shown"] == "56.0 ± 2.5 (3)"
    assert cell["runs"][0]["hardware"] == f"{HOSTILE}, 1 of 2 cores"
    assert "C.T7.1" in cell["claims"]
    keys = [key for key, _, _ in page.data["distances"][cell["distance"]]]
    assert "train.epochs" in keys
    run = page.data["runs"][cell["runs"][0]["id"]]
    place, values = run["curves"]["knn"]
    assert page.data["epochs"][place] == [0, 2, 4, 6, 8, 10]
    assert values == [60, 59, 58, 57, 56, 55]
    assert page.data["labels"]["T7:r6"] == "DINO + predictor"


@pytest.mark.parametrize("name", ["mine", "data"])  # the page has a part that is called data
def test_own_experiments_stand_behind_the_paper_s_and_count_for_nothing_there(
    name: str, some: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    before = render(load_evidence("laptop"))
    for words in ([name, "--from", "T7"], ["unmade"]):
        assert main(["new", *words]) == 0
    (tmp_path / "elsewhere" / "experiments" / "own" / "broken.yaml").write_text("id: [")
    text = render(load_evidence("laptop"))
    page = Page(text)
    assert {name for name in page.ids if page.ids.count(name) > 1} == set()
    assert page.targets - {"main"} <= set(page.ids)
    assert {"T7", f"own-{name}", f"{name}:r2:knn", f"C.{name}.1"} <= set(page.ids)
    assert not {"own-unmade", "own-broken"} & set(page.ids)
    assert page.data["cells"][f"{name}:r2:knn"]["shown"] == "56.0 ± 2.5 (3)"
    assert page.data["labels"][f"{name}:r6"] == "DINO + predictor"
    scorecards = [re.findall(r"(?s)<main.*?<section class", one) for one in (before, text)]
    assert scorecards[0] == scorecards[1] != []
    assert text.index('id="T9"') < text.index(f'id="own-{name}"')


def test_a_run_folder_adds_the_last_line_of_its_log(
    make: Callable[..., Record], published: Callable[..., Path]
) -> None:
    record = make("T7.r2", 0)
    results = published([record]).parents[1]
    folder = results / "runs" / f"{record['slug']}-{record['id']}"
    folder.mkdir(parents=True)
    (folder / "log.txt").write_text("step 1\ndone: knn 75.0\n")
    evidence = load_evidence("laptop")
    (run,) = Page(render(evidence)).data["cells"]["T7:r2:knn"]["runs"]
    assert run.get("log") is None, "of the folder's own training, not of the published one"
    assert run["from"] == "results/published/laptop/records.jsonl"
    own = replace(evidence, places={record["id"]: str(folder)})
    (run,) = Page(render(own)).data["cells"]["T7:r2:knn"]["runs"]
    assert run["log"] == "done: knn 75.0"
    assert run["from"] == f"results/runs/{folder.name}"


def test_without_any_record_the_page_still_says_what_the_paper_claims(results: Path) -> None:
    path = write(load_evidence("laptop"))
    assert path == results / "report" / "laptop.html"
    page = Page(path.read_text())
    assert page.buttons == []
    assert {"T7", "C.T7.1", "deviations"} <= set(page.ids)
    assert "<td>Eq. 3, main_dino.py:402</td>" in path.read_text()
    with pytest.raises(UserError, match="a folder"):
        write("laptop", str(results))
