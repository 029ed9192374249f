"""The deviation ledger: which entry concerns which row, and what a mistake in it says."""

from __future__ import annotations

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
