"""The typed description of one run. Hydra composes it (`repro/compose.py`); the science reads it.

Every field that can change a number belongs to a run's identity. What cannot (where the run
executes, where files lie, how often it reports) sits in a section derived from `NotIdentity`
and is left out of the run id by that type, not by a list of names.

Defaults are the authors' (`main_dino.py` of facebookresearch/dino, ViT-S/16 on ImageNet) unless a
comment says otherwise. Fractions of training are in epochs, as in the paper.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from repro.errors import UserError


class NotIdentity:
    """Marks a section whose values never change a run's numbers, hence never its id."""


class DataKind(Enum):
    photographs = "photographs"  # scikit-image's bundled photographs, cut into tiles
    folder = "folder"  # an ImageFolder tree: ROOT/train/CLASS/*.jpg and ROOT/val/CLASS/*.jpg
    torchvision = "torchvision"  # a torchvision dataset by class name, downloaded by torchvision


class Family(Enum):
    vit = "vit"
    resnet = "resnet"


class TeacherKind(Enum):
    """Figure 6 (right): where the teacher's weights come from."""

    momentum = "momentum"
    student_copy = "student_copy"
    previous_iteration = "previous_iteration"
    previous_epoch = "previous_epoch"


class ClipKind(Enum):
    per_tensor = "per_tensor"  # the authors' code: every tensor's gradient to norm <= clip
    global_norm = "global_norm"
    none = "none"


class Precision(Enum):
    fp32 = "fp32"
    bf16 = "bf16"


class Device(Enum):
    auto = "auto"  # cuda where there is one, else cpu
    cpu = "cpu"
    cuda = "cuda"


@dataclass
class DataConfig:
    kind: DataKind = DataKind.folder
    name: str = "imagenet"  # names the data set in records; for torchvision, the class name
    resolution: int = 224  # evaluation crop; also the side of a photograph's tile
    eval_resize: int = 256  # shorter side before the evaluation crop (folders, torchvision)
    tile: int = 32  # photographs: pixels cut out of a photograph, then resized to `resolution`
    train_tiles: int = 256  # photographs: tiles per photograph from its left half
    test_tiles: int = 64  # photographs: tiles per photograph from its right half
    skip_unreadable: bool = False  # leave unreadable images out, and count them in the record


@dataclass
class ViewsConfig:
    """Multi-crop (Sec. 3.1) and BYOL's augmentations (App. C)."""

    global_size: int = 224
    global_scale: tuple[float, float] = (0.4, 1.0)
    local_number: int = 8
    local_size: int = 96
    local_scale: tuple[float, float] = (0.05, 0.4)
    flip: float = 0.5
    jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.2
    hue: float = 0.1
    grey: float = 0.2
    blur: tuple[float, float, float] = (1.0, 0.1, 0.5)  # global 1, global 2, locals
    blur_sigma: tuple[float, float] = (0.1, 2.0)  # pixels
    solarise: float = 0.2  # second global view only


@dataclass
class ModelConfig:
    family: Family = Family.vit
    name: str = "vit_small"  # for people; for resnet, timm's model name
    dim: int = 384
    depth: int = 12
    heads: int = 6
    patch_size: int = 16
    drop_path: float = 0.1  # student only


@dataclass
class HeadConfig:
    """Projection head (Sec. 3.1, App. C): MLP, l2 bottleneck, weight-normalised prototypes."""

    layers: int = 3  # linear layers of the MLP; the prototypes are one more
    hidden_dim: int = 2048
    bottleneck_dim: int = 256
    prototypes: int = 65536  # K
    norm_last_layer: bool = True  # keep the prototypes' norm frozen at 1
    freeze_last_layer_epochs: int = 1
    batch_norm: bool = False


@dataclass
class TargetConfig:
    """Centering and sharpening of the teacher output (Sec. 3.1, Sec. 5.3, App. D)."""

    centering: bool = True
    centre_momentum: float = 0.9
    sharpening: bool = True  # false: the teacher's temperature is the student's
    temp_start: float = 0.04
    temp: float = 0.04
    temp_warmup_epochs: int = 0


