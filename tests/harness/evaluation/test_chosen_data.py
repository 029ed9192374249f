"""Which images an evaluation of any checkpoint is about, at which size, and where it is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from repro.cli.parser import main
from repro.config.schema import DataKind, Interpolation
from repro.data.datasets import open_dataset
from repro.dino.backbones import build_backbone
from repro.errors import UserError
from repro.evals.weights.networks import Weights, load_weights
from repro.evals.weights.preprocessing import Preprocessing, of_timm
from repro.harness.evaluation.chosen_data import chosen_data, data_config, seen_by
from repro.harness.runs.store import RunFolder
from tests.cli.calling import mistake
from tests.conftest import SMALL

Folder = Callable[[str, int], Path]


@pytest.fixture
def tones(tmp_path: Path) -> Folder:
    """Makes a folder of two classes whose test images are right (0) or exchanged (1)."""

    def make(name: str, exchanged: int) -> Path:
        for part, turned in (("train", 0), ("val", exchanged)):
            for label, word in enumerate(("dark", "light")):
                for index in range(3):
                    file = tmp_path / name / part / word / f"{index}.png"
                    file.parent.mkdir(parents=True, exist_ok=True)
                    tone = 200 * (label ^ turned) + index
                    Image.new("RGB", (40, 40), (tone,) * 3).save(file)
        return tmp_path / name

    return make


def knn(
    small: str, data: str, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[str, dict[str, Any]]:
    """What is printed of k = 10, and what is written."""
    assert main(["eval", "knn", "--weights", small, "--data", data, *words]) == 0
    line, file = capsys.readouterr().out.splitlines()
    return line.partition("knn_10 ")[2].partition(" ")[0], json.loads(Path(file).read_text())


@pytest.mark.parametrize("name", ["photographs", "composites", "clips", "flowers", "cifar10"])
def test_a_path_wins_over_a_name_of_the_product_s_own(
    small: str, tones: Folder, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ending = f"@{name}" if name in ("flowers", "cifar10") else ""
    assert main(["eval", "knn", "--weights", small, "--data", f"{name}={tones('a', 0)}"]) == 0
    printed = capsys.readouterr().out
    assert f"knn_10{ending} 100.0 %" in printed
    assert f"knn_20{ending} " in printed
    written = json.loads(Path(printed.splitlines()[1]).read_text())
    assert written["data"] == {"name": name, "root": str(tones("a", 0))}


@pytest.mark.parametrize(
    ("protocol", "data", "words"),
    [
        ("video", "clips=/nowhere", "no ImageSets/2017/val.txt there"),
        ("attention", "composites=/nowhere", "/nowhere"),
        ("copies", "copies=/nowhere", "/nowhere"),
        ("retrieval", "crops=/nowhere", "/nowhere"),
    ],
)
def test_made_data_do_not_stand_for_a_folder_that_is_not_there(
    small: str, protocol: str, data: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in mistake(capsys, "eval", protocol, "--weights", small, "--data", data)


def test_packed_data_sets_are_told_from_trees_of_one_name(tones: Folder, tmp_path: Path) -> None:
    assert data_config(f"cifar10={tones('a', 0)}").data.kind is DataKind.folder
    packed = data_config(f"cifar10={tmp_path}").data
    assert (packed.kind, packed.name) == (DataKind.torchvision, "CIFAR10")
    assert data_config(f"[1: @={tmp_path}").data.name == "[1: @"


def test_folders_of_one_name_keep_answers_of_their_own(
    small: str, tones: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    right, wrong = (knn(small, f"my={tones(n, x)}", capsys)[0] for n, x in (("a", 0), ("b", 1)))
    assert (right, wrong) == ("100.0", "0.0")
    for words in (["--heads", "2"], ["--side", "16"]):
        knn(small, f"my={tones('a', 0)}", capsys, *words)
    assert len(list((tmp_path / "results" / "evaluations").glob("*-my-knn-*.json"))) == 4
    knn(small, f"my={tones('a', 0)}", capsys)  # the same again
    assert len(list((tmp_path / "results" / "evaluations").iterdir())) == 4


def test_pictures_of_features_of_files_of_one_name_lie_apart(
    small: str, tones: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other" / "small.pth"
    other.parent.mkdir()
    torch.manual_seed(1)
    torch.save(build_backbone(SMALL, 32).state_dict(), other)
    data = tones("a", 0)
    for word in ("grey", "black", "white"):  # a space has at least three classes
        for part in ("train", "val"):
            (data / part / word).mkdir()
            Image.new("RGB", (40, 40)).save(data / part / word / "0.png")
    words = ["eval", "features", "--data", f"my={data}", "--weights", small, str(other)]
    assert main(words) == 0
    files = capsys.readouterr().out.splitlines()
    assert len(set(files)) == len(files) == 6
    assert all(Path(file).is_file() for file in files)


def test_sheets_of_pictures_of_one_name_lie_apart(
    small: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = [tmp_path / folder / "1.jpg" for folder in ("a", "b")]
    for tone, picture in enumerate(pictures):
        picture.parent.mkdir()
        Image.new("RGB", (40, 40), (200 * tone,) * 3).save(picture)
    words = ["eval", "attention", "--weights", small, "--side", "32", "--image"]
    assert main([*words, *map(str, pictures)]) == 0
    sheets = capsys.readouterr().out.splitlines()
    assert len(set(sheets)) == 2
    assert main([*words, str(pictures[0]), "--heads", "2"]) == 0
    assert capsys.readouterr().out.strip() not in sheets


def test_a_folder_in_the_home_is_written_as_behind_a_shell(
    small: str, tones: Folder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tones("a", 0)
    monkeypatch.setenv("HOME", str(root.parent))
    _, written = knn(small, "my=~/a", capsys)
    assert written["data"] == {"name": "my", "root": str(root)}


def test_a_network_sees_images_at_its_own_size_or_at_the_one_asked_for(
    small: str, tones: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tones("a", 0)
    _, own = knn(small, f"my={root}", capsys)
    assert (own["seen"]["side"], own["seen"]["resize"]) == (32, 37)
    _, asked = knn(small, f"my={root}", capsys, "--side", "16")
    assert (asked["seen"]["side"], asked["seen"]["resize"]) == (16, 18)
    words = ["eval", "knn", "--weights", small, "--data", f"my={root}", "--side", "20"]
    assert main(words) == 2
    assert "20 x 20 pixels are no whole patches of 8; the nearest side is 16" in (
        capsys.readouterr().err
    )


def test_a_run_s_network_sees_other_images_at_the_run_s_size(
    trained: RunFolder, tones: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("REPRO_RESULTS", str(tmp_path / "results"))
    _, written = knn(str(trained.path), f"my={tones('a', 0)}", capsys)
    assert written["seen"]["side"] == trained.config().data.resolution


def weights_that_see(seen: Preprocessing, folder: Path) -> Weights:
    path = folder / "any.pth"
    torch.save(build_backbone(SMALL, 32).state_dict(), path)
    found = load_weights(path)
    return Weights(found.backbone, found.model, 32, path, "", "", seen)


def test_what_timm_says_of_weights_reaches_the_images(tones: Folder, tmp_path: Path) -> None:
    said = {"input_size": (3, 32, 32), "crop_pct": 0.8, "interpolation": "bilinear"}
    seen = of_timm(said | {"mean": (0.5,) * 3, "std": (0.5,) * 3})
    assert (seen.side, seen.resize, seen.interpolation) == (32, 40, Interpolation.bilinear)
    weights = weights_that_see(seen, tmp_path)
    images = chosen_data(f"my={tones('a', 0)}", "knn")
    config, _ = seen_by(images.config, weights)
    data = config.data
    assert (data.resolution, data.eval_resize) == (32, 40)
    assert data.eval_interpolation is Interpolation.bilinear
    (batch,) = open_dataset(data, config.paths.data).test.evaluation_batches(6)
    assert batch.shape == (6, 3, 32, 32)


def test_the_resampling_of_weights_changes_the_pixels_and_the_fingerprint(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for label in ("a", "b"):
            file = tmp_path / "noise" / part / label / "0.png"
            file.parent.mkdir(parents=True)
            levels = torch.randint(256, (40, 40, 3), dtype=torch.uint8)
            Image.fromarray(levels.numpy()).save(file)
    said = {"input_size": (3, 32, 32), "crop_pct": 1.0}
    splits = []
    for interpolation in ("bicubic", "bilinear"):
        weights = weights_that_see(of_timm(said | {"interpolation": interpolation}), tmp_path)
        config, _ = seen_by(data_config(f"noise={tmp_path / 'noise'}"), weights)
        splits.append(open_dataset(config.data, config.paths.data).test)
    first, second = (next(iter(split.evaluation_batches(2))) for split in splits)
    assert not torch.allclose(first, second, atol=0.05)
    assert splits[0].fingerprint() != splits[1].fingerprint()


def test_data_without_a_path_must_be_made_here(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="made here for video: clips"):
        chosen_data("davis17", "video")
    with pytest.raises(UserError, match="is no folder"):
        chosen_data(f"my={tmp_path / 'nowhere'}", "knn")
