"""Image folders and torchvision data sets, on real files made from the bundled photographs."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from timm.data import create_transform
from torchvision import transforms as T

from repro.config.schema import CodePath, DataConfig, DataKind, Resources, ViewsConfig
from repro.data import from_files
from repro.data.dataset import Dataset
from repro.data.datasets import open_dataset
from repro.data.from_files import FileSplit, _OneByOne, _Views, file_split
from repro.data.photographs import load_photograph
from repro.data.views.reference import to_tensor
from repro.errors import UserError
from repro.evals.finetune import Augment

VIEWS = ViewsConfig(global_size=32, local_size=16, local_number=2)
CONFIG = DataConfig(kind=DataKind.folder, name="few", resolution=32, eval_resize=36)


def write_tree(root: Path, parts: tuple[str, ...] = ("train", "val"), images: int = 3) -> Path:
    for part in parts:
        for name in ("camera", "rocket"):
            folder = root / part / name
            folder.mkdir(parents=True)
            pixels = load_photograph(name).permute(1, 2, 0).numpy()
            for i in range(images):
                crop = Image.fromarray(pixels[20 * i : 20 * i + 60, 30 * i : 30 * i + 90])
                if i == 1:
                    crop = crop.convert("L")  # grey files are common in the wild
                crop.save(folder / f"{i}.png")
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "images")


def views_of(data: Dataset, workers_seed: int = 0) -> list[list[torch.Tensor]]:
    batches = [torch.tensor([0, 3, 5]), torch.tensor([1, 2, 4])]
    return list(data.train.view_batches(batches, VIEWS, seed=workers_seed, first_step=4))


def test_the_digest_is_the_same_wherever_the_folder_lies(tree: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "again"
    shutil.copytree(tree, copy, copy_function=shutil.copyfile)  # other paths, other times
    there, here = (open_dataset(CONFIG, str(root)) for root in (tree, copy))
    assert there.train.digest() == here.train.digest()
    assert there.test.digest() == here.test.digest()
    assert there.train.fingerprint() != here.train.fingerprint()


def edited(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def longer(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")


def renamed(file: Path) -> None:
    file.rename(file.with_name("1b.png"))


def moved(file: Path) -> None:
    file.rename(file.parent.parent / "rocket" / "0b.png")


@pytest.mark.parametrize(
    ("change", "looked_at", "shows"),
    [
        (edited, True, True), (longer, True, True), (renamed, True, True), (moved, True, True),
        (Path.unlink, True, True),
        (edited, False, False),  # the price of not reading millions of files
        (longer, False, True), (renamed, False, True), (moved, False, True),
    ],
)  # fmt: skip
def test_the_digest_is_of_names_classes_sizes_and_some_contents(
    tree: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], None],
    looked_at: bool,
    shows: bool,
) -> None:
    if not looked_at:
        monkeypatch.setattr(from_files, "CONTENTS", 3)  # files 0, 2 and 4 of six
    before = open_dataset(CONFIG, str(tree)).train.digest()
    change(tree / "train" / "camera" / "1.png")
    assert (open_dataset(CONFIG, str(tree)).train.digest() != before) == shows


def test_the_digest_of_images_without_files_is_of_their_pixels() -> None:
    def split(level: int) -> from_files.FileSplit:
        def open_(place: int) -> Image.Image:
            return Image.new("L", (8, 8), level * (place == 1))

        return file_split(open_, lambda i: f"Set train image {i}", [0, 1], CONFIG, Resources())[0]

    assert split(7).digest() == split(7).digest() != split(8).digest()


def test_a_folder_gives_views_and_evaluation_images(tree: Path) -> None:
    data = open_dataset(CONFIG, str(tree))
    assert data.classes == ["camera", "rocket"]
    assert data.train.labels_N.tolist() == [0, 0, 0, 1, 1, 1]
    first = views_of(data)[0]
    assert [tuple(v.shape) for v in first] == [(6, 3, 32, 32), (6, 3, 16, 16)]
    (images,) = data.test.evaluation_batches(10)
    assert images.shape == (6, 3, 32, 32)


def test_decoders_outlive_what_a_job_is_sent_and_end_with_their_loader(tree: Path) -> None:
    """SLURM signals every process of a job; a loader without its processes cannot go on."""
    data = open_dataset(CONFIG, str(tree), Resources(data_workers=2))
    batches = [torch.tensor([0, 3, 5]), torch.tensor([1, 2, 4])] * 20
    mine = set(children())
    views = data.train.view_batches(batches, VIEWS, seed=0, first_step=4)
    first = next(views)
    decoders = set(children()) - mine
    assert len(decoders) == 2
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        for decoder in decoders:  # not from the process whose loader they are
            subprocess.run(["kill", f"-{number}", str(decoder)], check=True)
    assert len(list(views)) == 39
    assert first[0].shape == (6, 3, 32, 32)
    # The next epoch has the same processes, which its trainer may end.
    assert len(list(data.train.view_batches(batches, VIEWS, seed=0, first_step=44))) == 40
    assert set(children()) - mine == decoders
    os.kill(min(decoders), signal.SIGTERM)
    deadline = time.monotonic() + 60
    while min(decoders) in children():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def children() -> list[int]:
    """Processes of this one that have not ended."""
    return [process.pid for process in multiprocessing.active_children() if process.pid]


def test_the_number_of_decoding_processes_never_changes_a_view(tree: Path) -> None:
    alone = views_of(open_dataset(CONFIG, str(tree), Resources(data_workers=0)))
    helped = views_of(open_dataset(CONFIG, str(tree), Resources(data_workers=2)))
    for ours, theirs in zip(alone, helped, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    other = views_of(open_dataset(CONFIG, str(tree)), workers_seed=1)
    assert not torch.equal(alone[0][0], other[0][0])


def test_views_of_a_step_do_not_depend_on_where_training_resumed(tree: Path) -> None:
    data = open_dataset(CONFIG, str(tree))
    batches = [torch.tensor([0, 3, 5]), torch.tensor([1, 2, 4])]
    whole = list(data.train.view_batches(batches, VIEWS, seed=0, first_step=4))
    resumed = list(data.train.view_batches(batches[1:], VIEWS, seed=0, first_step=5))
    assert torch.equal(whole[1][0], resumed[0][0])


def test_a_missing_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"needs paths\.data=ROOT"):
        open_dataset(CONFIG, "")
    with pytest.raises(UserError, match=r"paths\.data=.*: no folder 'train' there"):
        open_dataset(CONFIG, str(tmp_path))


def test_an_empty_class_is_named(tree: Path) -> None:
    (tree / "train" / "empty").mkdir()
    with pytest.raises(UserError, match=r"train.*empty"):
        open_dataset(CONFIG, str(tree))


def test_a_val_folder_without_classes_is_named(tree: Path) -> None:
    """As ImageNet's lies when it has been unpacked."""
    for path in (tree / "val").glob("*/*"):
        path.rename(tree / "val" / f"{path.parent.name}_{path.stem}.JPEG")
    for folder in ("camera", "rocket"):
        (tree / "val" / folder).rmdir()
    with pytest.raises(UserError, match=r"val: no class folder in it: CLASS/\*\.jpg"):
        open_dataset(CONFIG, str(tree))


