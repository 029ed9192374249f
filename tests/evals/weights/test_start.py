"""Runs that begin with weights: which run that is, and that it does begin with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from repro.cli.parser import main
from repro.config.identity import canonical, run_id
from repro.config.schema import ModelConfig, RunConfig
from repro.data.datasets import open_dataset
from repro.dino.backbones import build_backbone
from repro.dino.vit import resample_positions
from repro.errors import UserError
from repro.evals.weights.networks import load_weights
from repro.train import Trainer
from tests.conftest import MakeConfig

CPU = torch.device("cpu")


def a_file(path: Path, seed: int, size: int = 32, **changes: Any) -> dict[str, Tensor]:
    """A released backbone of the smoke scale's shape, for images of `size`."""
    torch.manual_seed(seed)
    model = ModelConfig(**{"dim": 32, "depth": 2, "heads": 2, "patch_size": 8} | changes)
    state = build_backbone(model, size).state_dict()
    path.parent.mkdir(exist_ok=True)
    torch.save(state, path)
    return state


def begun(config: RunConfig) -> Trainer:
    return Trainer(config, open_dataset(config.data, ""), CPU)


def test_student_and_teacher_begin_with_the_file_s_weights(
    smoke: MakeConfig, tmp_path: Path
) -> None:
    state = a_file(tmp_path / "w.pth", 1)
    trainer = begun(smoke({"model.weights": str(tmp_path / "w.pth")}))
    for network in (trainer.student, trainer.teacher):
        for name, tensor in network.backbone.state_dict().items():
            assert torch.equal(tensor, state[name]), name
    other = begun(smoke())
    for name, tensor in trainer.student.head.state_dict().items():  # which begins anew
        assert torch.equal(tensor, other.student.head.state_dict()[name]), name
    list(trainer.run())
    assert trainer.accuracies["knn"] > 0


def test_a_file_is_known_by_its_content_wherever_it_lies(smoke: MakeConfig, tmp_path: Path) -> None:
    for name, seed in (("a/w.pth", 1), ("b/w.pth", 1), ("c/w.pth", 2)):
        a_file(tmp_path / name, seed)
    first, moved, other = (
        smoke({"model.weights": str(tmp_path / place / "w.pth")}) for place in "abc"
    )
    assert run_id(first) == run_id(moved) != run_id(other)
    assert run_id(first) != run_id(smoke())
    assert "weights" not in canonical(smoke())["model"]
    assert first.paths.weights == str(tmp_path / "a" / "w.pth")


def test_a_full_checkpoint_gives_its_teacher(smoke: MakeConfig, tmp_path: Path) -> None:
    student, teacher = (a_file(tmp_path / "w.pth", seed) for seed in (1, 2))
    wrapped = [{f"backbone.{n}": t for n, t in state.items()} for state in (student, teacher)]
    torch.save({"student": wrapped[0], "teacher": wrapped[1]}, tmp_path / "full.pth")
    trainer = begun(smoke({"model.weights": str(tmp_path / "full.pth")}))
    assert torch.equal(trainer.student.backbone.state_dict()["cls_token"], teacher["cls_token"])


def test_our_own_checkpoint_and_export_serve_as_well(smoke: MakeConfig, tmp_path: Path) -> None:
    earlier = begun(smoke({"seed": 3}))
    torch.save(earlier.state_dict(), tmp_path / "last.pt")
    assert main(["export", str(tmp_path / "last.pt"), str(tmp_path / "out.safetensors")]) == 0
    expected = earlier.teacher.backbone.state_dict()
    for name in ("last.pt", "out.safetensors"):
        found = begun(smoke({"model.weights": str(tmp_path / name)})).student.backbone.state_dict()
        assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_positions_are_resampled_to_the_run_s_grid(smoke: MakeConfig, tmp_path: Path) -> None:
    state = a_file(tmp_path / "w.pth", 1, size=64)
    trainer = begun(smoke({"model.weights": str(tmp_path / "w.pth")}))
    side = smoke().views.global_size // 8
    found = trainer.student.backbone.state_dict()["pos_embed"]
    assert torch.equal(found, resample_positions(state["pos_embed"], side, side))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dim": 64}, "cls_token is [1, 1, 64], not [1, 1, 32]"),
        ({"patch_size": 4}, "patch_embed.proj.weight is [32, 3, 4, 4]"),
        ({"depth": 3}, "12 unknown (blocks.2"),
    ],
)
def test_weights_of_another_network_do_not_start_a_run(
    smoke: MakeConfig, tmp_path: Path, changes: dict[str, int], words: str
) -> None:
    a_file(tmp_path / "w.pth", 1, **changes)
    with pytest.raises(UserError) as caught:
        begun(smoke({"model.weights": str(tmp_path / "w.pth")}))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_has_changed_or_gone_does_not_start_a_run(
    smoke: MakeConfig, tmp_path: Path
) -> None:
    path = tmp_path / "w.pth"
    a_file(path, 1)
    config = smoke({"model.weights": str(path)})
    a_file(path, 2)
    with pytest.raises(UserError, match="the run begins with"):
        begun(config)
    path.unlink()
    with pytest.raises(UserError, match=r"is not there; set model\.weights=FILE"):
        begun(config)
    config.paths.weights = ""
    with pytest.raises(UserError, match="nothing says where it lies"):
        begun(config)
    with pytest.raises(UserError, match="no such file"):
        smoke({"model.weights": str(tmp_path / "nowhere.pth")})


def test_a_run_goes_on_without_the_file_that_it_began_with(
    smoke: MakeConfig, tmp_path: Path
) -> None:
    path = tmp_path / "w.pth"
    a_file(path, 1)
    config = smoke({"model.weights": str(path)})
    first = begun(config)
    events = first.run()
    for _ in range(3):
        next(events)
    state = first.state_dict()
    path.unlink()
    second = Trainer(config, open_dataset(config.data, ""), CPU, state)
    second.load_state_dict(state)
    assert len(list(second.run())) > 1


@pytest.mark.slow
def test_finetuning_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REPRO_RESULTS", str(tmp_path / "results"))
    a_file(tmp_path / "w.pth", 1)
    words = ["train", "--scale", "smoke", "train.epochs=1", "method=supervised"]
    assert main([*words, f"model.weights={tmp_path / 'w.pth'}"]) == 0
    folder = Path(capsys.readouterr().out.splitlines()[-1])
    assert folder.is_dir()
    trained = load_weights(next((folder / "checkpoints").glob("*.pt")), heads=2)
    assert trained.model.dim == 32
