"""Copy detection: whitening against scikit-learn, pooling by hand, and a copy that is found."""

from __future__ import annotations

import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn

from repro.config.schema import Family, ModelConfig
from repro.data.copies import Copies, make_copies
from repro.dino.backbones import build_backbone
from repro.errors import UserError
from repro.evals.copy_detection import cls_and_gem, copy_protocol, learn_whitening

CPU = torch.device("cpu")


def correlated(number: int, seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    mixing = torch.randn(5, 5, generator=torch.Generator().manual_seed(9))
    return torch.randn(number, 5, generator=random) @ mixing + torch.arange(5.0)


def test_clean_whitening_is_scikit_learn_s() -> None:
    train, test = correlated(400, 0), correlated(50, 1)
    ours = learn_whitening(train, centred=True).apply(test)
    pca = PCA(whiten=True).fit(train.numpy())
    # Its variance divides by N - 1; directions have no sign.
    theirs = torch.from_numpy(pca.transform(test.numpy())).float() * (400 / 399) ** 0.5
    torch.testing.assert_close(ours.abs(), theirs.abs(), rtol=1e-3, atol=1e-3)


def test_official_whitening_keeps_the_mean_in_its_moments() -> None:
    train = correlated(400, 0)
    whitening = learn_whitening(train, centred=False)
    moments = train.double().T @ train.double() / 400
    found = whitening.projection_FF.double() @ moments @ whitening.projection_FF.double().T
    torch.testing.assert_close(found, torch.eye(5, dtype=torch.float64), atol=1e-4, rtol=0)
    torch.testing.assert_close(whitening.mean_F, train.mean(dim=0))


def test_directions_without_variance_do_not_explode() -> None:
    flat = correlated(30, 0)
    flat[:, 3] = 7.0
    assert learn_whitening(flat, centred=True).apply(flat).abs().max() < 100


@pytest.mark.parametrize("number", [1, 3])
def test_pictures_that_are_all_alike_teach_no_whitening(number: int) -> None:
    alike = correlated(1, 0).repeat(number, 1)
    for centred in (False, True):
        with pytest.raises(UserError, match=rf"{number} picture\(s\), all alike"):
            learn_whitening(alike, centred)


def test_features_are_cls_beside_gem_of_the_patches() -> None:
    torch.manual_seed(0)
    config = ModelConfig(dim=32, depth=2, heads=2, patch_size=8, drop_path=0.0)
    backbone = build_backbone(config, 32).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        tokens = backbone.forward_features(images)  # type: ignore[operator]
    found = cls_and_gem(backbone, images)
    torch.testing.assert_close(found[:, :32], tokens[:, 0], rtol=1e-4, atol=1e-5)
    for image in range(2):
        for channel in range(32):
            values = [max(float(v), 1e-6) for v in tokens[image, 1:, channel]]
            gem = (sum(v**4 for v in values) / len(values)) ** 0.25
            assert float(found[image, 32 + channel]) == pytest.approx(gem, rel=1e-3)
    resnet = build_backbone(ModelConfig(family=Family.timm, name="resnet18"), 32).eval()
    assert cls_and_gem(resnet, images).shape == (2, 512)


class Thumbnail(nn.Module):
    """A tiny version of the image as its feature."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(images, 4).flatten(1)


def test_exact_copies_are_found_and_the_official_tier_looks_at_twenty_places() -> None:
    made = make_copies()
    originals = made.database[:30]
    exact = Copies(originals, originals, made.whitening, [[i] for i in range(30)])
    assert copy_protocol(Thumbnail(), exact, 32, CPU) == {"copy_map": 100, "copy_map_clean": 100}
    # Each query's match is now the least similar picture: beyond the twentieth place.
    wrong = Copies(originals[:1] * 2, originals, [], [[29], [0]])
    lines: list[str] = []
    order = copy_protocol(Thumbnail(), wrong, 32, CPU, lines.append)
    assert order["copy_map_clean"] > order["copy_map"] >= 50
    assert lines == ["copy detection: no pictures to learn whitening from, so there is none"]
