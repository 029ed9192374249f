"""An experiment of one's own behind the paper's: found, filtered and opened like those."""

from __future__ import annotations

from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.support.ui import Select

from repro.cli.parser import main
from tests.browser.acting import by_id, click, every, find, shown

NAME = "data"  # as a part of the page is called


@pytest.fixture(scope="module")
def report(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page without figures, to which a copy of Table 7 has been added."""
    from analysis.evidence.evidence import published_evidence
    from analysis.report.page import write

    study = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("REPRO_RESULTS", raising=False)
        patch.chdir(study)
        patch.setattr("analysis.report.page.drawn", lambda *_: {})
        assert main(["new", NAME, "--from", "T7"]) == 0
        return write(published_evidence("laptop"))


def test_it_stands_in_the_contents_and_its_cells_open(page: Chrome) -> None:
    click(page, find(page, f'.side a[href="#own-{NAME}"]'))
    section = by_id(page, f"own-{NAME}")
    assert find(section, "h2").text == find(by_id(page, "T7"), "h2").text
    assert not every(page, f'.scorecard a[href="#C.{NAME}.1"], .tile[href="#C.{NAME}.1"]')
    click(page, by_id(page, f"{NAME}:r2:knn"))
    assert NAME in find(page, "#panel").text


def test_search_and_filter_take_it_like_the_others(page: Chrome) -> None:
    by_id(page, "search").send_keys("predictor")
    assert {"T7", f"own-{NAME}"} <= set(shown(page, ".experiment"))
    assert "T1" not in shown(page, ".experiment")
    assert every(by_id(page, f"own-{NAME}"), "tr.hit")
    by_id(page, "search").clear()
    select = Select(by_id(page, "filter"))
    select.select_by_value(select.options[1].get_attribute("value") or "")
    kinds = {find(page, f'[id="{name}"]').tag_name for name in shown(page, ".experiment")}
    assert kinds == {"section"}
