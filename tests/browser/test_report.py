"""The report in a real browser: clicked through, and compared with the published records."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from analysis.evidence.evidence import load_evidence
from tests.browser.acting import (
    by_id,
    cells_in_data,
    click,
    every,
    facts,
    find,
    focused,
    number,
    press,
    shown,
    texts,
)
from tests.browser.published import Published, half_width_of_three, mean

CELLS = ("T7:r2:knn", "T7:r5:linear", "F7:both:entropy", "T14:r7:knn", "T3:sup_vits16:rox_m")


def test_every_experiment_has_its_section_table_figure_and_place_in_the_contents(
    page: Chrome, published: Published
) -> None:
    ids = shown(page, ".experiment")
    assert sorted(ids) == sorted(published.experiments)
    for name in ids:
        section = by_id(page, name)
        assert published.experiments[name]["title"] in find(section, "h2").text
        assert published.experiments[name]["question"] in find(section, ".question").text
        assert len(every(section, "tr[data-row]")) == len(published.experiments[name]["rows"])
        assert every(section, "figure svg"), name
        link = find(page, f'.side a[href="#{name}"]')
        click(page, link)
        top = page.execute_script("return arguments[0].getBoundingClientRect().top", section)
        room = page.execute_script(
            "return document.body.scrollHeight - scrollY - innerHeight < 2 ? innerHeight : 120"
        )
        assert -1 <= top <= room, name


def test_every_cell_prints_the_mean_of_the_records_it_names(
    page: Chrome, published: Published
) -> None:
    data = cells_in_data(page)
    printed = dict(zip(shown(page, "button.cell"), texts(page, "button.cell"), strict=True))
    assert printed.keys() == data.keys()
    assert len(printed) > 100
    checked = 0
    for address, text in printed.items():
        name, _, metric = address.split(":")
        if published.column(name, metric).get("minus"):
            continue  # its runs are those of the first of two columns
        runs = [run["id"] for run in data[address]["runs"]]
        values = published.values(address, runs)
        decimals = len(text.split()[0].partition(".")[2])
        units = 60 if " min " in text else 1  # hours that are less than one are shown in minutes
        shown_mean = pytest.approx(mean(values) * units, abs=0.5001 * 10**-decimals)
        assert number(text) == shown_mean, address
        seeds = f"({len(runs)})" if len(runs) > 1 else "(1 seed)"
        assert text.endswith(seeds), address
        source = published.source(*address.split(":"))
        metrics = {i: published.runs[i]["metrics"] for i in published.siblings(runs[0])}
        having = {i for i, own in metrics.items() if own.get(source) is not None}
        assert set(runs) == having, address
        checked += 1
    assert checked > 100


@pytest.mark.parametrize("address", CELLS)
def test_a_cell_opens_to_its_runs_and_numbers(
    page: Chrome, published: Published, address: str
) -> None:
    button = by_id(page, address)
    click(page, button)
    panel = by_id(page, "panel")
    assert panel.is_displayed()
    assert address in panel.text
    runs = [find(row, "code").text for row in every(panel, '[aria-label="Runs"] tbody tr')]
    values = published.values(address, runs)
    said = facts(panel)
    assert number(said["Ours, mean"]) == pytest.approx(mean(values), rel=1e-3)
    assert said["Seeds"] == str(len(runs))
    assert said["Paper"].split()[0] == published.reported(address)
    if said["Paper"] != "-":
        gap = mean(values) - float(published.reported(address))
        assert number(said["Difference"]) == pytest.approx(gap, rel=1e-3, abs=1e-4)
    if "Clean tier" in said:
        clean = published.values(address, runs, tier="_clean")
        assert number(said["Clean tier"]) == pytest.approx(mean(clean), rel=1e-3)
    if len(runs) == 3:
        low, high = map(number, said["95 % interval"].split(" to "))
        assert (high - low) / 2 == pytest.approx(half_width_of_three(values), rel=5e-3)
    for row, run, value in zip(
        every(panel, '[aria-label="Runs"] tbody tr'), runs, values, strict=True
    ):
        record = published.runs[run]
        cells = [cell.text for cell in every(row, "th, td")]
        assert cells[0] == str(record["seed"])
        assert number(cells[1]) == pytest.approx(value, rel=1e-3, abs=1e-4)
        assert cells[3] == record["sentinel"]["state"]
        assert cells[4] in {
            sha[:10] for sha in (record["env"]["git_sha"], *record.get("shas", {}).values())
        }
    assert "skimage16" in find(panel, '[aria-label="Config difference"]').text
    assert every(panel, ".charts svg polyline")
    press(page, Keys.ESCAPE)
    assert not panel.is_displayed()
    assert focused(page) == button


def test_claims_are_counted_as_check_counts_them_and_say_what_it_says(page: Chrome) -> None:
    from analysis.verdicts.claims import check

    verdicts = check(["all"], load_evidence("laptop"))
    words = [text.split(" · ")[0] for text in texts(page, ".claim .verdict")]
    assert Counter(words) == Counter(str(verdict.verdict) for verdict in verdicts)
    assert len(every(page, ".tile")) == len(verdicts)
    legend = " ".join(texts(page, ".legend button"))
    for holds, word in ((True, "confirmed"), (False, "contradicted")):
        held = sum(v.holds is holds for v in verdicts)
        assert (f"{held} {word}" in legend) == (held > 0)
    assert f"{sum(v.on_paper == 'overclaim' for v in verdicts)} overclaims" in legend
    for verdict in [v for v in verdicts if v.holds is not None][:4]:
        claim = by_id(page, verdict.id)
        click(page, find(claim, "summary"))
        text = " ".join(claim.text.split())
        for part in (verdict.statement, verdict.detail, verdict.rule, verdict.where, verdict.flips):
            assert " ".join(part.split()) in text, verdict.id


def test_a_tile_leads_to_its_claim_and_the_claim_to_its_cells(page: Chrome) -> None:
    click(page, find(page, '.tile[href="#C.T7.5"]'))
    claim = by_id(page, "C.T7.5")
    WebDriverWait(page, 5).until(lambda _: claim.get_attribute("open"))
    click(page, find(claim, '[data-cell="T7:r4:knn"]'))
    panel = by_id(page, "panel")
    assert panel.is_displayed()
    assert find(panel, "h2").text == "DINO without multi-crop: k-NN"
    click(page, next(a for a in every(panel, "a") if a.text == "C.T7.5"))
    assert not panel.is_displayed()
    WebDriverWait(page, 5).until(lambda _: focused(page) == find(claim, "summary"))
    click(page, find(claim, "summary"))
    click(page, find(page, '.tile[href="#C.T7.5"]'))
    WebDriverWait(page, 5).until(lambda _: claim.get_attribute("open"))


def test_search_leaves_what_has_the_words(page: Chrome, published: Published) -> None:
    before = shown(page, ".experiment")
    box = by_id(page, "search")
    box.send_keys("sinkhorn")
    left = shown(page, ".experiment")
    assert 0 < len(left) < len(before)
    for name in before:
        content = " ".join(
            [row["label"] for row in published.experiments[name]["rows"]]
            + texts(page, f"#{name} .heading, #{name} tr[data-row], #{name} .claim summary")
        )
        assert (name in left) == ("sinkhorn" in content.lower()), name
    assert f"Showing {len(left)} experiments" in by_id(page, "found").text
    box.send_keys(Keys.ESCAPE)
    assert shown(page, ".experiment") == before
    box.send_keys("nothing has these words")
    assert shown(page, ".experiment") == []


def test_the_filter_leaves_the_claims_of_one_verdict(page: Chrome) -> None:
    from analysis.verdicts.claims import check

    verdicts = check(["all"], load_evidence("laptop"))
    wanted = {v.id: v.experiment for v in verdicts if v.holds is True}
    Select(by_id(page, "filter")).select_by_value("confirmed")
    assert set(shown(page, ".claim")) == wanted.keys()
    assert set(shown(page, ".experiment")) == set(wanted.values())
    click(page, find(page, '.legend [data-filter="overclaim"]'))
    noted = {v.id for v in verdicts if v.on_paper == "overclaim"}
    assert set(shown(page, ".claim")) == noted


def test_a_column_sorts_up_and_down_and_back_to_the_papers_order(
    page: Chrome, published: Published
) -> None:
    section = by_id(page, "T7")
    head = every(section, "thead tr:last-child th")[7]
    column = "#T7 tbody tr td:nth-child(8)"
    original = texts(page, column)
    for order, reverse in (("ascending", False), ("descending", True)):
        click(page, find(head, "button"))
        assert head.get_attribute("aria-sort") == order
        values = [number(text) for text in texts(page, column)]
        assert values == sorted(values, reverse=reverse)
        assert len(values) == len(published.experiments["T7"]["rows"])
    click(page, find(head, "button"))
    assert head.get_attribute("aria-sort") is None
    assert texts(page, column) == original


def test_dark_follows_the_system_until_somebody_chooses(page: Chrome, report: Path) -> None:
    def brightness() -> int:
        colour = page.execute_script("return getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", colour)[:3]))

    def prefer(scheme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    prefer("light")
    light = brightness()
    prefer("dark")
    WebDriverWait(page, 10).until(lambda _: brightness() != light, "the page hears of it")
    assert brightness() < 150 < light
    button = by_id(page, "theme")
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    assert brightness() == light
    assert button.get_attribute("aria-pressed") == "false"
    page.execute_script("localStorage.clear()")


def test_the_keyboard_alone_is_enough(page: Chrome) -> None:
    press(page, Keys.TAB)
    assert focused(page).text == "Skip to the results"
    press(page, Keys.ENTER)
    assert focused(page).get_attribute("id") == "main"
    press(page, "/")
    assert focused(page).get_attribute("id") == "search"
    press(page, *"important components", Keys.ENTER)
    assert focused(page).text == "Important components for self-supervised ViT pretraining"
    for _ in range(60):
        press(page, Keys.TAB)
        if focused(page).get_attribute("class") == "cell":
            break
    address = focused(page).get_attribute("id")
    assert address == "T7:r1:knn"
    press(page, Keys.ENTER)
    panel = by_id(page, "panel")
    assert panel.is_displayed()
    assert page.execute_script("return panel.contains(document.activeElement)")
    press(page, Keys.ESCAPE)
    assert not panel.is_displayed()
    assert focused(page).get_attribute("id") == address
    for _ in range(80):
        press(page, Keys.TAB)
        if focused(page).tag_name == "summary" and "C.T7.1" in focused(page).text:
            break
    press(page, Keys.ENTER)
    assert by_id(page, "C.T7.1").get_attribute("open")


def test_links_lead_to_sections_claims_and_cells(page: Chrome, report: Path) -> None:
    page.get("about:blank")
    page.get(f"{report.as_uri()}#T7:r2:knn")
    panel = by_id(page, "panel")
    assert panel.is_displayed()
    assert find(panel, "h2").text == "DINO without momentum: k-NN"
    press(page, Keys.ESCAPE)
    assert page.current_url.endswith("#T7")
    page.get("about:blank")
    page.get(f"{report.as_uri()}#C.T7.1")
    claim = by_id(page, "C.T7.1")
    assert claim.get_attribute("open")
    inside = (
        "const r = arguments[0].getBoundingClientRect(); return r.top >= 0 && r.top < innerHeight"
    )
    assert page.execute_script(inside, claim)


def test_a_screen_reader_finds_names_captions_and_landmarks(page: Chrome) -> None:
    tree = page.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles: dict[str, list[str]] = {}
    for node in tree:
        if not node.get("ignored"):
            role, name = (node.get(key, {}).get("value", "") for key in ("role", "name"))
            roles.setdefault(role, []).append(name)
    for role in ("button", "link", "image", "table", "region", "textbox", "searchbox", "combobox"):
        assert all(roles.get(role, ["named"])), role
    for landmark in ("main", "navigation", "banner", "search", "contentinfo"):
        assert landmark in roles, landmark
    levels = page.execute_script(
        "return [...document.querySelectorAll('main h1, main h2, main h3')].map(e => +e.tagName[1])"
    )
    assert levels[0] == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))


def test_paper_shows_open_claims_and_no_controls(page: Chrome) -> None:
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert shown(page, "#search, #filter, #theme, .side") == []
    page.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert every(page, "main details:not([open])") == []
    page.execute_script("dispatchEvent(new Event('afterprint'))")
    assert every(page, "main details[open]") == []
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_a_narrow_window_scrolls_tables_and_not_the_page(page: Chrome) -> None:
    size = {"width": 400, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        table = find(page, "#T7 .scroll")
        assert page.execute_script(
            "return arguments[0].scrollWidth > arguments[0].clientWidth", table
        )
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
