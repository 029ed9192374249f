"""Tables in the paper's layout: heads over metrics, groups, bold best, differences, spread."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from msgspec import structs

from analysis.evidence.evidence import Evidence, load_evidence
from analysis.tables.formats import render_tables, write
from analysis.tables.table import Entry, Printed, build
from analysis.verdicts.cells import column_spread
from repro.harness.experiments.experiment import experiment_ids
from repro.harness.runs.records import as_line

Record = dict[str, Any]
MakeEvidence = Callable[..., Evidence]


@pytest.fixture
def evidence(make: Callable[..., Record], evidence_of: MakeEvidence) -> Evidence:
    """Three seeds of T7's first row, two of its third, one of its sixth."""
    records = [make("T7.r1", seed, linear=80.0 + seed) for seed in range(3)]
    records += [make("T7.r3", seed, knn=76.5 + seed) for seed in range(2)]
    records += [make("T7.r6", 0, knn=71.25)]
    for number in records:
        number["counts"]["test_images"] = 1024
    return evidence_of(records)


def printed(evidence: Evidence, name: str = "T7") -> Printed:
    return build(evidence.experiment(name), evidence)


def entry(table: Printed, row: str, over: str, title: str) -> Entry:
    (column,) = (i for i, h in enumerate(table.headings) if (h.over, h.title) == (over, title))
    (line,) = (line for line in table.lines if line.row == row)
    return line.entries[column]


def test_a_metric_is_the_papers_number_ours_and_the_difference(evidence: Evidence) -> None:
    table = printed(evidence)
    assert entry(table, "r1", "k-NN", "paper").text == "72.8"
    assert entry(table, "r1", "k-NN", "ours").text == "75.1 ± 0.2 (3)"
    assert entry(table, "r1", "k-NN", "Δ").text == "+2.3"
    assert entry(table, "r2", "k-NN", "ours").text == "not run"
    assert entry(table, "r2", "k-NN", "Δ").text == "-"
    assert entry(table, "r1", "Lin.", "ours (official)").address == "T7:r1:linear"
    assert any("Δ" in note and "not judged" in note for note in table.notes)


def test_the_best_of_a_column_is_bold(evidence: Evidence) -> None:
    table = printed(evidence)
    best = {line.row for line in table.lines for e in line.entries if e.best}
    assert entry(table, "r1", "k-NN", "paper").best  # 72.8, as the paper has it
    assert entry(table, "r3", "k-NN", "ours").best
    assert best == {"r1", "r3"}
    assert "**77.0" in write(table, "md")
    assert r"\textbf{77.0" in write(table, "tex")
    assert "<b>77.0" in write(table, "html")


def test_no_mean_of_ours_is_bold_that_is_the_best_by_its_seeds_alone(
    make: Callable[..., Record], evidence_of: MakeEvidence
) -> None:
    runs = [make("T7.r1", seed, knn=70.0 + 2 * seed) for seed in range(3)]
    runs += [make("T7.r3", 0, knn=71.0)]
    table = printed(evidence_of(runs))
    assert entry(table, "r1", "k-NN", "ours").text.startswith("72.0")
    assert entry(table, "r3", "k-NN", "ours").text.startswith("71.0")
    assert not any(entry(table, row, "k-NN", "ours").best for row in ("r1", "r3"))


def test_one_or_two_seeds_borrow_the_columns_spread_and_say_so(evidence: Evidence) -> None:
    table = printed(evidence)
    assert "† (2)" in entry(table, "r3", "k-NN", "ours").text
    assert "† (1 seed)" in entry(table, "r6", "k-NN", "ours").text
    (note,) = (note for note in table.notes if note.startswith("†"))
    # Seeds of these rows differ by less than counting 1,024 test images does.
    assert "k-NN: sampling of the test images (1.4)" in note
    experiment = evidence.experiment("T7")
    spread = column_spread(experiment, experiment.metric("knn"), evidence)
    assert spread is not None
    assert spread.sd == pytest.approx(100 * (0.7125 * 0.2875 / 1024) ** 0.5)


