"""Networks of timm's by name: its features, at the size and by the normalisation that it states."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn

from repro.cli.parser import main
from repro.config.schema import Family, ModelConfig
from repro.data.views.kinds import normalise
from repro.dino.vit import DinoViT
from repro.errors import UserError
from repro.evals.weights.networks import named_weights
from repro.harness.evaluation.protocol import Subject
from repro.harness.evaluation.stage import measure
from repro.harness.runs.evaluations import Request
from tests.conftest import MakeConfig
from tests.fidelity.make_features import images


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet18", "mobilenetv3_small_100"])
def test_a_model_of_timm_by_name_gives_timm_s_features(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nn.init, "trunc_normal_", lambda tensor, **_: tensor)  # ours starts anew
    torch.manual_seed(0)
    theirs = timm.create_model(name, num_classes=0).eval()
    torch.manual_seed(0)
    found = named_weights(name, pretrained=False)
    pixels, said = images(224, 224).sigmoid(), theirs.pretrained_cfg
    mean, std = (torch.tensor(said[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        expected = theirs((pixels - mean) / std)
        assert (found.backbone(normalise(pixels)) - expected).abs().max() < 1e-4
    assert (found.seen.mean, found.seen.resize) == (said["mean"], int(224 / said["crop_pct"]))
    assert found.image_size == 224
    assert isinstance(found.backbone, DinoViT) == (name == "vit_tiny_patch16_224")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "side", "other"),
    [
        ("vit_small_patch14_dinov2", 518, 56), ("deit3_small_patch16_384", 384, 64),
        ("vit_base_patch16_siglip_224", 224, 64),
    ],
)  # fmt: skip
def test_networks_of_one_size_see_it_and_others_that_their_patches_divide(
    name: str, side: int, other: int
) -> None:
    found = named_weights(name, pretrained=False)
    assert (found.seen.side, found.model.family) == (side, Family.timm)
    for size in (side, other):
        with torch.no_grad():
            assert found.backbone(images(size, size)).isfinite().all()


class OneSize(nn.Module):
    """As timm's networks of one size end."""

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[-1] == 224, "Input height (32) doesn't match model (224)."
        return images.mean(dim=(2, 3))


def test_a_network_that_takes_one_size_alone_says_so_in_one_line(smoke: MakeConfig) -> None:
    config = smoke()
    config.model = ModelConfig(family=Family.timm, name="mixer_s32_224")
    subject = Subject(OneSize(), config, torch.device("cpu"))
    with pytest.raises(UserError, match=r"mixer_s32_224 does not take these images: Input height"):
        measure(Request("knn"), subject)
    config.model = ModelConfig()  # of ours it would be a fault of the code
    with pytest.raises(AssertionError):
        measure(Request("knn"), subject)


def test_weights_that_the_network_does_not_give_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(*_: object, **__: object) -> nn.Module:
        raise ConnectionError("no route to host\n  and ten lines more")

    monkeypatch.setattr(timm, "create_model", unreachable)
    words = ["eval", "knn", "--weights", "timm:vit_small_patch16_224.dino", "--data", "photographs"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "timm:vit_small_patch16_224.dino: cannot be downloaded (no route to host)" in said
    assert "Traceback" not in said


def test_a_name_that_timm_does_not_know_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["eval", "knn", "--weights", "timm:vit_tinny_patch16", "--data", "photographs"]
    assert main(words) == 2
    assert "timm:vit_tinny_patch16: Unknown model" in capsys.readouterr().err