@pytest.mark.parametrize("path", list(CodePath))
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
def test_pictures_of_a_pixel_or_a_line_give_views_and_evaluation_images(
    tree: Path, size: tuple[int, int], path: CodePath
) -> None:
    for part in ("train", "val"):
        Image.new("RGB", size, (200, 100, 50)).save(tree / part / "camera" / "0.PNG")
    data = open_dataset(CONFIG, str(tree), Resources(path=path))
    assert len(data.train.labels_N) == 7
    for (view, *_), images in zip(views_of(data), data.test.evaluation_batches(8), strict=False):
        assert view.shape[1:] == images.shape[1:] == (3, 32, 32)
        assert images.float().isfinite().all()


def test_classes_that_differ_between_train_and_val_are_named(tree: Path) -> None:
    (tree / "val" / "rocket").rename(tree / "val" / "ship")
    with pytest.raises(UserError, match=r"different classes, e\.g\. 'rocket'"):
        open_dataset(CONFIG, str(tree))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_an_unreadable_image_is_named_with_the_way_out(
    tree: Path, workers: int, content: bytes | None
) -> None:
    bad = tree / "train" / "rocket" / "0.png"
    bad.write_bytes(bad.read_bytes()[:200] if content is None else content)
    with pytest.raises(UserError) as raised:
        views_of(open_dataset(CONFIG, str(tree), Resources(data_workers=workers)))
    message = str(raised.value)
    assert str(bad) in message
    assert "data.skip_unreadable=true" in message
    assert "\n" not in message


@pytest.mark.parametrize("path", CodePath)
def test_a_mistake_in_the_views_does_not_pass_for_an_unreadable_image(
    tree: Path, path: CodePath
) -> None:
    data = open_dataset(CONFIG, str(tree), Resources(path=path))
    impossible = ViewsConfig(global_size=0, local_size=16, local_number=2)
    with pytest.raises((ValueError, RuntimeError)):
        list(data.train.view_batches([torch.tensor([0])], impossible, seed=0, first_step=0))


