"""Writes golden.json: twenty steps of the authors' code on small networks.

    git clone https://github.com/facebookresearch/dino CHECKOUT
    python -m tests.fidelity.make_golden --dino CHECKOUT

Their network, head, loss, schedules, parameter groups, clipping and freezing are imported from the
checkout and called in the order of their `train_one_epoch`; on the CPU, in fp32, without drop path.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from tests.fidelity import inputs


def main() -> None:
    made = open_checkout("tests.fidelity.make_golden", __doc__)
    store = dist.HashStore()
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)  # their loss all-reduces
    losses, tensors = trajectory()
    golden = {
        "made": made | {"steps": len(losses)},
        "losses": losses,
        "final": tensors,
    }
    Path(__file__).with_name("golden.json").write_text(json.dumps(golden, indent=1) + "\n")


def open_checkout(module: str, description: str | None) -> dict[str, Any]:
    """Make the authors' code of `--dino CHECKOUT` importable; what a fixture says of its making."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--dino", required=True, help="a checkout of facebookresearch/dino")
    checkout = parser.parse_args().dino
    sys.path.insert(0, checkout)
    torch.set_num_threads(1)
    commit = subprocess.run(
        ["git", "-C", checkout, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    )
    return {
        "by": f"python -m {module}",
        "repository": "facebookresearch/dino",
        "commit": commit.stdout.strip(),
        "torch": torch.__version__,
    }


def network() -> nn.Module:
    import utils
    import vision_transformer as vits

    backbone = vits.VisionTransformer(
        img_size=[inputs.GLOBAL_SIZE],
        patch_size=inputs.PATCH,
        embed_dim=inputs.DIM,
        depth=inputs.DEPTH,
        num_heads=inputs.HEADS,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
    )
    head = vits.DINOHead(
        inputs.DIM,
        inputs.PROTOTYPES,
        norm_last_layer=False,
        hidden_dim=inputs.HIDDEN,
        bottleneck_dim=inputs.BOTTLENECK,
    )
    wrapped: nn.Module = utils.MultiCropWrapper(backbone, head)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            parameter.copy_(inputs.initial(name, parameter.shape))
    return wrapped


def trajectory() -> tuple[list[float], dict[str, Any]]:
    import utils
    from main_dino import DINOLoss

    student, teacher = network(), network()
    teacher.requires_grad_(False)
    criterion = DINOLoss(
        inputs.PROTOTYPES,
        2 + inputs.LOCALS,
        inputs.TEMP_START,
        inputs.TEMP,
        inputs.TEMP_WARMUP_EPOCHS,
        inputs.EPOCHS,
    )
    optimiser = torch.optim.AdamW(utils.get_params_groups(student))
    epochs, spe = inputs.EPOCHS, inputs.STEPS_PER_EPOCH
    rates = utils.cosine_scheduler(
        inputs.RATE, inputs.MIN_RATE, epochs, spe, warmup_epochs=inputs.WARMUP_EPOCHS
    )
    decays = utils.cosine_scheduler(inputs.DECAY, inputs.DECAY_END, epochs, spe)
    momenta = utils.cosine_scheduler(inputs.MOMENTUM, 1, epochs, spe)
    losses = []
    for step in range(epochs * spe):
        epoch = step // spe
        for group in optimiser.param_groups:
            group["lr"] = rates[step]
        optimiser.param_groups[0]["weight_decay"] = decays[step]
        views = inputs.crops(step)
        loss = criterion(student(views), teacher(views[:2]), epoch)
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        utils.clip_gradients(student, inputs.CLIP)
        utils.cancel_gradients_last_layer(epoch, student, inputs.FREEZE_EPOCHS)
        optimiser.step()
        with torch.no_grad():
            for theirs, ours in zip(teacher.parameters(), student.parameters(), strict=True):
                theirs.mul_(momenta[step]).add_((1 - momenta[step]) * ours)
    final = {f"student.{n}": p for n, p in student.named_parameters()}
    final |= {f"teacher.{n}": p for n, p in teacher.named_parameters()}
    final["centre"] = criterion.center
    return losses, {name: inputs.summary(tensor) for name, tensor in final.items()}


if __name__ == "__main__":
    main()