@dataclass
class TeacherConfig:
    kind: TeacherKind = TeacherKind.momentum
    momentum: float = 0.996
    momentum_end: float = 1.0


@dataclass
class LossConfig:
    student_temp: float = 0.1


@dataclass
class OptimConfig:
    """AdamW with the linear scaling rule and cosine schedules (Sec. 3.2)."""

    lr: float = 5e-4  # per 256 images of a batch
    min_lr: float = 1e-6  # not scaled
    warmup_epochs: int = 10
    weight_decay: float = 0.04
    weight_decay_end: float = 0.4
    clip: ClipKind = ClipKind.per_tensor
    clip_norm: float = 3.0


@dataclass
class TrainConfig:
    epochs: int = 100
    batch_size: int = 512  # images per optimiser step
    precision: Precision = Precision.fp32


@dataclass
class EvalConfig:
    """Weighted k-NN (Sec. 4.1, App. F.1)."""

    knn_k: int = 20
    knn_temp: float = 0.07
    every_epochs: int = 10  # k-NN of teacher and student during training, and at the end
    batch_size: int = 128


@dataclass
class Resources(NotIdentity):
    device: Device = Device.auto
    threads: int = 0  # CPU threads of a run; 0: the backend divides the machine's cores
    data_workers: int = 0  # processes that decode images (folders, torchvision)


@dataclass
class Paths(NotIdentity):
    data: str = ""  # root of a folder or torchvision data set


@dataclass
class Reporting(NotIdentity):
    checkpoint_seconds: int = 60  # at an epoch's end, if the last checkpoint is older
    heartbeat_seconds: int = 5


@dataclass
class Label(NotIdentity):
    """What the run was made for; a run shared by two tables keeps its first label."""

    scale: str = "paper"
    experiment: str = ""
    row: str = ""


