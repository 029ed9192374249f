"""The pages for people: their numbers are those of the records, their files and anchors exist."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from repro.cli import main
from repro.config.compose import compose
from repro.config.schema import PHOTOGRAPHS
from repro.harness.experiments.experiment import experiment_ids, load
from tests.pages import PAGES, README, ROOT, YAML, Page, tables

OF_RECORDS = ("README.md", "docs/results.md")
DOCS = [page for page in PAGES if page.name.startswith("docs/")]
COUNTED = ("holds", "overclaim, as noted", "nothing printed")
FOR_USERS = [page for page in DOCS if page.name != "docs/how-it-works.md"]


def page(name: str) -> Page:
    return next(page for page in PAGES if page.name == name)


def is_selection(part: list[list[str]], whole: list[list[str]]) -> bool:
    """Whether `part` is lines and columns of `whole`, under the same headings, in its order."""
    if not set(part[0]) <= set(whole[0]):
        return False
    columns = [whole[0].index(heading) for heading in part[0]]
    lines = iter([line[column] for column in columns] for line in whole)
    return columns == sorted(columns) and all(line in lines for line in part)


def is_measured(table: list[list[str]]) -> bool:
    return any("ours" in heading.split() for heading in table[0])


@pytest.mark.parametrize("name", [*OF_RECORDS, "docs/gpu.md"])
def test_every_result_is_a_cell_of_a_published_table(name: str) -> None:
    published = [
        table
        for path in (ROOT / "results/published").glob("*/*.md")
        for table in tables(path.read_text())
    ]
    shown = [table for table in page(name).tables if is_measured(table)]
    assert shown
    for table in shown:
        assert len(table) > 2
        assert any(is_selection(table, whole) for whole in published), table[0]


def test_every_line_of_the_tables_of_speed_is_of_the_benchmarks() -> None:
    shown = [table for table in page("docs/speed.md").tables if is_measured(table)]
    for name, table in zip(("cpu.md", "cuda.md"), shown, strict=True):
        (measured,) = tables((ROOT / "results/benchmarks" / name).read_text())
        columns = [measured[0].index(heading) for heading in table[0]]
        there = [[line[column] for column in columns] for line in measured]
        assert len(table) > 6
        assert all(line in there for line in table)


def test_no_page_shows_measurements_that_no_test_compares() -> None:
    tied = (*OF_RECORDS, "docs/gpu.md", "docs/speed.md")
    assert not [p.name for p in PAGES if p.name not in tied and any(map(is_measured, p.tables))]


def test_a_changed_number_or_heading_is_no_selection() -> None:
    whole = [["a", "b", "c"], ["1", "2", "3"], ["4", "5", "6"]]
    assert is_selection([["a", "c"], ["4", "6"]], whole)
    assert not is_selection([["a", "c"], ["4", "7"]], whole)
    assert not is_selection([["a", "d"], ["4", "6"]], whole)
    assert not is_selection([["c", "a"], ["6", "4"]], whole)
    assert not is_selection([["a"], ["4"], ["1"]], whole)


@pytest.mark.parametrize("name", OF_RECORDS)
def test_the_count_of_claims_is_that_of_the_published_page(name: str) -> None:
    published = (ROOT / "results/published/laptop/README.md").read_text()
    total, hold, do_not, are_open = re.findall(
        r"^(\d+) claims: (\d+) hold, (\d+) do not, (\d+) are open", published, re.MULTILINE
    )[0]
    text = " ".join(page(name).text.split())
    assert int(total) == sum(len(load(name).claims) for name in experiment_ids())
    assert re.search(
        rf"\b{total} claims {hold} hold( here)?, {do_not} do not and {are_open} are open", text
    )


@pytest.mark.parametrize("name", OF_RECORDS)
def test_the_floors_are_those_of_the_published_table(name: str) -> None:
    published = (ROOT / "results/published/laptop/T7.md").read_text()
    floors = re.findall(r"random initialisation ([\d.]+) %, raw pixels ([\d.]+) %", published)[0]
    quoted = re.findall(r"\b\d+\.\d(?= %)", " ".join(page(name).text.split()))
    assert set(quoted) <= set(floors)
    assert quoted


def test_the_counts_of_the_paper_as_data_are_those_of_the_files(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["check", "all", "--on", "reported", "--json"]) == 1
    summary = json.loads(capsys.readouterr().out)["summary"]
    hold, overclaims, silent = (summary[word] for word in COUNTED)
    text = " ".join(page("docs/verdicts.md").text.split())
    assert (
        f"There {hold} hold, {overclaims} are overclaims and {silent} have no printed number"
    ) in text
    assert f"Its {sum(summary.values())} claims" in text
    paper = yaml.safe_load((ROOT / "experiments/base/paper.yaml").read_text())
    assert len(paper["inconsistencies"]) == 14
    assert "fourteen places" in text


def test_the_scales_are_those_of_the_configs() -> None:
    shown = {line[0].strip("`"): line for line in page("docs/own-experiments.md").tables[0]}
    for scale in ("smoke", "laptop", "gpu"):
        config = compose(ROOT / "experiments", scale)
        tiles = f"{len(PHOTOGRAPHS) * config.data.train_tiles:,} tiles"
        assert tiles in shown[scale][1]
        if scale != "smoke":
            assert f"{config.data.resolution} px" in shown[scale][1]
    assert f"width {compose(ROOT / 'experiments', 'smoke').model.dim}" in shown["smoke"][2]
    laptop = compose(ROOT / "experiments", "laptop").model
    assert f"{laptop.depth} blocks, width {laptop.dim}" in shown["laptop"][2]
    assert f"{len(PHOTOGRAPHS)} photographs" in shown["laptop"][1]


@pytest.mark.slow
def test_what_the_whole_paper_costs_is_what_the_plan_says(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPRO_RESULTS", str(tmp_path))
    (tmp_path / "benchmarks").mkdir()  # no GPU has been measured: at the speed of Table 8
    assert main(["plan", "all", "--scale", "paper", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    text = " ".join(page("docs/own-experiments.md").text.split())
    hours = round(plan["gpu_hours"], -4)
    assert f"{plan['todo']} runs at paper scale, about {hours:,.0f} GPU-hours" in text


def test_the_oldest_versions_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    python = project["requires-python"].removeprefix(">=")
    assert f"Python {python} or newer" in README.text
    (torch,) = (name for name in project["dependencies"] if re.match(r"torch\b", name))
    assert f"torch {torch.partition('>=')[2]} and newer" in page("docs/own-experiments.md").text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_and_heading_that_a_page_links_exists(page: Page) -> None:
    for link in page.links:
        path, _, anchor = link.partition("#")
        target = page.path.parent / path if path else page.path
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), flags=re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", heading.lower()) for heading in headings]
            assert anchor in [heading.replace(" ", "-") for heading in anchors], link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_in_a_page_s_prose_exists(page: Page) -> None:
    paths = re.compile(r"(repro|analysis|experiments|tests|docs|results/published|\.ci)(/[\w.-]+)+")
    for span in page.spans:
        if paths.fullmatch(span) and "NAME" not in span:
            assert (ROOT / span).exists(), span


def test_the_readme_is_a_front_door() -> None:
    assert len(README.text.encode()) <= 8_000
    assert len(re.findall(r"!\[", README.text)) == 1
    assert {f"docs/{page.path.name}" for page in DOCS} <= set(README.links)


@pytest.mark.parametrize("page", FOR_USERS, ids=lambda page: page.name)
def test_a_page_begins_with_its_question_and_the_command_that_answers_it(page: Page) -> None:
    assert re.match(r"# [^\n]+\?\n\n```sh\n", page.text)
    assert 3_000 <= len(page.text.encode()) <= 8_000


def test_a_claim_that_a_page_quotes_stands_so_in_its_experiment() -> None:
    claims = [
        claim
        for name in experiment_ids()
        for claim in yaml.safe_load((ROOT / f"experiments/{name}.yaml").read_text())["claims"]
    ]
    blocks = [yaml.safe_load(block) for page in DOCS for block in page.blocks(YAML)]
    quoted = [claim for block in blocks if isinstance(block, list) for claim in block]
    assert quoted
    assert all(claim in claims for claim in quoted)


def test_every_test_that_a_page_names_exists() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    defined = set(re.findall(r"^def (test_\w+)\(", sources, re.MULTILINE))
    named = {span for page in PAGES for span in page.spans if re.fullmatch(r"test_\w+", span)}
    assert len(named) > 15
    assert named <= defined, named - defined
