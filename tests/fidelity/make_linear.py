"""Writes linear.json: what the authors' `eval_linear.py` logs of a probe on made-up images.

    git clone https://github.com/facebookresearch/dino CHECKOUT
    python -m tests.fidelity.make_linear --dino CHECKOUT

Their script runs as it is, on a folder in ImageNet's layout, but for what it asks of CUDA: tensors
stay on the CPU, one process speaks gloo. Every image is of one colour, so that crops and flips,
which they draw from another generator than we do, change nothing; the first weights of the probe
are given, and the order of images is that of torch's sampler.
"""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor, nn

from tests.fidelity import inputs
from tests.fidelity.make_golden import open_checkout

CLASSES, TRAIN, TEST = 5, 20, 10  # images of a class
DIM, DEPTH, HEADS, PATCH, SIDE, BLOCKS = 192, 12, 3, 32, 224, 4  # their vit_tiny
RATES, EPOCHS, BATCH = (0.001, 0.1), 3, 25


def write_colours(root: Path) -> None:
    """Images of one colour each, whose classes overlap."""
    random = np.random.default_rng(0)
    for part, count in (("train", TRAIN), ("val", TEST)):
        for label in range(CLASSES):
            folder = root / part / f"class{label}"
            folder.mkdir(parents=True)
            middle = np.array([60 + 30 * label, 200 - 25 * label, 40 + 60 * (label % 3)])
            for index in range(count):
                colour = (middle + random.normal(0, 25, 3)).clip(0, 255).astype(int)
                Image.new("RGB", (48, 48), tuple(colour.tolist())).save(folder / f"{index:02}.png")


def backbone_tensors(shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    return {name: inputs.initial(name, shape) for name, shape in shapes.items()}


def probe_tensor(shape: Sequence[int]) -> Tensor:
    """The first weights of the probe, as spread as theirs."""
    return 0.2 * inputs.initial("linear.weight", torch.Size(shape))


def order(epoch: int, images: int) -> Tensor:
    """In which torch's distributed sampler of one process shows the training images."""
    return torch.randperm(images, generator=torch.Generator().manual_seed(epoch))


class OnTheCpu(nn.parallel.DistributedDataParallel):
    """Theirs names a GPU; the probe begins with the given weights."""

    def __init__(self, module: Any, **_: Any) -> None:
        module.linear.weight.data = probe_tensor(module.linear.weight.shape)
        super().__init__(module)


def without_cuda() -> None:
    """What the script asks of CUDA, answered by the CPU."""
    import utils

    def begin(args: Any) -> None:
        args.gpu, args.rank, args.world_size = 0, 0, 1
        if not dist.is_initialized():
            dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)

    def stay(itself: Any, *_: Any, **__: Any) -> Any:
        return itself

    torch.Tensor.cuda = stay  # type: ignore[method-assign]
    nn.Module.cuda = stay  # type: ignore[method-assign]
    torch.cuda.synchronize = lambda *_: None  # type: ignore[assignment,misc]
    nn.parallel.DistributedDataParallel = OnTheCpu  # type: ignore[misc,assignment]
    utils.init_distributed_mode = begin
    utils.SmoothedValue.synchronize_between_processes = stay


def theirs(checkout: Path, folder: Path, rate: float) -> dict[str, Any]:
    """One run of the script: the lines of its log, and the probe that it leaves."""
    out = folder / f"rate{rate}"
    out.mkdir()
    words = {
        "arch": "vit_tiny", "patch_size": PATCH, "n_last_blocks": BLOCKS, "epochs": EPOCHS,
        "lr": rate, "batch_size_per_gpu": BATCH, "num_workers": 0, "num_labels": CLASSES,
        "pretrained_weights": folder / "backbone.pth", "data_path": folder / "images",
        "output_dir": out,
    }  # fmt: skip
    sys.argv = ["eval_linear.py", *(w for k, v in words.items() for w in (f"--{k}", str(v)))]
    runpy.run_path(str(checkout / "eval_linear.py"), run_name="__main__")
    state = torch.load(out / "checkpoint.pth.tar", weights_only=True)["state_dict"]
    log = [json.loads(line) for line in (out / "log.txt").read_text().splitlines()]
    probe = {name: inputs.summary(state[f"module.linear.{name}"]) for name in ("weight", "bias")}
    return {"log": log, **probe}


def main() -> None:
    made = open_checkout("tests.fidelity.make_linear", __doc__)
    checkout = Path(sys.path[0])
    import vision_transformer as vits

    without_cuda()
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_colours(folder / "images")
        state = vits.vit_tiny(patch_size=PATCH, num_classes=0).state_dict()
        tensors = backbone_tensors({name: tensor.shape for name, tensor in state.items()})
        torch.save(tensors, folder / "backbone.pth")
        runs = {str(rate): theirs(checkout, folder, rate) for rate in RATES}
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    content = {"made": made, "shapes": shapes, "runs": runs}
    path = Path(__file__).with_name("linear.json")
    path.write_text(json.dumps(content, indent=None) + "\n")


if __name__ == "__main__":
    main()
