"""The typed description of one run. Hydra composes it (`compose.py`); the science reads it.

Every field that can change a number belongs to a run's identity. What cannot (where the run
executes, where files lie, how often it reports) sits in a section derived from `NotIdentity`
and is left out of the run id by that type, not by a list of names.

Defaults are the authors' (`main_dino.py` of facebookresearch/dino, ViT-S/16 on ImageNet) unless a
comment says otherwise. Fractions of training are in epochs, as in the paper. Bounds stand beside
the fields that they bound; what several fields together must satisfy is in `checks.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from repro.files import of_home

BILLION = 10**9  # no setting is larger; without a bound, infinity would be one
PositiveInt = Annotated[int, Meta(ge=1, le=BILLION)]
PositiveFloat = Annotated[float, Meta(gt=0, le=BILLION)]
NonNegativeInt = Annotated[int, Meta(ge=0, le=BILLION)]
NonNegativeFloat = Annotated[float, Meta(ge=0, le=BILLION)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Seed = Annotated[int, Meta(ge=0, le=2**63 - 1)]


PHOTOGRAPHS = (  # that scikit-image bundles; data made here have a class of each
    "astronaut", "brick", "camera", "chelsea", "clock", "coffee", "coins", "grass", "gravel",
    "hubble_deep_field", "immunohistochemistry", "moon", "page", "retina", "rocket", "text",
)  # fmt: skip
GLOBAL_VIEWS = 2  # of every image (Sec. 3.1); the number of local ones is a choice


class NotIdentity:
    """Marks a section whose values never change a run's numbers, hence never its id."""


@dataclass
class Part:
    """Marks a section that a method may leave out; unused, it is no part of a run's identity."""

    used: bool = False


class DataKind(Enum):
    photographs = "photographs"  # scikit-image's bundled photographs, cut into tiles
    composites = "composites"  # shapes textured by one photograph, pasted on another
    folder = "folder"  # an ImageFolder tree: ROOT/train/CLASS/*.jpg and ROOT/val/CLASS/*.jpg
    torchvision = "torchvision"  # a torchvision dataset by class name, downloaded by torchvision


class Interpolation(Enum):
    bicubic = "bicubic"
    bilinear = "bilinear"


class Family(Enum):
    """`timm`: any model of timm's by name. Configs and run ids say `resnet`, which it began as."""

    vit = "vit"
    resnet = "resnet"
    timm = resnet


class TeacherKind(Enum):
    """Figure 6 (right): where the teacher's weights come from."""

    momentum = "momentum"
    student_copy = "student_copy"
    previous_iteration = "previous_iteration"
    previous_epoch = "previous_epoch"


class Operation(Enum):
    """Table 15: how a teacher output becomes a target (beside centering, which is a shift)."""

    softmax = "softmax"  # over prototypes, image by image (DINO)
    sinkhorn_knopp = "sinkhorn_knopp"  # alternately over prototypes and images (SwAV)
    softmax_batch = "softmax_batch"  # over images, then normalised for each image
    labels = "labels"  # no teacher: the image's class (supervised training)


class LossKind(Enum):
    """Tables 7 and 14: what the student minimises."""

    cross_entropy = "cross_entropy"  # DINO, SwAV, supervised training
    mse = "mse"  # on l2-normalised outputs: BYOL
    info_nce = "info_nce"  # against the teacher's outputs of other images: MoCo-v2
    nt_xent = "nt_xent"  # against the student's own outputs of other images: SimCLR


class Activation(Enum):
    gelu = "gelu"
    relu = "relu"


class OptimiserName(Enum):
    adamw = "adamw"  # ViT
    sgd = "sgd"  # convnets, with momentum 0.9
    lars = "lars"  # convnets with large batches


class ClipKind(Enum):
    per_tensor = "per_tensor"  # the authors' code: every tensor's gradient to norm <= clip
    global_norm = "global_norm"
    none = "none"


class CodePath(Enum):
    """`reference`: the authors' arithmetic; `fast`: the same mathematics, other rounding."""

    fast = "fast"
    reference = "reference"