def test_unreadable_images_can_be_skipped_and_are_counted(tree: Path) -> None:
    for part, name in (("train", "rocket"), ("val", "camera")):
        (tree / part / name / "2.png").write_bytes(b"torn")
    config = DataConfig(**{**vars(CONFIG), "skip_unreadable": True})
    data = open_dataset(config, str(tree))
    assert data.unreadable_images == 2
    assert data.train.labels_N.tolist() == [0, 0, 0, 1, 1]
    (images,) = data.test.evaluation_batches(10)
    assert len(images) == 5


def test_what_would_never_end_is_named_and_can_be_skipped(tree: Path) -> None:
    os.mkfifo(tree / "train" / "rocket" / "9.jpg")
    (tree / "val" / "camera" / "9.jpg").symlink_to("/dev/zero")
    data = open_dataset(CONFIG, str(tree))
    data.train.digest()
    data.train.fingerprint()
    with pytest.raises(UserError, match=r"unreadable image .*9\.jpg .*no regular file"):
        list(data.test.evaluation_batches(10))
    skipping = open_dataset(DataConfig(**{**vars(CONFIG), "skip_unreadable": True}), str(tree))
    assert skipping.unreadable_images == 2


def test_names_that_are_no_utf8_are_pictures_like_others(tree: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tree) + b"/train/camera/\xe9.png"))
    shutil.copy(tree / "train" / "camera" / "0.png", odd)
    data = open_dataset(CONFIG, str(tree))
    assert data.train.labels_N.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert data.train.fingerprint() != data.test.fingerprint()
    assert data.train.digest() != data.test.digest()
    odd.write_bytes(b"torn")
    with pytest.raises(UserError, match=r"xe9\.png") as raised:
        list(data.train.evaluation_batches(10))
    str(raised.value).encode()


@pytest.mark.parametrize("linked", [True, False])
def test_a_val_folder_that_is_train_is_said(tree: Path, linked: bool) -> None:
    Image.new("L", (90, 60)).save(tree / "val" / "camera" / "0.png")
    assert not open_dataset(CONFIG, str(tree)).notes  # other pictures with the same names
    shutil.rmtree(tree / "val")
    if linked:
        (tree / "val").symlink_to(tree / "train")
    else:
        shutil.copytree(tree / "train", tree / "val")
    (line,) = open_dataset(CONFIG, str(tree)).notes
    assert line.endswith("val/ holds the images of train/: k-NN finds each itself")


def test_memory_is_pinned_for_a_run_on_a_gpu_and_for_no_other(tree: Path) -> None:
    for device, pinned in ((torch.device("cuda", 0), True), (torch.device("cpu"), False)):
        data = open_dataset(CONFIG, str(tree), device=device)
        assert (data.train.pinned, data.test.subset([0]).pinned) == (pinned, pinned)
    assert not open_dataset(CONFIG, str(tree)).train.pinned


BEGUN_SO = """
import multiprocessing, sys
import torch
from repro.data.datasets import open_dataset
from tests.data.test_folders import CONFIG, CodePath, Resources, views_of

if __name__ == "__main__":
    method, path, root = sys.argv[1:]
    alone, helped = (
        open_dataset(CONFIG, root, Resources(data_workers=n, path=CodePath[path])) for n in (0, 1)
    )
    ours = views_of(alone)
    multiprocessing.set_start_method(method)
    theirs = views_of(helped)
    print(len(ours), all(torch.equal(a, b) for x, y in zip(ours, theirs) for a, b in zip(x, y)))
"""


@pytest.mark.parametrize(("method", "path"), [("spawn", "fast"), ("forkserver", "reference")])
def test_decoders_may_begin_in_any_way(tree: Path, tmp_path: Path, method: str, path: str) -> None:
    """A Mac's way, and that of Python 3.14: nothing is inherited, all is sent."""
    script = tmp_path / "begun_so.py"
    script.write_text(BEGUN_SO)
    command = [sys.executable, str(script), method, path, str(tree)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["2", "True"], done.stderr


def test_what_a_loader_holds_can_be_sent(tree: Path) -> None:
    data = open_dataset(CONFIG, str(tree))
    augment = Augment(create_transform(32, is_training=True, auto_augment="rand-m9-mstd0.5"))
    for make_views in (_OneByOne([augment, to_tensor()]), _OneByOne([T.Resize(8), to_tensor()])):
        assert isinstance(data.test, FileSplit)
        views = pickle.loads(pickle.dumps(_Views(data.test, make_views)))
        assert isinstance(views[0, 5], list)


def test_processes_that_decode_never_touch_a_gpu(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def touched(*_: object, **__: object) -> None:
        raise RuntimeError("Cannot re-initialize CUDA in forked subprocess")

    monkeypatch.setattr(torch.cuda, "_lazy_init", touched)
    monkeypatch.setattr(torch.cuda.random, "_lazy_call", touched)
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    assert len(views_of(open_dataset(CONFIG, str(tree), Resources(data_workers=2)))) == 2
