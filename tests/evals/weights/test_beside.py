"""A file of timm's as its hub keeps it: config.json beside it says what the network sees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from repro.config.schema import Interpolation
from repro.data.views.kinds import IMAGENET_MEAN, IMAGENET_STD, normalise
from repro.dino.backbones import build_backbone
from repro.errors import UserError
from repro.evals.weights.networks import load_weights
from tests.conftest import SMALL
from tests.evals.weights.test_layouts import TEACHER
from tests.fidelity.make_features import images

SAID = {
    "input_size": [3, 32, 32], "interpolation": "bilinear", "crop_pct": 0.8,
    "mean": [0.5, 0.4, 0.3], "std": [0.5, 0.6, 0.7],
}  # fmt: skip


def kept(folder: Path, content: Any, name: str = "model.safetensors") -> Path:
    """The weights in a folder with a config.json."""
    path = folder / name
    if name.endswith(".safetensors"):
        save_file(TEACHER, path)
    else:
        torch.save(TEACHER, path)
    (folder / "config.json").write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("flat", [True, False])
def test_a_local_file_of_timm_sees_images_as_its_config_says(
    tmp_path: Path, name: str, flat: bool
) -> None:
    said = SAID if flat else {"pretrained_cfg": SAID}
    found = load_weights(kept(tmp_path, {"architecture": "vit_small"} | said, name))
    assert (found.seen.side, found.seen.resize) == (32, 40)
    assert found.seen.interpolation is Interpolation.bilinear
    assert found.seen.mean == (0.5, 0.4, 0.3)
    theirs = build_backbone(SMALL, 32).eval()
    theirs.load_state_dict(TEACHER)
    pixels = images(32, 32).sigmoid()
    mean, std = (torch.tensor(SAID[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        expected = theirs((pixels - mean) / std)
        assert (found.backbone(normalise(pixels)) - expected).abs().max() < 1e-4


def test_other_configs_and_other_names_say_nothing_of_it(tmp_path: Path) -> None:
    of_others = load_weights(kept(tmp_path, {"model_type": "vit"} | SAID))
    elsewhere = load_weights(kept(tmp_path, {"architecture": "vit"} | SAID, "mine.pth"))
    for found in (of_others, elsewhere):
        assert (found.seen.mean, found.seen.std) == (IMAGENET_MEAN, IMAGENET_STD)


@pytest.mark.parametrize(
    "wrong",
    [
        {"std": [0.5, 0.0, 0.5]}, {"mean": [0.5]}, {"mean": "abc"}, {"input_size": []},
        {"crop_pct": -1}, {"input_size": [3, 0, 0]}, {"std": [0.5, float("nan"), 0.5]},
        {"input_size": None}, {"crop_pct": "x"}, {"mean": None},
    ],
)  # fmt: skip
def test_a_config_that_cannot_be_is_one_line(tmp_path: Path, wrong: dict[str, Any]) -> None:
    path = kept(tmp_path, {"architecture": "vit", "pretrained_cfg": SAID | wrong})
    with pytest.raises(UserError, match=r"config\.json: not the preprocessing"):
        load_weights(path)