def test_a_collapsed_row_does_not_lend_its_spread(
    make: Callable[..., Record], evidence_of: MakeEvidence
) -> None:
    healthy = [make("T7.r1", seed, knn=70.0 + seed) for seed in range(3)]
    collapsed = [make("T7.r2", seed, knn=10.0 + 20 * seed) for seed in range(3)]
    for run in collapsed:
        run["sentinel"] = {"state": "constant", "since_step": 9, "meaning": "all alike"}
    evidence = evidence_of([*healthy, *collapsed])
    experiment = evidence.experiment("T7")
    spread = column_spread(experiment, experiment.metric("knn"), evidence)
    assert spread is not None
    assert (spread.sd, spread.df) == (pytest.approx(1.0), 2)


def test_what_others_measured_stands_beside(evidence: Evidence) -> None:
    table = printed(evidence)
    assert entry(table, "r1", "k-NN", "others").text == "73.4"
    assert any("VISSL" in note and "batch 1024" in note for note in table.notes)


def test_groups_are_sub_headings(evidence: Evidence) -> None:
    table = printed(evidence, "T2")
    assert "Panel" not in [heading.title for heading in table.headings]
    groups = list(dict.fromkeys(line.group for line in table.lines))
    assert groups == ["same architecture", "across architectures"]
    assert write(table, "tex").count(r"\emph{same architecture}") == 1
    assert write(table, "md").count("*across architectures*") == 1
    assert write(table, "html").count('scope="rowgroup"') == 2


def test_csv_has_a_line_a_cell_and_seed_with_interval_rule_source_and_distance(
    evidence: Evidence,
) -> None:
    rows = list(csv.DictReader(io.StringIO(write(printed(evidence), "csv"))))
    assert len({(r["row"], r["metric"]) for r in rows}) == 2 * 9
    assert len(rows) == 2 * 9 + 2 + 2 + 1  # r1 has three seeds of both, r3 two of one
    knn = [r for r in rows if (r["row"], r["metric"]) == ("r1", "knn")]
    assert [(r["seed"], r["value"]) for r in knn] == [("0", "75.0"), ("1", "75.1"), ("2", "75.2")]
    assert {len(r["run"]) for r in knn} == {10}
    assert {(r["label"], r["unit"], r["sentinel"]) for r in knn} == {("DINO", "%", "healthy")}
    for line in knn:
        assert float(line["low"]) < float(line["mean"]) < float(line["high"])
        assert float(line["difference"]) == pytest.approx(75.1 - 72.8)
        assert int(line["keys_that_differ"]) > 20
        assert line["source"] == "S1 S2 S3 S4 S5 S6"
        assert line["verdict"] == "n/a at this scale"
    (borrowed,) = (r for r in rows if (r["row"], r["metric"]) == ("r6", "knn"))
    assert borrowed["spread"].startswith("sampling of the test images")
    (absent,) = (r for r in rows if (r["row"], r["metric"]) == ("r2", "knn"))
    assert (absent["seed"], absent["value"], absent["missing"]) == ("", "", "not run")


def test_csv_of_all_tables_has_one_head_and_pandas_reads_its_types(evidence: Evidence) -> None:
    (text,) = render_tables(experiment_ids(), evidence, "csv")
    assert text.count("experiment,row,label") == 1
    frame = pd.read_csv(io.StringIO(text))
    assert list(frame["experiment"].unique()) == experiment_ids()
    numbers = ["seed", "value", "clean_value", "n", "mean", "low", "high", "reported", "difference"]
    assert all(pd.api.types.is_numeric_dtype(frame[column]) for column in numbers)
    seeds = frame.dropna(subset="seed").groupby(["experiment", "row", "metric"])
    assert (seeds["value"].mean() - seeds["mean"].first()).abs().max() < 1e-9
    assert (seeds.size() == seeds["n"].first()).all()


def test_short_times_are_given_in_minutes_and_costs_of_other_machines_have_no_difference(
    make: Callable[..., Record], evidence_of: MakeEvidence
) -> None:
    runs = [make("T8.l2", 0, variant=v, time_h=0.02, linear=70.0) for v in ("100ep", "300ep")]
    table = printed(evidence_of(runs), "T8")
    assert entry(table, "l2", "100 ep. time", "ours").text == "1.20 min (1 seed)"
    assert entry(table, "l2", "100 ep. time", "paper").text == "17.0 h"
    titles = {(heading.over, heading.title) for heading in table.headings}
    assert ("100 ep. time", "Δ") not in titles
    assert ("mem.", "Δ") not in titles
    assert entry(table, "l2", "100 ep. Lin.", "Δ").text == "-1.5"
    knn = table.tidy[(table.tidy["row"] == "l2") & (table.tidy["metric"] == "time_h_100ep")]
    assert (knn["value"].iloc[0], knn["unit"].iloc[0]) == (0.02, "h")
    assert knn["difference"].isna().all()


