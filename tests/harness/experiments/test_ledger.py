"""The deviation ledger: which entry concerns which row, and what a mistake in it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from repro.config.schema import RunConfig
from repro.errors import UserError
from repro.harness.experiments.experiment import experiment_ids, load, row_config
from repro.harness.experiments.folders import experiments_dir
from repro.harness.experiments.ledger import concerned, read_ledger


def write(folder: Path, entry: str) -> Path:
    (folder / "base").mkdir()
    (folder / "base" / "deviations.yaml").write_text(entry)
    return folder


WORDS = "topic: t, authors: a, ours: o, why: w"


def test_an_entry_concerns_the_rows_whose_config_has_its_values(tmp_path: Path) -> None:
    ledger = read_ledger(
        write(
            tmp_path,
            f"- {{id: D1, {WORDS}}}\n"
            f"- {{id: D2, when: {{loss.kind: [mse, info_nce]}}, {WORDS}}}\n"
            f"- {{id: D3, when: {{target.temp: 0}}, experiments: [AD_tau], {WORDS}}}\n",
        )
    )
    plain, byol, hard = (
        row_config(load("T7"), load("T7").row(row), "paper", 0) for row in ("r1", "r7", "r1")
    )
    hard.target.temp = 0.0
    rows = {"plain": plain, "byol": byol, "hard": hard}
    found = {entry.id: names for entry, names in concerned(ledger, "T7", rows)}
    assert found == {"D1": ["plain", "byol", "hard"], "D2": ["byol"]}
    there = {entry.id: names for entry, names in concerned(ledger, "AD_tau", rows)}
    assert there["D3"] == ["hard"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            f"- {{id: D1, when: {{loss.knid: mse}}, {WORDS}}}",
            "unknown key 'loss.knid'; nearest valid",
        ),
        ("- {id: D1, topic: t, authors: a, ours: o}", "the key 'why' is missing"),
        (f"- {{id: D1, {WORDS}}}\n- {{id: D1, {WORDS}}}", "'D1' appears twice"),
        (f"- {{id: D1, {WORDS}, at: [main_dino.py]}}", "D1: at: 'main_dino.py' is no place; at is"),
        (f"- {{id: D1, {WORDS}, at: ['utils.py:0']}}", "D1: at: 'utils.py:0' is no place"),
        (f"- {{id: D1, {WORDS}, at: [somewhere]}}", "D1: at: 'somewhere' is no place"),
        (
            "- {id: D1, topic: t, authors: so (code), ours: o, why: w}",
            "D1: says what the code does",
        ),
        (
            "- {id: D1, topic: t, authors: so (code), ours: o, why: w, at: [App. B]}",
            "D1: says what the code does, but not where",
        ),
    ],
)
def test_a_mistake_in_the_ledger_names_file_entry_and_key(
    tmp_path: Path, entry: str, message: str
) -> None:
    with pytest.raises(UserError, match=r"deviations\.yaml") as raised:
        read_ledger(write(tmp_path, entry))
    assert message in str(raised.value)


def test_every_entry_of_the_committed_ledger_concerns_some_row_at_some_scale() -> None:
    ledger = read_ledger(experiments_dir())
    configs: dict[str, dict[str, RunConfig]] = {}
    for name in experiment_ids():
        experiment = load(name)
        configs[name] = {
            f"{scale} {row.name} {variant}": row_config(experiment, row, scale, 0, variant)
            for scale in ("paper", "laptop")
            for row in experiment.rows
            if not row.why_not(scale)
            for variant in experiment.runs_a_row
        }
    used = {e.id for name, rows in configs.items() for e, _ in concerned(ledger, name, rows)}
    assert used == {entry.id for entry in ledger}
    assert {n for entry in ledger for n in entry.experiments} <= set(experiment_ids())


def test_every_entry_about_the_code_says_in_which_line_and_where_an_effect_was_measured() -> None:
    ledger = {entry.id: entry for entry in read_ledger(experiments_dir())}
    of_code = [entry for entry in ledger.values() if "code" in entry.authors]
    assert len(of_code) >= 6
    for entry in of_code:
        assert any(re.fullmatch(r"\w+\.(py|md):\d+", place) for place in entry.at), entry.id
    root = experiments_dir().parent
    measured = [entry.effect for entry in ledger.values() if entry.effect]
    assert measured
    for effect in measured:
        places = re.findall(r"\(([\w/]+\.(?:py|md))\)", effect)
        assert places, effect
        assert all((root / place).is_file() for place in places), effect


def test_an_entry_says_where_the_authors_way_stands_and_what_it_makes(tmp_path: Path) -> None:
    at = "at: [Eq. 3, 'main_dino.py:402']"
    (bare, placed, measured) = read_ledger(
        write(
            tmp_path,
            f"- {{id: D1, {WORDS}}}\n- {{id: D2, {WORDS}, {at}}}\n"
            f"- {{id: D3, {WORDS}, {at}, effect: none}}\n",
        )
    )
    assert bare.measured == ""
    assert placed.measured == "Eq. 3, main_dino.py:402"
    assert measured.measured == "Eq. 3, main_dino.py:402; effect: none"
