"""Weights in and out: every layout loads whole, gives the same features, or says what is wrong."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from repro.cli.parser import main
from repro.config.schema import Family, ModelConfig
from repro.data.datasets import open_dataset
from repro.dino.backbones import build_backbone
from repro.errors import UserError
from repro.evals.weights.export import save_weights, timm_call
from repro.evals.weights.networks import load_weights
from repro.harness.runs.store import RunFolder
from repro.train import Trainer
from tests.cli.calling import mistake
from tests.conftest import SMALL, MakeConfig
from tests.fidelity import inputs
from tests.fidelity.make_features import images

GOLDEN = json.loads((Path(__file__).parents[2] / "fidelity" / "features.json").read_text())


def authors_tensors() -> dict[str, Tensor]:
    """Their names and shapes, filled as the fixture was."""
    return {n: inputs.initial(n, torch.Size(shape)) for n, shape in GOLDEN["tensors"].items()}


def authors_files(folder: Path) -> dict[str, Path]:
    """A released backbone, and a full checkpoint as main_dino.py saves it."""
    tensors = authors_tensors()
    backbone = {
        name.removeprefix("backbone."): tensor
        for name, tensor in tensors.items()
        if name.startswith("backbone.")
    }
    noise = {name: torch.randn_like(tensor) for name, tensor in tensors.items()}
    full = {
        "student": {f"module.{name}": tensor for name, tensor in noise.items()},
        "teacher": tensors,
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
        "epoch": 100,
        "args": argparse.Namespace(arch="vit_small", patch_size=16),
        "dino_loss": {"center": torch.zeros(1, 64)},
    }
    files = {"backbone": folder / "pretrain.pth", "full": folder / "full_checkpoint.pth"}
    torch.save(backbone, files["backbone"])
    torch.save(full, files["full"])
    return files


def a_vit(folder: Path, **changes: Tensor | None) -> Path:
    """A flat file of a small ViT, with some tensors changed or (None) left out."""
    state: dict[str, Any] = dict(build_backbone(SMALL, 32).state_dict()) | changes
    path = folder / "vit.pth"
    torch.save({name: value for name, value in state.items() if value is not None}, path)
    return path


@pytest.mark.parametrize("layout", ["backbone", "full"])
def test_the_authors_files_give_the_authors_features_at_every_size(
    tmp_path: Path, layout: str
) -> None:
    weights = load_weights(authors_files(tmp_path)[layout], heads=inputs.HEADS)
    assert (weights.model.dim, weights.model.depth, weights.model.patch_size) == (32, 2, 16)
    assert weights.network == ("teacher" if layout == "full" else "")
    for size, features in GOLDEN["features"].items():
        height, width = map(int, size.split("x"))
        with torch.no_grad():
            ours = weights.backbone(images(height, width))
        assert (ours - torch.tensor(features)).abs().max() < 1e-5, size


def test_the_student_of_a_full_checkpoint_is_another_network(tmp_path: Path) -> None:
    file = authors_files(tmp_path)["full"]
    teacher = load_weights(file, heads=2).backbone.state_dict()
    student = load_weights(file, network="student", heads=2).backbone.state_dict()
    assert teacher.keys() == student.keys()
    assert not torch.equal(teacher["norm.weight"], student["norm.weight"])


@pytest.mark.parametrize("wrapped", ["state_dict", "model", None])
def test_a_file_of_timm_loads_however_it_is_wrapped(tmp_path: Path, wrapped: str | None) -> None:
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=10, depth=1)
    state = vit.state_dict()
    path = tmp_path / "timm.pth"
    torch.save({wrapped: state} if wrapped else state, path)
    weights = load_weights(path)
    assert (weights.model.heads, weights.image_size) == (3, 224)
    assert torch.equal(weights.backbone.state_dict()["cls_token"], state["cls_token"])


def test_a_resnet_is_known_by_its_blocks(tmp_path: Path) -> None:
    resnet = timm.create_model("resnet18", num_classes=7).eval()
    save_file(resnet.state_dict(), tmp_path / "resnet.safetensors")
    weights = load_weights(tmp_path / "resnet.safetensors")
    assert (weights.model.family, weights.model.name) == (Family.timm, "resnet18")
    with torch.no_grad():
        batch = images(64, 64)
        expected = resnet.forward_head(resnet.forward_features(batch), pre_logits=True)
        assert torch.allclose(weights.backbone(batch), expected, atol=1e-6)


def test_an_export_is_what_timm_loads_and_gives_the_same_features(tmp_path: Path) -> None:
    backbone = build_backbone(SMALL, 32).eval()
    path = tmp_path / "ours.safetensors"
    save_weights(backbone, path, {"made": "by a test"})
    line = timm_call(SMALL, 32, str(path))
    loaded: nn.Module = eval(line, {"timm": timm}).eval()  # the line people copy
    with torch.no_grad():
        assert torch.allclose(loaded(images(32, 32)), backbone(images(32, 32)), atol=1e-6)
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"made": "by a test"}
    again = load_weights(path)
    assert again.model == ModelConfig(
        name="vit", dim=64, depth=2, heads=1, patch_size=8, drop_path=0
    )


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "ours.safetensors"
    path.write_bytes(b"old")
    broken = build_backbone(SMALL, 32)
    with pytest.raises(TypeError):  # metadata must be words
        save_weights(broken, path, {"steps": 3})  # type: ignore[dict-item]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"norm.weight": None}, "1 missing (norm.weight)"),
        ({"dist_token": torch.zeros(1)}, "1 unknown (dist_token)"),
        ({"norm.bias": torch.zeros(3)}, "norm.bias is [3], not [64]"),
        ({"cls_token": torch.zeros(1, 1, 0)}, "tensors of width 0"),
        ({"cls_token": None}, "neither a ViT (no cls_token) nor a ResNet"),
    ],
)
def test_weights_of_another_network_say_which_keys_or_shapes_disagree(
    tmp_path: Path, changes: dict[str, Tensor | None], words: str
) -> None:
    path = a_vit(tmp_path, **changes)
    with pytest.raises(UserError) as caught:
        load_weights(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


class Evil:
    """What a pickle could do if it were allowed to."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("run by a pickle",))