@dataclass
class RunConfig:
    data: DataConfig = field(default_factory=DataConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    target: TargetConfig = field(default_factory=TargetConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    seed: int = 0
    resources: Resources = field(default_factory=Resources)
    paths: Paths = field(default_factory=Paths)
    reporting: Reporting = field(default_factory=Reporting)
    label: Label = field(default_factory=Label)


def check(config: RunConfig) -> None:
    """Refuse a combination that cannot train, before anything starts.

    Raises:
        UserError: one line that names the keys, their values and the fix.
    """
    problems = list(_problems(config))
    if problems:
        raise UserError("; ".join(problems))


def _problems(c: RunConfig) -> Iterator[str]:
    def inside(key: str, value: float, low: float, high: float) -> str | None:
        return None if low <= value <= high else f"{key}={value} is not within {low} and {high}"

    for key, pair, length in (
        ("views.global_scale", c.views.global_scale, 2),
        ("views.local_scale", c.views.local_scale, 2),
        ("views.blur_sigma", c.views.blur_sigma, 2),
        ("views.blur", c.views.blur, 3),
    ):
        if len(pair) != length:
            yield f"{key}={list(pair)} must have {length} values"
            return

    positive = {
        "data.resolution": c.data.resolution,
        "data.tile": c.data.tile,
        "data.train_tiles": c.data.train_tiles,
        "data.test_tiles": c.data.test_tiles,
        "views.global_size": c.views.global_size,
        "model.dim": c.model.dim,
        "model.depth": c.model.depth,
        "model.heads": c.model.heads,
        "model.patch_size": c.model.patch_size,
        "head.layers": c.head.layers,
        "head.hidden_dim": c.head.hidden_dim,
        "head.bottleneck_dim": c.head.bottleneck_dim,
        "head.prototypes": c.head.prototypes,
        "train.epochs": c.train.epochs,
        "train.batch_size": c.train.batch_size,
        "eval.knn_k": c.eval.knn_k,
        "eval.every_epochs": c.eval.every_epochs,
        "eval.batch_size": c.eval.batch_size,
        "eval.knn_temp": c.eval.knn_temp,
        "loss.student_temp": c.loss.student_temp,
        "target.temp": c.target.temp,
        "target.temp_start": c.target.temp_start,
        "optim.clip_norm": c.optim.clip_norm,
    }
    for key, value in positive.items():
        if value <= 0:
            yield f"{key}={value} must be greater than 0"
    for key, value in {
        "views.local_number": c.views.local_number,
        "optim.lr": c.optim.lr,
        "optim.min_lr": c.optim.min_lr,
        "optim.warmup_epochs": c.optim.warmup_epochs,
        "optim.weight_decay": c.optim.weight_decay,
        "optim.weight_decay_end": c.optim.weight_decay_end,
        "target.temp_warmup_epochs": c.target.temp_warmup_epochs,
        "head.freeze_last_layer_epochs": c.head.freeze_last_layer_epochs,
        "seed": c.seed,
        "resources.threads": c.resources.threads,
        "resources.data_workers": c.resources.data_workers,
    }.items():
        if value < 0:
            yield f"{key}={value} must not be negative"
    probabilities = {
        "views.flip": c.views.flip,
        "views.jitter": c.views.jitter,
        "views.grey": c.views.grey,
        "views.solarise": c.views.solarise,
        "target.centre_momentum": c.target.centre_momentum,
        "teacher.momentum": c.teacher.momentum,
        "teacher.momentum_end": c.teacher.momentum_end,
        "model.drop_path": c.model.drop_path,
    }
    probabilities |= {f"views.blur[{i}]": p for i, p in enumerate(c.views.blur)}
    for key, value in probabilities.items():
        if problem := inside(key, value, 0, 1):
            yield problem
    if problem := inside("views.hue", c.views.hue, 0, 0.5):
        yield problem
    for key, (low, high) in {
        "views.global_scale": c.views.global_scale,
        "views.local_scale": c.views.local_scale,
    }.items():
        if not 0 < low <= high <= 1:
            yield f"{key}=[{low}, {high}] must satisfy 0 < low <= high <= 1"
    if not 0 < c.views.blur_sigma[0] <= c.views.blur_sigma[1]:
        yield f"views.blur_sigma={list(c.views.blur_sigma)} must satisfy 0 < low <= high"

    if c.views.local_number > 0:
        if c.views.local_size > c.views.global_size:
            yield (
                f"views.local_size={c.views.local_size} is larger than "
                f"views.global_size={c.views.global_size}: local crops must not exceed global ones"
            )
        if c.views.local_scale[1] > c.views.global_scale[1]:
            yield (
                f"views.local_scale={list(c.views.local_scale)} reaches beyond "
                f"views.global_scale={list(c.views.global_scale)}"
            )
    if c.model.family is Family.vit:
        sizes = {"data.resolution": c.data.resolution, "views.global_size": c.views.global_size}
        if c.views.local_number > 0:
            sizes["views.local_size"] = c.views.local_size
        for key, size in sizes.items():
            if c.model.patch_size > 0 and size % c.model.patch_size:
                yield f"{key}={size} is not a multiple of model.patch_size={c.model.patch_size}"
        if c.model.heads > 0 and c.model.dim % c.model.heads:
            yield f"model.dim={c.model.dim} is not a multiple of model.heads={c.model.heads}"
    if c.data.kind is not DataKind.photographs and c.data.eval_resize < c.data.resolution:
        yield (
            f"data.eval_resize={c.data.eval_resize} is smaller than "
            f"data.resolution={c.data.resolution}: the evaluation crop would not fit"
        )
    if c.optim.warmup_epochs > c.train.epochs:
        yield (
            f"optim.warmup_epochs={c.optim.warmup_epochs} is longer than "
            f"train.epochs={c.train.epochs}"
        )
    if c.target.temp_warmup_epochs > c.train.epochs:
        yield (
            f"target.temp_warmup_epochs={c.target.temp_warmup_epochs} is longer than "
            f"train.epochs={c.train.epochs}"
        )
    if not c.head.norm_last_layer and c.head.freeze_last_layer_epochs >= c.train.epochs:
        yield (
            f"head.norm_last_layer=false frees the prototypes' norm, but "
            f"head.freeze_last_layer_epochs={c.head.freeze_last_layer_epochs} freezes them for all "
            f"{c.train.epochs} epochs"
        )