class StopOn(Enum):
    nothing = "nothing"
    collapse = "collapse"  # in whatever form the sentinel has seen it (repro/dino/sentinel.py)


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
    resolution: PositiveInt = 224  # evaluation crop; also the side of a photograph's tile
    eval_resize: PositiveInt = 256  # shorter side before the evaluation crop (folders, torchvision)
    eval_interpolation: Interpolation = Interpolation.bicubic  # of that resizing
    # photographs and composites: side in pixels before resizing to `resolution`; how many images of
    # each photograph from its left half (train) and from its right half (test)
    tile: PositiveInt = 32
    train_tiles: PositiveInt = 256
    test_tiles: PositiveInt = 64
    reduced_decoding: bool = False  # JPEGs at 1/2 to 1/8 where all crops allow: large photographs
    skip_unreadable: bool = False  # leave unreadable images out, and count them in the record

    @property
    def made_here(self) -> bool:
        """Whether its images are cut from the bundled photographs."""
        return self.kind in (DataKind.photographs, DataKind.composites)

    @property
    def images_made(self) -> int:
        """How many training images are made here."""
        return len(PHOTOGRAPHS) * self.train_tiles if self.made_here else 0


@dataclass
class ViewsConfig:
    """Multi-crop (Sec. 3.1) and BYOL's augmentations (App. C)."""

    global_size: PositiveInt = 224
    global_scale: tuple[Fraction, Fraction] = (0.4, 1.0)
    local_number: NonNegativeInt = 8
    local_size: PositiveInt = 96
    local_scale: tuple[Fraction, Fraction] = (0.05, 0.4)
    flip: Fraction = 0.5
    jitter: Fraction = 0.8
    brightness: NonNegativeFloat = 0.4
    contrast: NonNegativeFloat = 0.4
    saturation: NonNegativeFloat = 0.2
    hue: Annotated[float, Meta(ge=0, le=0.5)] = 0.1
    grey: Fraction = 0.2
    blur: tuple[Fraction, Fraction, Fraction] = (1.0, 0.1, 0.5)  # global 1, global 2, locals
    blur_sigma: tuple[PositiveFloat, PositiveFloat] = (0.1, 2.0)  # pixels
    solarise: Fraction = 0.2  # second global view only

    @property
    def counts(self) -> list[int]:
        """Views of an image: global ones and then, where there are some, local ones."""
        return [GLOBAL_VIEWS, self.local_number] if self.local_number else [GLOBAL_VIEWS]


@dataclass
class ModelConfig:
    family: Family = Family.vit
    name: str = "vit_small"  # for people; of family timm, timm's name
    dim: PositiveInt = 384
    depth: PositiveInt = 12
    heads: PositiveInt = 6
    patch_size: PositiveInt = 16
    drop_path: Annotated[float, Meta(ge=0, lt=1)] = 0.1  # student only
    # A file of weights with which the backbone begins; kept as its sha256, 12 digits.
    weights: str = ""


@dataclass
class HeadConfig:
    """Projection head (Sec. 3.1, App. C): MLP, l2 bottleneck, weight-normalised prototypes."""

    layers: PositiveInt = 3  # linear layers of the MLP; the prototypes are one more
    hidden_dim: PositiveInt = 2048
    activation: Activation = Activation.gelu
    l2_bottleneck: bool = True  # false: the MLP itself ends in K outputs, without prototypes
    bottleneck_dim: PositiveInt = 256
    # K, the output dimension; of one, images could not be told apart. With labels, the number of
    # classes instead.
    prototypes: Annotated[int, Meta(ge=2, le=BILLION)] = 65536
    norm_last_layer: bool = True  # keep the prototypes' norm frozen at 1
    freeze_last_layer_epochs: NonNegativeInt = 1
    batch_norm: bool = False


@dataclass
class TargetConfig:
    """Centering and sharpening of the teacher output (Sec. 3.1, Sec. 5.3, App. B and D)."""

    operation: Operation = Operation.softmax
    sinkhorn_iterations: PositiveInt = 3
    centering: bool = True
    centre_momentum: Fraction = 0.9
    sharpening: bool = True  # false: the teacher's temperature is the student's
    temp_start: NonNegativeFloat = 0.04
    temp: NonNegativeFloat = 0.04  # 0: hard targets, the largest output takes all
    temp_warmup_epochs: NonNegativeInt = 0


@dataclass
class TeacherConfig:
    kind: TeacherKind = TeacherKind.momentum
    momentum: Fraction = 0.996
    momentum_end: Fraction = 1.0


@dataclass
class LossConfig:
    kind: LossKind = LossKind.cross_entropy
    student_temp: PositiveFloat = 0.1  # the temperature of the contrastive losses, too


@dataclass
class PredictorConfig(Part):
    """An MLP on the student's projection only (BYOL; Tables 7 and 14)."""

    layers: PositiveInt = 2
    hidden_dim: PositiveInt = 4096
    batch_norm: bool = True
    activation: Activation = Activation.relu


