"""Several checkpoints, protocols and data sets at once: one table, and nothing is made twice."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from repro.cli.parser import main
from repro.config.compose import compose
from repro.data import datasets
from repro.dino.backbones import build_backbone
from repro.errors import UserError
from repro.evals.features import files
from repro.harness.evaluation.several import Asked, pairs, told_apart
from repro.harness.experiments.folders import experiments_dir
from repro.harness.runs.evaluations import Judged
from repro.harness.runs.store import RunFolder, create_run
from tests.conftest import SMALL
from tests.data.test_folders import write_tree

Told = tuple[int, str, str]


@pytest.fixture
def three(small: str, tmp_path: Path) -> list[str]:
    """Files of weights: two of one name, and one that holds none."""
    other = tmp_path / "other" / "small.pth"
    other.parent.mkdir()
    torch.manual_seed(1)
    torch.save(build_backbone(SMALL, 32).state_dict(), other)
    (tmp_path / "bad.pth").write_bytes(b"nothing")
    return [small, str(tmp_path / "bad.pth"), str(other)]


@pytest.fixture
def few(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "few", images=9)


@pytest.fixture
def hard(tmp_path: Path) -> Path:
    """Two classes of noise, of which nobody names all images right."""
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for number, word in enumerate(("dark", "light")):
            folder = tmp_path / "hard" / part / word
            folder.mkdir(parents=True)
            for index in range(12):
                noise = rng.normal(110 + 4 * number, 50, (32, 32, 3)).clip(0, 255)
                Image.fromarray(noise.astype(np.uint8)).save(folder / f"{index}.png")
    return tmp_path / "hard"


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    def run(*words: str) -> Told:
        code = main(["eval", *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def answer(told: Told) -> list[dict[str, Any]]:
    """What --json said, one document alone on standard output."""
    evaluations: list[dict[str, Any]] = json.loads(told[1])["evaluations"]
    return evaluations


def test_one_table_has_a_row_a_checkpoint_and_names_of_one_kind_are_told_apart(
    three: list[str], few: Path, call: Callable[..., Told]
) -> None:
    words = ("knn", "logistic", "--weights", three[0], three[2], "--data", f"few={few}")
    code, out, err = call(*words)
    assert code == 0
    head, first, second, *notes = out.splitlines()
    assert head.split() == ["checkpoint", "knn_10", "knn_20", "knn_100", "knn_200", "logistic"]
    assert first.split()[0].endswith("/small.pth")
    assert second.split()[0] == "other/small.pth"
    assert first.count("[") == second.count("[") == 5
    assert notes[0].startswith("Percent, of 18 test images of few. In brackets 95 % intervals")
    assert err.count(": new") == 4
    again = call(*words)
    assert again[1] == out
    assert again[2].count(": kept") == 4
    assert "new" not in again[2]


def test_one_bad_of_three_is_one_line_and_the_others_go_on(
    three: list[str], few: Path, call: Callable[..., Told]
) -> None:
    words = ("knn", "logistic", "--weights", *three, "--data", f"few={few}")
    code, out, err = call(*words)
    assert code == 1
    _, first, bad, other, *_ = out.splitlines()
    assert bad.split() == ["bad.pth", *["failed"] * 5]
    assert first.count("[") == other.count("[") == 5
    (line,) = (line for line in err.splitlines() if line.startswith("failed: "))
    assert line.startswith("failed: bad.pth (knn few, logistic few): ")
    told = answer(call(*words, "--json"))
    assert [one["state"] for one in told] == ["kept", "kept", "failed", "failed", "kept", "kept"]
    assert [bool(one["failed"]) for one in told] == [False, False, True, True, False, False]


def test_a_checkpoint_is_held_to_the_first_one_image_by_image(
    three: list[str], hard: Path, call: Callable[..., Told]
) -> None:
    words = ("knn", "--weights", three[0], three[2], "--data", f"hard={hard}", "--json")
    first, other = answer(call(*words))
    right = [json.loads(Path(one["answer"]).read_text())["judged"] for one in (first, other)]
    for name, number in other["numbers"].items():
        mine, theirs = (judged_of(each[name]) for each in (right[1], right[0]))
        assert number["difference"] == pytest.approx(100 * (mine - theirs).mean())
        assert number["value"] == pytest.approx(100 * mine.mean())
        if (mine != theirs).any():
            assert number["difference_low"] <= number["difference"] <= number["difference_high"]
        assert "difference" in first["numbers"][name]
        assert first["numbers"][name]["difference"] is None
    assert any(number["difference"] for number in other["numbers"].values())
    _, out, _ = call(*words[:-1], "--paired")
    assert out.splitlines()[3].split()[:2] == ["−", first["checkpoint"]]


def judged_of(kept: dict[str, Any]) -> np.ndarray:
    return Judged(**kept).values()


def test_a_damaged_answer_is_named_and_made_again(
    small: str, few: Path, tmp_path: Path, call: Callable[..., Told]
) -> None:
    words = ("knn", "--weights", small, "--data", f"few={few}", "--json")
    (before,) = answer(call(*words))
    file = Path(before["answer"])
    content = json.loads(file.read_text())
    content["metrics"]["knn_20"] = 99.0
    file.write_text(json.dumps(content))
    told = call(*words)
    (after,) = answer(told)
    assert f"{file}: damaged: not what was written" in told[2]
    assert (after["state"], after["numbers"]) == ("new", before["numbers"])
    assert answer(call(*words))[0]["state"] == "kept"


def test_an_answer_does_not_outlive_its_images_or_its_weights(
    small: str, few: Path, call: Callable[..., Told]
) -> None:
    words = ("knn", "--weights", small, "--data", f"few={few}", "--json")
    (before,) = answer(call(*words))
    picture = few / "val" / "camera" / "0.png"
    times = picture.stat()
    Image.new("RGB", Image.open(picture).size).save(picture)
    os.utime(picture, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    told = call(*words)
    assert answer(told)[0]["state"] == "new"
    assert "rests on other images, code or versions" in told[2]
    state = torch.load(small, weights_only=True)
    state["norm.weight"] *= -1.5
    torch.save(state, small)
    (after,) = answer(call(*words))
    assert (after["state"], after["answer"] == before["answer"]) == ("new", False)


def test_an_answer_of_an_earlier_version_is_made_again(
    small: str, few: Path, call: Callable[..., Told]
) -> None:
    words = ("knn", "--weights", small, "--data", f"few={few}")
    _, out, _ = call(*words)
    file = Path(out.splitlines()[-1])
    content = json.loads(file.read_text())
    for key in ("digest", "rests_on", "judged", "items", "made"):
        del content[key]
    file.write_text(json.dumps(content))
    _, again, err = call(*words)
    assert again == out
    assert "measured again: kept by an earlier version" in err
    assert "kept from before" in call(*words)[2]


def test_data_are_opened_once_and_features_made_once_a_checkpoint(
    small: str, three: list[str], call: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, streamed = [], []
    real_open, real_stream = datasets.open_dataset, files.stream
    monkeypatch.setattr(
        datasets, "open_dataset", lambda *given: opened.append(1) or real_open(*given)
    )
    monkeypatch.setattr(files, "stream", lambda *given: streamed.append(1) or real_stream(*given))
    words = ("knn", "logistic", "--weights", small, three[2], "--data", "photographs")
    assert call(*words)[0] == 0
    assert len(opened) == 1
    assert len(streamed) == 4  # two networks, training and test images


def test_runs_are_meant_by_id_or_glob_and_answer_on_their_own_images(
    trained: RunFolder, call: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPRO_RESULTS", str(trained.path.parents[1]))
    for word in (trained.id, f"{trained.slug[:3]}*"):
        told = call("knn", "logistic", "--weights", word, "--json")
        assert told[0] == 0
        assert [(one["checkpoint"], one["data"]) for one in answer(told)] == [
            (trained.path.name, trained.config().data.name)
        ] * 2
    assert {one["state"] for one in answer(told)} == {"kept"}
    numbers = answer(told)[0]["numbers"]
    assert numbers["knn_20"]["value"] == trained.evaluations()["knn"].metrics["knn_20"]
    file = trained.path / "evaluations" / "logistic.json"
    file.write_text(file.read_text().replace('"logistic":', '"logistics":', 1))
    told = call("knn", "logistic", "--weights", trained.id, "--json")
    assert [one["state"] for one in answer(told)] == ["kept", "new"]
    assert f"{file}: " in told[2]


def test_a_run_that_is_not_done_holds_back_no_other(
    trained: RunFolder, tmp_path: Path, call: Callable[..., Told]
) -> None:
    other = tmp_path / trained.path.name
    shutil.copytree(trained.path, other)
    (other / "result.json").unlink()
    code, out, err = call("knn", "--weights", str(other), str(trained.path), "--format", "csv")
    assert code == 1
    assert "is not done" in err
    states = [line.split(",")[5] for line in out.splitlines()[1:]]
    assert states == ["failed", *["kept"] * 4]


def test_in_a_narrow_terminal_further_numbers_stand_below_the_first(
    small: str, few: Path, call: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.comparison.checkpoints.terminal_width", lambda: 60)
    _, out, _ = call("knn", "logistic", "--weights", small, "--data", f"few={few}", "--format",
                     "terminal")  # fmt: skip
    lines = out.splitlines()
    assert max(map(len, lines)) <= 60
    heads = [line.split() for line in lines if line.startswith("checkpoint ")]
    numbers = [name for head in heads for name in head[1:]]
    assert numbers == ["knn_10", "knn_20", "knn_100", "knn_200", "logistic"]
    rows = [line for line in lines if line.startswith("small.pth ")]
    assert len(rows) == len(heads) > 1
    assert sum(row.count("[") for row in rows) == 5


@pytest.mark.parametrize("fmt", ["md", "tex", "csv"])
def test_the_table_is_written_for_documents(
    small: str, few: Path, fmt: str, call: Callable[..., Told]
) -> None:
    words = ("knn", "throughput", "--weights", small, "--data", f"few={few}")
    code, out, _ = call(*words, "--format", fmt)
    assert code == 0
    begins = {"md": "| checkpoint", "tex": r"\begin{tabular}{lllllll}", "csv": "checkpoint,file,"}
    assert out.startswith(begins[fmt])
    assert ("knn_200" if fmt != "tex" else r"knn\_200") in out
    assert "images" in out


def test_a_protocol_without_its_benchmark_offers_what_is_made_here(
    tmp_path: Path, call: Callable[..., Told]
) -> None:
    folder = create_run(tmp_path / "runs", "large", compose(experiments_dir(), "paper"))
    folder.finish({"metrics": {}})
    code, _, err = call("video", "--weights", str(folder.path))
    assert code == 2
    assert "no folder of davis17: --data davis17=PATH, --data clips (made here), or data: of" in err


def test_a_protocol_sees_the_data_of_its_kind(tmp_path: Path) -> None:
    birds, voc, crops = f"birds={tmp_path}", f"voc12={tmp_path}", "crops"
    asked = Asked(["knn", "attention", "retrieval", "throughput"], [birds, voc, crops])
    found = [(one.request.protocol, one.name) for one in pairs(asked)]
    assert found == [
        ("knn", "birds"), ("attention", "voc12"), ("retrieval", "crops"), ("throughput", ""),
    ]  # fmt: skip
    with pytest.raises(
        UserError, match=r"attention: .* does not suit it; name its folder voc12=PATH"
    ):
        pairs(Asked(["knn", "attention"], [birds]))
    with pytest.raises(UserError, match=r"knn: --data voc12=.* does not suit it"):
        pairs(Asked(["knn", "attention"], [voc]))


def test_names_are_as_short_as_they_can_be() -> None:
    paths = [Path(p) for p in ("/a/x.pth", "/b/x.pth", "/a/y.pth", "/c/b/x.pth")]
    assert told_apart(paths) == ["a/x.pth", "/b/x.pth", "y.pth", "c/b/x.pth"]
    assert told_apart([Path("/a/x.pth")] * 2) == ["x.pth"] * 2
