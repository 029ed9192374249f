"""Checkpoints as people have them: the right network's features, or one line that says why not.

No tensor here is anybody's: small ViTs and random numbers.
"""

from __future__ import annotations

import argparse
import os
from collections import OrderedDict
from pathlib import Path, PosixPath
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from repro.dino.backbones import build_backbone
from repro.errors import UserError
from repro.evals.weights.networks import load_weights
from tests.conftest import SMALL
from tests.fidelity.make_features import images

State = dict[str, Tensor]


def a_state(seed: int) -> State:
    torch.manual_seed(seed)
    return {name: tensor.clone() for name, tensor in build_backbone(SMALL, 32).state_dict().items()}


STUDENT, TEACHER = a_state(1), a_state(2)
HEAD = {"head.mlp.0.weight": torch.zeros(4, 64), "head.last_layer.weight_g": torch.ones(4, 1)}


def under(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def features(state: State) -> Tensor:
    backbone = build_backbone(SMALL, 32).eval()
    backbone.load_state_dict(state)
    with torch.no_grad():
        return torch.as_tensor(backbone(images(32, 32)))


def saved(folder: Path, content: Any) -> Path:
    path = folder / "weights.pth"
    torch.save(content, path)
    return path


BOTH = under("module.base_encoder.", STUDENT) | under("module.momentum_encoder.", TEACHER)
LAYOUTS: dict[str, tuple[Any, State]] = {
    "plain": (TEACHER, TEACHER),
    "DDP": (under("module.", TEACHER), TEACHER),
    "compiled": (under("_orig_mod.", TEACHER), TEACHER),
    "compiled in DDP": (under("module._orig_mod.", TEACHER), TEACHER),
    "averaged weights beside others": ({"state_dict": STUDENT, "state_dict_ema": TEACHER}, TEACHER),
    "averaged model beside others": ({"model": STUDENT, "model_ema": TEACHER}, TEACHER),
    "lightning": (
        {"state_dict": under("backbone.", TEACHER) | {"projector.0.weight": torch.zeros(2, 2)}},
        TEACHER,
    ),
    "two networks in one dictionary": (
        under("student.backbone.", STUDENT) | under("teacher.backbone.", TEACHER), TEACHER,
    ),
    "MoCo v3": ({"state_dict": BOTH | under("module.base_encoder.", HEAD)}, STUDENT),
    "MoCo": (under("encoder_q.", STUDENT) | under("encoder_k.", TEACHER), STUDENT),
    "a token that only pretraining reads": (
        TEACHER | {"mask_token": torch.zeros(1, 1, 64), "decoder_embed.weight": torch.zeros(2)},
        TEACHER,
    ),
    "deep below": (under("model.visual.encoder.", TEACHER), TEACHER),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_backbone_is_found_under_whatever_name(tmp_path: Path, name: str) -> None:
    content, expected = LAYOUTS[name]
    backbone = load_weights(saved(tmp_path, content)).backbone
    with torch.no_grad():
        assert torch.equal(backbone(images(32, 32)), features(expected))


def test_of_networks_side_by_side_either_can_be_asked_for(tmp_path: Path) -> None:
    for content in (
        {"state_dict": STUDENT, "state_dict_ema": TEACHER},
        {"state_dict": BOTH},
        under("student.", STUDENT) | under("teacher.", TEACHER),
    ):
        path = saved(tmp_path, content)
        for network, state in (("student", STUDENT), ("teacher", TEACHER)):
            found = load_weights(path, network)
            assert found.network == network
            assert torch.equal(found.backbone.state_dict()["norm.weight"], state["norm.weight"])
            assert torch.equal(found.backbone.state_dict()["cls_token"], state["cls_token"])


def test_networks_of_which_none_is_named_are_not_guessed(tmp_path: Path) -> None:
    path = saved(tmp_path, under("left.", STUDENT) | under("right.", TEACHER))
    with pytest.raises(UserError, match=r"holds several networks, left\., right\."):
        load_weights(path)


class Loss(torch.nn.Module):
    """With a buffer, as the authors' loss has."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(1, 4))


def full_checkpoint() -> dict[str, Any]:
    """As a training of the authors' script leaves it: numpy's numbers in the optimiser, because
    its schedules are arrays, and the paths of its launcher among the arguments.
    """
    network = torch.nn.Linear(2, 2)
    optimiser = torch.optim.AdamW([{"params": [network.weight]}, {"params": [network.bias]}])
    schedule = np.concatenate([np.linspace(0, 1e-3, 4), 0.5 * (1 + np.cos(np.arange(4)))])
    for group in optimiser.param_groups:
        group["lr"] = schedule[2]
        group["weight_decay"] = schedule[5]
    network(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    arguments = argparse.Namespace(
        arch="vit_small", patch_size=16, lr=5e-4, output_dir=PosixPath("/runs/%j"), gpu=0
    )
    return {
        "student": OrderedDict(under("module.backbone.", STUDENT) | under("module.", HEAD)),
        "teacher": OrderedDict(under("backbone.", TEACHER) | HEAD),
        "optimizer": optimiser.state_dict(),
        "epoch": 3,
        "args": arguments,
        "dino_loss": Loss().state_dict(),
        "fp16_scaler": torch.amp.GradScaler("cpu").state_dict(),
    }


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("numpy_1", [False, True])
def test_a_full_checkpoint_as_training_leaves_it_is_read(
    tmp_path: Path, numpy_1: bool, legacy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save(full_checkpoint(), path, _use_new_zipfile_serialization=not legacy)
    content = path.read_bytes()
    assert b"numpy._core.multiarray" in content
    if numpy_1:  # which calls the same class by another name
        repack(path, b"numpy._core.multiarray", b"numpy.core.multiarray", legacy)
        assert b"numpy._core" not in path.read_bytes()
    for network, state in (("", TEACHER), ("student", STUDENT)):
        backbone = load_weights(path, network).backbone
        with torch.no_grad():
            assert torch.equal(backbone(images(32, 32)), features(state))


def repack(path: Path, old: bytes, new: bytes, legacy: bool) -> None:
    import zipfile

    if legacy:
        path.write_bytes(path.read_bytes().replace(old, new))
        return
    with zipfile.ZipFile(path) as source:
        members = {name: source.read(name) for name in source.namelist()}
    with zipfile.ZipFile(path, "w") as target:
        for name, data in members.items():
            target.writestr(name, data.replace(old, new) if name.endswith(".pkl") else data)


class Runs:
    """A pickle that makes a folder when it is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_what_stands_beside_the_weights_is_never_run(tmp_path: Path) -> None:
    path = saved(tmp_path, full_checkpoint() | {"args": Runs(tmp_path / "made")})
    with pytest.raises(UserError, match="more than weights") as caught:
        load_weights(path)
    assert not (tmp_path / "made").exists()
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)


def waves(rows: int, columns: int) -> Tensor:
    """Positions that are alike where patches are near, as trained ones are, [1, 1 + N, 64]."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    rates = 2 * torch.rand(64, 1, generator=torch.Generator().manual_seed(0)) / rows
    mixed = torch.where(torch.arange(64)[:, None] % 2 == 0, y.flatten(), x.flatten())
    grid = torch.sin(rates * mixed + torch.arange(64)[:, None]).T
    return torch.cat([torch.zeros(1, 64), grid])[None]


@pytest.mark.parametrize(("rows", "columns"), [(7, 28), (28, 7), (2, 8), (4, 16)])
def test_an_oblong_grid_of_positions_is_not_taken_for_a_square(
    tmp_path: Path, rows: int, columns: int
) -> None:
    path = saved(tmp_path, TEACHER | {"pos_embed": waves(rows, columns)})
    with pytest.raises(UserError, match=f"positions are those of {rows} x {columns} patches"):
        load_weights(path)


@pytest.mark.parametrize("side", [2, 4, 6, 14, 28])
def test_a_square_grid_of_positions_is_one(tmp_path: Path, side: int) -> None:
    for positions in (waves(side, side), torch.randn(1, 1 + side * side, 64)):
        path = saved(tmp_path, TEACHER | {"pos_embed": positions})
        assert load_weights(path).image_size == 8 * side


def test_positions_of_no_square_are_one_line(tmp_path: Path) -> None:
    path = saved(tmp_path, TEACHER | {"pos_embed": torch.zeros(1, 16, 64)})
    with pytest.raises(UserError, match="15 positions beside"):
        load_weights(path)