@dataclass
class QueueConfig(Part):
    """Earlier teacher outputs: negatives of InfoNCE, further images of Sinkhorn-Knopp."""

    size: PositiveInt = 65536


@dataclass
class OptimConfig:
    """AdamW with the linear scaling rule and cosine schedules (Sec. 3.2)."""

    name: OptimiserName = OptimiserName.adamw
    lr: NonNegativeFloat = 5e-4  # per 256 images of a batch
    min_lr: NonNegativeFloat = 1e-6  # not scaled
    warmup_epochs: NonNegativeInt = 10
    weight_decay: NonNegativeFloat = 0.04
    weight_decay_end: NonNegativeFloat = 0.4
    clip: ClipKind = ClipKind.per_tensor
    clip_norm: PositiveFloat = 3.0


@dataclass
class TrainConfig:
    epochs: PositiveInt = 100
    batch_size: PositiveInt = 512  # images per optimiser step
    precision: Precision = Precision.fp32
    sync_batch_norm: bool = True  # batch statistics over all ranks; false: over each rank's images
    # An early end, at the end of the epoch in which the sentinel has seen it, without a break, for
    # this share of all epochs. Schedules stay those of all epochs.
    stop_on: StopOn = StopOn.nothing
    stop_after: Fraction = 0.0


@dataclass
class EvalConfig:
    """Weighted k-NN (Sec. 4.1, App. F.1)."""

    knn_k: PositiveInt = 20
    knn_temp: PositiveFloat = 0.07
    every_epochs: PositiveInt = 10  # k-NN of teacher and student during training, and at the end
    batch_size: PositiveInt = 128


@dataclass
class Resources(NotIdentity):
    device: Device = Device.auto
    threads: NonNegativeInt = 0  # CPU threads of a run; 0: the backend divides the machine's cores
    ranks: PositiveInt = 1  # processes that share a batch, one a GPU
    accumulate: PositiveInt = 1  # parts in which a rank works through its share of a batch
    data_workers: NonNegativeInt = 0  # processes that decode images (folders, torchvision)
    path: CodePath = CodePath.fast
    compile: bool = False  # the ViT's blocks by torch.compile; a minute at every start
    deterministic: bool = False  # on a GPU: the same bits every time, slower
    recompute: bool = False  # activations in the backward pass: less memory, a third more work


def _absolute(path: str) -> str:
    """What begins with a variable, $SLURM_TMPDIR/imagenet, is complete where it is read."""
    return path if not path or path[0] == "$" else str(Path(of_home(path)).absolute())


@dataclass
class Paths(NotIdentity):
    data: str = ""  # root of a folder or torchvision data set
    labelled: str = ""  # root of an image tree to evaluate on instead, where data has no classes
    weights: str = ""  # the file of model.weights
    benchmarks: dict[str, str] = field(default_factory=dict)  # folders by name, e.g. voc12

    def absolute(self) -> Paths:
        """The same folders, wherever whoever reads this works."""
        benchmarks = {name: _absolute(path) for name, path in self.benchmarks.items()}
        return Paths(_absolute(self.data), _absolute(self.labelled), self.weights, benchmarks)


@dataclass
class Reporting(NotIdentity):
    checkpoint_seconds: NonNegativeInt = 60  # at an epoch's end, if the last checkpoint is older
    heartbeat_seconds: PositiveInt = 5
    tensorboard: bool = False  # event files beside the JSON lines
    wandb: bool = False  # to Weights & Biases, with the login of the machine
    feature_space: bool = False  # test features at every evaluation, for repro eval features


@dataclass
class Protocols(NotIdentity):
    """Evaluations after training (Sec. 4, App. A, D, F). They say nothing of the training, and each
    leaves its settings beside its numbers.
    """

    linear_epochs: PositiveInt = 100
    finetune_epochs: PositiveInt = 300  # Table 6; the paper names none, DeiT's recipe has 300
    finetune_batch: PositiveInt = 768
    finetune_lr: PositiveFloat = 7.5e-6  # for 512 images, as DeiT counts; for CIFAR (issue 81)
    # What stands for a benchmark at this scale, e.g. voc12: composites; by default itself.
    stand_ins: dict[str, str] = field(default_factory=dict)


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
    predictor: PredictorConfig = field(default_factory=PredictorConfig)
    queue: QueueConfig = field(default_factory=QueueConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    seed: Seed = 0
    resources: Resources = field(default_factory=Resources)
    paths: Paths = field(default_factory=Paths)
    reporting: Reporting = field(default_factory=Reporting)
    protocols: Protocols = field(default_factory=Protocols)
    label: Label = field(default_factory=Label)
