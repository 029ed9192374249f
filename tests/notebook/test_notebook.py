"""What `import repro` gives, held to what the commands print and to the records."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from itertools import islice
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import pytest
import torch

import repro
from analysis.evidence.evidence import Evidence, published_evidence
from repro.cli import main
from repro.config.identity import canonical, run_id
from repro.config.schema import Device
from repro.data.dataset import Dataset
from repro.data.datasets import open_dataset
from repro.errors import UserError
from repro.harness.experiments.experiment import experiment_ids, load, row_config
from repro.harness.runs.store import RunFolder
from repro.train import Trainer
from tests.conftest import MakeConfig

HEAVY = ("torch", "pandas", "numpy", "matplotlib", "hydra", "analysis", "repro.notebook")
SMOKE = {"resources.device": "cpu"}


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    return published_evidence("laptop")


def test_importing_it_loads_nothing_that_is_heavy_and_names_what_there_is() -> None:
    said = f"import sys, repro; print([m for m in {HEAVY} if m in sys.modules]); print(dir(repro))"
    done = subprocess.run(
        [sys.executable, "-c", said], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert done[0] == "[]"
    assert set(repro.NOTEBOOK) <= set(eval(done[1]))


def test_every_name_is_a_documented_function_and_no_other_is_made_up() -> None:
    for name in repro.NOTEBOOK:
        function = getattr(repro, name)
        assert callable(function)
        assert function.__doc__
    assert list(repro.NOTEBOOK) == sorted(repro.NOTEBOOK)
    with pytest.raises(AttributeError, match="module 'repro' has no attribute 'tabel'"):
        _ = repro.tabel  # type: ignore[attr-defined]


def test_experiments_are_those_of_repro_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    frame = repro.experiments()
    for key in ("id", "kind", "title", "rows", "trainable", "claims", "own"):
        assert frame[key].tolist() == [entry[key] for entry in listed]
    assert frame[~frame["own"]]["id"].tolist() == experiment_ids()


def test_an_own_file_with_a_mistake_is_left_out_with_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "experiments" / "own"
    own.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert main(["new", "mine"]) == 0
    (own / "broken.yaml").write_text("id: another\n")
    frame = repro.experiments()
    assert frame[frame["own"]]["id"].tolist() == ["mine"]
    assert "left out: " in capsys.readouterr().err


def test_cells_are_the_csv_of_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", "T7", "--format", "csv", "--evidence", "published"]) == 0
    printed = capsys.readouterr().out
    assert repro.cells("T7", evidence="published").to_csv(index=False) == printed


def test_a_table_has_the_papers_number_and_the_mean_of_ours(evidence: Evidence) -> None:
    table = repro.table("T7", evidence="published")
    assert list(table.index) == [row.name for row in load("T7").rows]
    for row in load("T7").rows:
        cell, line = evidence.cell(f"T7.{row.name}.knn"), table.loc[row.name]
        assert line["k-NN", "paper"] == row.reported["knn"]
        assert line["k-NN", "ours"] == pytest.approx(sum(cell.values.values()) / len(cell.values))
        assert line["k-NN", "n"] == len(cell.values)
        of_cells = repro.cells("T7", evidence="published")
        own = of_cells[(of_cells["row"] == row.name) & (of_cells["metric"] == "knn")].iloc[0]
        assert line["k-NN", "±"] == pytest.approx(own["high"] - own["mean"])
        assert line["", "Loss"] == row.described["loss"]
    assert table.loc["r2"]["", "sentinel"] == "constant"


def test_verdicts_are_those_of_repro_check(capsys: pytest.CaptureFixture[str]) -> None:
    main(["check", "F7", "--evidence", "published", "--json"])
    checked = json.loads(capsys.readouterr().out)["claims"]
    frame = repro.verdicts("F7", evidence="published")
    for key in ("id", "verdict", "holds", "detail", "rule"):
        assert frame[key].tolist() == [claim[key] for claim in checked]


def test_curves_are_those_of_the_records_and_the_papers_beside_them(evidence: Evidence) -> None:
    frame = repro.curves("F7", evidence="published")
    run = evidence.row("F7.both").runs()[1]
    for metric in ("kl", "grad_norm", "knn"):
        own = frame[(frame["whose"] == "ours") & (frame["metric"] == metric)]
        own = own[(own["row"] == "both") & (own["seed"] == 1)]
        assert list(zip(own["epoch"], own["value"], strict=True)) == run.curves.points(metric)
    assert "epoch" not in set(frame["metric"])
    paper = frame[(frame["whose"] == "paper") & (frame["row"] == "both")]
    printed = load("F7").row("both").reported_curve or {}
    assert paper[paper["metric"] == "kl"]["value"].tolist() == list(printed["kl"])
    assert (paper["seed"] == -1).all()


def test_runs_have_their_metrics_and_the_settings_that_tell_them_apart(evidence: Evidence) -> None:
    frame = repro.runs(scale="laptop", evidence="published").set_index("id")
    assert set(frame.index) == set(evidence.records)
    for identity, record in evidence.records.items():
        line = frame.loc[identity]
        assert (line["run"], line["seed"]) == (record.slug, record.seed)
        assert (line["state"], line["stopped_on"]) == ("published", "")
        assert line["knn"] == record.metrics["knn"]
        assert line["teacher.kind"] == record.config["teacher"]["kind"]
    assert "train.epochs" in frame  # some are longer
    assert "data.tile" not in frame  # the same in all


def test_own_runs_are_there_in_any_state(
    trained: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPRO_RESULTS", str(trained.path.parents[1]))
    for evidence in (None, "own"):
        (line,) = repro.runs(evidence=evidence).to_dict("records")  # type: ignore[arg-type]
        assert (line["id"], line["state"], line["scale"]) == (trained.id, "done", "smoke")
        assert line["knn"] == (trained.result() or {})["metrics"]["knn"]
    both = repro.runs(evidence="all")
    assert set(both["state"]) == {"done", "published"}
    assert repro.runs(scale="paper", evidence="own").empty


def test_a_figure_shows_itself_and_leaves_matplotlib_as_it_was() -> None:
    before, backend = dict(mpl.rcParams), mpl.get_backend()
    figure = repro.figure("F7", evidence="published")
    png = figure._repr_png_()  # type: ignore[attr-defined]
    assert png.startswith(b"\x89PNG")
    assert png == figure._repr_png_()  # type: ignore[attr-defined]
    assert len(figure.axes) == 4
    assert dict(mpl.rcParams) == before
    assert mpl.get_backend() == backend
    import matplotlib.pyplot as plt

    assert plt.get_fignums() == []


def test_the_config_of_a_row_is_that_of_its_published_run(evidence: Evidence) -> None:
    for seed, run in evidence.row("T7.r2").runs().items():
        assert run_id(repro.config_of("T7:r2", seed=seed)) == run.id
    variant = repro.config_of("T8:l0.100ep", scale="paper")
    one = load("T8")
    assert canonical(variant) == canonical(row_config(one, one.row("l0"), "paper", 0, "100ep"))
    assert variant.train.epochs == 100
    assert repro.config_of("T8:l0.300ep", scale="paper").train.epochs == 300


@pytest.mark.parametrize("name", ["", "T7:r2", "T8:l0.300ep", "F7:both"])
def test_overrides_win_over_all_layers_of_the_file(name: str) -> None:
    scale = "paper" if name.startswith("T8") else "smoke"
    changed = {"train.epochs": 77, "head.prototypes": 99, "optim.lr": 0.125}
    config = repro.config_of(name, scale=scale, seed=3, overrides=changed)
    assert (config.train.epochs, config.head.prototypes, config.optim.lr) == (77, 99, 0.125)
    assert config.seed == 3
    plain = repro.config_of(name, scale=scale, seed=3)
    assert (plain.train.epochs, plain.head.prototypes) != (77, 99)
    assert canonical(plain)["teacher"] == canonical(config)["teacher"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: repro.config_of("T7:r22"), "no row 'r22' in T7; nearest: r2"),
        (lambda: repro.config_of("T77:r2"), "no experiment 'T77'"),
        (lambda: repro.config_of("T8:l0", scale="smoek"), "unknown scale 'smoek'; nearest: smoke"),
        (lambda: repro.config_of("T7:r2", overrides={"optim.rl": 1}), "unknown key 'optim.rl'"),
        (lambda: repro.table("T7", evidence="publisht"), "evidence='publisht': nearest: published"),
        (lambda: repro.figure("T7", scale="paper", evidence="published"), "no finished run"),
    ],
)
def test_mistakes_are_named_in_one_line(call: object, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        call()  # type: ignore[operator]
    assert "\n" not in str(raised.value)


def test_a_row_that_is_only_reported_has_no_config() -> None:
    quoted = next(
        (name, row.name)
        for name in experiment_ids()
        for row in load(name).rows
        if row.reported_only
    )
    with pytest.raises(UserError, match="has no run at laptop scale: reported only"):
        repro.config_of(":".join(quoted))


def test_a_config_is_trained_in_memory_step_by_step(
    smoke: MakeConfig, smoke_data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPRO_RESULTS", str(tmp_path))
    config = repro.config_of(scale="smoke", overrides=SMOKE)
    assert config.resources.device is Device.cpu
    names = ("loss", "kl", "grad_norm")

    def first(trainer: Trainer) -> list[list[float]]:
        steps = (event for event in trainer.run() if event["kind"] == "step")
        return [[event[name] for name in names] for event in islice(steps, 3)]

    expected = first(Trainer(smoke(), smoke_data, torch.device("cpu")))
    assert first(repro.trainer(config, device="cpu")) == expected
    assert first(repro.trainer(config)) == expected
    assert list(tmp_path.iterdir()) == []


def test_a_device_is_a_word_wherever_the_science_takes_one(smoke: MakeConfig) -> None:
    config = smoke()
    data = open_dataset(config.data, "", device="cpu")
    trainer = Trainer(config, data, "cpu")
    assert trainer.device == torch.device("cpu")
    kinds = [event["kind"] for event in islice(trainer.run(), 2)]
    assert kinds == ["eval", "step"]


def test_frames_survive_a_round_trip_through_csv() -> None:
    frame = repro.cells("F7", evidence="published")
    again = pd.read_csv(io.StringIO(frame.to_csv(index=False)))
    assert again["value"].tolist() == pytest.approx(frame["value"].tolist(), nan_ok=True)