def test_a_file_that_holds_code_is_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"cls_token": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="holds more than weights"):
        load_weights(tmp_path / "evil.pth")
    assert "run by a pickle" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["garbage.pth", "garbage.safetensors", "empty.pth", "list.pth"])
def test_a_file_that_is_no_checkpoint_is_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "list.pth":
        torch.save([1, 2], path)
    else:
        path.write_bytes(b"garbage" * 100 if "garbage" in name else b"")
    with pytest.raises(UserError) as caught:
        load_weights(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_heads_that_tensors_do_not_tell_are_asked_for(tmp_path: Path) -> None:
    files = authors_files(tmp_path)
    with pytest.raises(UserError, match="width 32: say how many heads"):
        load_weights(files["backbone"])
    for heads in (5, -1):
        with pytest.raises(UserError, match=f"--heads {heads} does not divide"):
            load_weights(files["backbone"], heads=heads)
    with pytest.raises(UserError, match="has no 'student'; it holds one network"):
        load_weights(files["backbone"], network="student", heads=2)


def test_a_run_s_checkpoint_and_export_say_their_heads_wherever_they_lie(
    tmp_path: Path, smoke: MakeConfig
) -> None:
    """With the width over 64 the features would be others, and nothing would tell."""
    config = smoke({"model.dim": 64, "model.heads": 4})
    trainer = Trainer(config, open_dataset(config.data, ""), torch.device("cpu"))
    moved = tmp_path / "moved.pt"
    state = trainer.state_dict()
    torch.save(state, moved)
    target = tmp_path / "dino.safetensors"
    assert main(["export", str(moved), str(target)]) == 0
    batch = images(32, 32)
    expected = trainer.teacher.eval().backbone(batch)
    for file in (moved, target):
        weights = load_weights(file)
        assert weights.model.heads == 4
        assert torch.allclose(weights.backbone(batch), expected, atol=1e-6)
    torch.save({name: value for name, value in state.items() if name != "heads"}, moved)
    with pytest.raises(UserError, match="does not say how many heads its network has"):
        load_weights(moved)
    assert load_weights(moved, heads=4).model.heads == 4


def test_a_run_is_exported_with_a_card_and_evaluates_the_same(
    trained: RunFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("REPRO_RESULTS", str(tmp_path / "results"))
    target = tmp_path / "dino.safetensors"
    assert main(["export", str(trained.path), str(target)]) == 0
    card = target.with_suffix(".md").read_text()
    assert trained.path.name in card
    assert "timm.create_model(" in card
    assert "k-NN" in card
    words = ["eval", "knn", "--data", "photographs", "--weights"]
    assert main([*words, str(target), str(trained.path)]) == 0
    *_, exported, ours = capsys.readouterr().out.partition("\nPercent")[0].splitlines()
    assert exported.split()[1:] == ours.split()[1:]
    written = [json.loads(p.read_text()) for p in (tmp_path / "results/evaluations").iterdir()]
    assert {w["weights"]["network"] for w in written} == {"", "teacher"}
    assert written[0]["metrics"] == written[1]["metrics"]


def test_a_folder_of_images_is_data_for_any_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    monkeypatch.setenv("REPRO_RESULTS", str(tmp_path / "results"))
    for split in ("train", "val"):
        for number, name in enumerate(("dark", "light")):
            for index in range(3):
                file = tmp_path / "tones" / split / name / f"{index}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (40, 40), (200 * number + index,) * 3).save(file)
    path = a_vit(tmp_path)
    words = ["eval", "knn", "--weights", str(path), "--data"]
    assert main([*words, f"tones={tmp_path / 'tones'}"]) == 0
    assert "knn_10 100.0 %" in capsys.readouterr().out
    assert main([*words, "tones=/nowhere"]) == 2
    assert "is no folder" in capsys.readouterr().err
    assert main(["eval", "knn", "--weights", str(path)]) == 2
    assert "--data NAME=PATH" in capsys.readouterr().err


@pytest.mark.slow
def test_benchmarks_made_here_serve_any_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REPRO_RESULTS", str(tmp_path))
    path = tmp_path / "small.pth"
    torch.save(build_backbone(SMALL, 32).state_dict(), path)
    for protocol, data, number in (("video", "clips", "jf_mean"), ("copies", "copies", "copy_map")):
        assert main(["eval", protocol, "--weights", str(path), "--data", data]) == 0
        *_, file = capsys.readouterr().out.split()
        saved = json.loads(Path(file).read_text())
        assert f"{number}_clean@{data}" in saved["metrics"]
        assert saved["weights"]["sha256"]
    assert len(saved["details"]) == 0
    assert main(["eval", "video", "--weights", str(path), "--data", "davis17=/nowhere"]) == 2
    assert "no ImageSets/2017/val.txt there" in capsys.readouterr().err
    assert main(["eval", "video", "--weights", str(path), "--data", "davis17"]) == 2
    assert "davis17=PATH" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("protocol", "data", "words"),
    [
        ("retrieval", "oxford=/nowhere", "oxford is none of roxford5k, rparis6k"),
        ("retrieval", "clips", "made here for retrieval: crops"),
        ("attention", "clips", "made here for attention: composites"),
        ("copies", "copydays-large=/nowhere", "after the dash goes a side"),
        ("copies", "copydays-0=/nowhere", "after the dash goes a side"),
        ("knn", "inat18=/nowhere", "/nowhere/train2018.json: no such list"),
        ("knn", "places205-1pct=/nowhere", "no folder 'train' there"),
        ("knn", "birds-1pct=/nowhere", "/nowhere is no folder"),
    ],
)
def test_data_that_do_not_suit_a_protocol_are_one_line(
    small: str, protocol: str, data: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in mistake(capsys, "eval", protocol, "--weights", small, "--data", data)


def test_any_checkpoint_is_evaluated_with_few_labels_and_a_published_list(
    small: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A list that names one image of one class leaves nothing to vote for the other class."""
    from PIL import Image

    root = tmp_path / "tones"
    for split in ("train", "val"):
        for number, name in enumerate(("dark", "light")):
            (root / split / name).mkdir(parents=True)
            for index in range(3):
                tone = Image.new("RGB", (40, 40), (200 * number + index,) * 3)
                tone.save(root / split / name / f"{name}{index}.png")
    words = ["eval", "knn", "--weights", small, "--data", f"tones-1pct={root}"]
    assert main(words) == 0
    assert "knn_10@1pct" in capsys.readouterr().out
    (root / "1percent.txt").write_text("light1.png\n")
    assert main(words) == 0
    assert "knn_10@1pct 50.0 %" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("protocol", "data"), [("knn", "photographs"), ("retrieval", "crops"), ("video", "clips")]
)
def test_weights_that_are_not_finite_give_no_number(
    small: str, protocol: str, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    state = torch.load(small, weights_only=True)
    state["norm.weight"][0] = torch.nan
    torch.save(state, small)
    assert main(["eval", protocol, "--weights", small, "--data", data]) == 2
    assert f"{protocol}: weights that are not finite" in capsys.readouterr().err


def test_throughput_needs_no_data(small: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "throughput", "--weights", small]) == 0
    line, file = capsys.readouterr().out.splitlines()
    saved = json.loads(Path(file).read_text())
    assert saved["metrics"]["images_per_second"] > 0
    assert saved["metrics"]["peak_memory_GB"] > 0
    assert saved["details"] == {"resolution": 32}
    assert "%" not in line