class Balance(HTMLParser):
    """Tags that were opened and not closed, in the order of the page."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("name", experiment_ids())
def test_every_table_is_written_in_every_format(name: str, evidence: Evidence) -> None:
    table = printed(evidence, name)
    page = Balance()
    page.feed(write(table, "html"))
    assert page.open == []
    lines = [line for line in write(table, "md").splitlines() if line.startswith("|")]
    assert len({line.replace(r"\|", "").count("|") for line in lines}) == 1
    assert len(lines) - 2 - len({x.group for x in table.lines} - {""}) == len(table.lines)
    tex = write(table, "tex")
    assert tex.count(r"\begin{tabular}") == tex.count(r"\end{tabular}") == 1
    for line in tex.splitlines():
        if line.endswith(r"\\") and not line.startswith(r"\multicolumn"):
            cells = line.replace(r"\&", "").count("&") + 1
            wide = sum(int(part.partition("}")[0]) - 1 for part in line.split(r"\multicolumn{")[1:])
            assert cells + wide == len(table.headings), line
    for row in table.lines:
        assert len(row.entries) == len(table.headings)
    claims, title, _rows = write(table, "terminal").rpartition(table.title.split(":")[0])
    assert title
    assert bool(claims.strip()) == bool(table.claims)


def test_a_table_without_metrics_has_its_rows(evidence: Evidence) -> None:
    whole = evidence.experiment("T7")
    bare = structs.replace(whole, path=whole.path.with_name("bare.yaml"), metrics=(), claims=())
    table = build(bare, evidence)
    assert [line.row for line in table.lines] == [row.name for row in whole.rows]
    assert table.title.split(":")[0] in write(table, "terminal")


HOSTILE = (
    "<script>", "</b>", "<!-- x", "`code`", "[link](http://x.y)", "![x](y)", "[a][b]", "&lt;",
    "*x*", "_x_", "a|b", "two\nlines", "\\",
)  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_a_table_is_markup(text: str, evidence: Evidence) -> None:
    table = printed(evidence)
    entries = (replace(table.lines[0].entries[0], text=text), *table.lines[0].entries[1:])
    hostile = replace(
        table,
        title=text,
        notes=[text],
        lines=(replace(table.lines[0], entries=entries), *table.lines[1:]),
        claims=[replace(table.claims[0], statement=text), *table.claims[1:]],
    )
    lines = write(hostile, "md").splitlines()
    shown = lines[0].removeprefix("### ")
    assert f"- {shown}" in lines
    assert any(line.startswith(f"| {shown.replace('|', chr(92) + '|')} ") for line in lines)
    assert len(lines) == len(write(table, "md").splitlines()) - len(table.notes) + 1
    assert shown != text or text == "a|b"  # which ends a cell, and nothing else
    assert re.sub(r"\\([^\w\s]|_)", r"\1", shown) == " ".join(text.splitlines())
    assert write(hostile, "html").count("<script>") == write(table, "html").count("<script>")


def test_latex_compiles(evidence: Evidence, tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        if os.environ.get("REPRO_TEST_LATEX") == "1":
            pytest.fail("REPRO_TEST_LATEX=1, but there is no pdflatex")
        pytest.skip("no pdflatex; Debian: apt-get install texlive-latex-recommended")
    packages = r"\usepackage[T1]{fontenc}\usepackage{booktabs,amssymb,graphicx,textcomp}"
    tables = [write(printed(evidence, name), "tex") for name in experiment_ids()]
    body = "\n\\clearpage\n".join(tables)
    (tmp_path / "t.tex").write_text(
        f"\\documentclass{{article}}{packages}\n\\begin{{document}}\n{body}\n\\end{{document}}\n"
    )
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-draftmode", "t.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]


def test_several_tables_read_the_records_once(
    evidence: Evidence, published: Callable[..., Path]
) -> None:
    published([as_line(run) for run in evidence.records.values()])
    texts = render_tables(["T7", "F7"], load_evidence("laptop"), "md")
    assert ["Table 7" in text for text in texts] == [True, False]
