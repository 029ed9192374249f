"""Pictures and videos of attention: files that open, with what they should show."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from repro.cli.parser import main
from repro.config.schema import ModelConfig
from repro.dino.backbones import build_backbone
from repro.errors import UserError
from repro.evals.attention_pictures import default_side, draw_picture, draw_video, look, over
from repro.evals.features.space import class_means, draw_space, embed
from repro.harness.runs.store import RunFolder, create_run
from tests.conftest import MakeConfig
from tests.harness.processes import train

CPU = torch.device("cpu")


@pytest.fixture
def backbone() -> torch.nn.Module:
    torch.manual_seed(0)
    config = ModelConfig(dim=32, depth=2, heads=4, patch_size=8, drop_path=0.0)
    return build_backbone(config, 32).eval()


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    levels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(levels).save(path)
    return path


def test_a_picture_gives_a_sheet_and_a_map_and_a_mask_for_every_head(
    backbone: torch.nn.Module, photograph: Path, tmp_path: Path
) -> None:
    sheet, *heads = draw_picture(backbone, photograph, 45, tmp_path / "out", CPU)
    assert sheet.name == "photo-attention.png"
    assert len(heads) == 2 * 4
    for path in heads:
        with Image.open(path) as picture:
            assert picture.size == (64, 40)  # 45 x 68 pixels are 5 x 8 whole patches


def test_a_map_is_laid_over_its_own_patch() -> None:
    image = np.zeros((16, 16, 3), dtype=np.uint8)
    peak = torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    mixed = over(image, peak, 8)
    assert mixed[12, 12].min() > mixed[4, 4].max()
    assert over(image, torch.ones(2, 2), 8).shape == (16, 16, 3)  # a map without contrast


def test_pictures_keep_their_shape_at_the_side_asked_for(backbone: torch.nn.Module) -> None:
    levels, maps, patch = look(backbone, torch.zeros(3, 20, 50, dtype=torch.uint8), 31, CPU)
    assert levels.shape == (24, 72, 3)
    assert maps.shape == (4, 3, 9)
    assert patch == 8
    assert (default_side(224), default_side(32)) == (480, 69)


def frames_of(path: Path) -> list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    capture, frames = cv2.VideoCapture(str(path)), []
    while (found := capture.read())[0]:
        frames.append(found[1].astype(np.uint8))
    return frames


def test_a_folder_of_frames_and_a_video_file_become_annotated_videos(
    backbone: torch.nn.Module, photograph: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number:03}.png").write_bytes(photograph.read_bytes())
    made = draw_video(backbone, folder, 40, tmp_path / "out", CPU)
    assert made.name == "frames-attention.mp4"
    frames = frames_of(made)
    assert len(frames) == 3
    assert frames[0].shape == (40, 2 * 56, 3)  # each frame beside its map
    again = draw_video(backbone, made, 40, tmp_path / "again", CPU)
    assert len(frames_of(again)) == 3


def test_videos_that_cannot_be_read_are_one_line(
    backbone: torch.nn.Module, tmp_path: Path, photograph: Path
) -> None:
    (tmp_path / "words.mp4").write_text("no video")
    for name, words in (("words.mp4", "not a video"), ("nowhere.mp4", "no such video")):
        with pytest.raises(UserError, match=words):
            draw_video(backbone, tmp_path / name, 40, tmp_path, CPU)
    with pytest.raises(UserError, match="a picture, no video"):
        draw_video(backbone, photograph, 40, tmp_path, CPU)
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    draw_picture(backbone, tmp_path / "dot.png", 40, tmp_path, CPU)  # enlarged, hence drawn


def test_frames_of_several_sizes_are_refused_and_not_left_out(
    backbone: torch.nn.Module, tmp_path: Path
) -> None:
    """A video file takes frames of one size and drops others without a word."""
    for number, size in enumerate([(60, 40), (60, 40), (40, 60)]):
        Image.new("RGB", size).save(tmp_path / f"{number}.png")
    with pytest.raises(UserError, match="frames 1 and 3 are 60 x 40 and 40 x 60 pixels"):
        draw_video(backbone, tmp_path, 40, tmp_path / "out", CPU)


def test_a_narrow_picture_is_drawn_and_a_line_is_refused(
    backbone: torch.nn.Module, tmp_path: Path
) -> None:
    Image.new("RGB", (200, 10)).save(tmp_path / "narrow.png")
    sheet = draw_picture(backbone, tmp_path / "narrow.png", 16, tmp_path / "out", CPU)[0]
    with Image.open(sheet) as picture:
        assert min(picture.size) > 200
    Image.new("RGB", (900, 1)).save(tmp_path / "line.png")
    with pytest.raises(UserError, match="900 x 1 pixels is too narrow"):
        draw_picture(backbone, tmp_path / "line.png", 16, tmp_path / "out", CPU)


def test_a_network_that_diverged_is_not_drawn(backbone: torch.nn.Module) -> None:
    with pytest.raises(UserError, match="t-SNE: features that are not finite"):
        embed(torch.tensor([[1.0], [torch.inf], [3.0]]))
    for parameter in backbone.parameters():
        parameter.data.fill_(torch.nan)
    with pytest.raises(UserError, match="self-attention that is not finite"):
        look(backbone, torch.zeros(3, 16, 16, dtype=torch.uint8), 16, CPU)


def test_the_command_draws_any_picture_and_the_feature_space(
    trained: RunFolder, photograph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, out = ["--weights", str(trained.path)], ["--out", str(tmp_path / "drawn")]
    assert main(["eval", "attention", *weights, "--image", str(photograph), *out]) == 0
    drawn = Path(capsys.readouterr().out.strip())
    assert drawn.is_file()
    assert drawn.parent.name.startswith(f"{trained.path.name}-")
    assert main(["eval", "features", *weights, *out]) == 0
    assert all(Path(line).is_file() for line in capsys.readouterr().out.split())
    assert main(["eval", "knn", *weights, "--image", str(photograph)]) == 2
    assert "only repro eval attention draws" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_that_kept_its_features_is_drawn_epoch_by_epoch(
    tmp_path: Path, smoke: MakeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config = smoke({"reporting.feature_space": True})
    folder = create_run(tmp_path / "runs", "kept", config)
    code, output = train(folder)
    assert code == 0, output
    names = [path.name for path in sorted((folder.path / "features").iterdir())]
    assert names == ["epoch-0000.00.npy", "epoch-0001.00.npy", "epoch-0002.00.npy"]
    words = ["eval", "features", "--weights", str(folder.path), "--out", str(tmp_path / "drawn")]
    assert main(words) == 0
    *_, epochs = capsys.readouterr().out.split()
    with Image.open(epochs) as picture:
        assert picture.width > 3 * 300


def test_class_means_are_means_and_close_classes_stay_close(tmp_path: Path) -> None:
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(90) % 9
    centres = torch.eye(9)[labels // 3 * 3] + 0.1 * torch.eye(9)[labels]  # three groups of three
    features = centres + 0.01 * torch.randn(90, 9, generator=random)
    means, present = class_means(features, labels)
    torch.testing.assert_close(means[4], features[labels == 4].mean(dim=0))
    assert present.tolist() == list(range(9))
    points = torch.from_numpy(embed(features))
    same = torch.cdist(points[labels < 3], points[labels < 3]).mean()
    other = torch.cdist(points[labels < 3], points[labels > 5]).mean()
    assert same < other
    assert torch.equal(points, torch.from_numpy(embed(features)))
    with pytest.raises(UserError, match="t-SNE: 2 points; it takes at least 3"):
        draw_space(features[:2], labels[:2], [str(i) for i in range(9)], "two", tmp_path)


def test_features_that_are_all_the_same_stand_on_one_spot(tmp_path: Path) -> None:
    features, labels = torch.ones(6, 32), torch.arange(6) % 3
    assert not embed(features).any()
    assert not embed(features + 1e-7 * torch.eye(6, 32)).any()
    assert draw_space(features, labels, ["crow", "gull", "wren"], "collapsed", tmp_path)
