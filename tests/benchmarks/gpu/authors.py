"""The authors' training step, where a checkout of their code is at hand: `BENCH_AUTHORS` names it.

    git clone https://github.com/facebookresearch/dino CHECKOUT

Their network, head, wrapper, loss, schedules, parameter groups, clipping and freezing are imported
and called in the order of their `train_one_epoch`, in their mixed precision: float16 with a scaler.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from repro.config.schema import GLOBAL_VIEWS, RunConfig

STEPS_PER_EPOCH = 1000


def checkout() -> Path | None:
    named = os.environ.get("BENCH_AUTHORS")
    return Path(named) if named else None


class AuthorsStep:
    """Student, teacher, loss, AdamW and scaler; a call is one step on fixed views."""

    def __init__(self, folder: Path, config: RunConfig, device: torch.device, epoch: int) -> None:
        if not (folder / "main_dino.py").is_file():
            raise FileNotFoundError(f"BENCH_AUTHORS={folder}: no main_dino.py there")
        sys.path.insert(0, str(folder))
        import utils
        from main_dino import DINOLoss

        self.utils, self.config, self.device = utils, config, device
        self.nccl = _join_alone(device)
        self.epoch, self.step = epoch, epoch * STEPS_PER_EPOCH
        self.student, self.teacher = self._network(config.model.drop_path), self._network(0.0)
        self.teacher.load_state_dict(self.student.state_dict())
        self.teacher.requires_grad_(False)
        self.replica: nn.Module = self.student
        if self.nccl or device.type == "cpu":
            ids = [0] if device.type == "cuda" else None
            self.replica = DistributedDataParallel(self.student, device_ids=ids)
        target, optim, epochs = config.target, config.optim, config.train.epochs
        self.loss = DINOLoss(
            config.head.prototypes,
            GLOBAL_VIEWS + config.views.local_number,
            target.temp_start,
            target.temp,
            target.temp_warmup_epochs,
            epochs,
        ).to(device)
        self.optimiser = torch.optim.AdamW(utils.get_params_groups(self.replica))
        self.scaler = torch.amp.GradScaler(device.type)
        schedule = partial(utils.cosine_scheduler, epochs=epochs, niter_per_ep=STEPS_PER_EPOCH)
        rate = optim.lr * config.train.batch_size / 256
        self.rates = schedule(rate, optim.min_lr, warmup_epochs=optim.warmup_epochs)
        self.decays = schedule(optim.weight_decay, optim.weight_decay_end)
        self.momenta = schedule(config.teacher.momentum, 1)

    def _network(self, drop_path: float) -> nn.Module:
        import utils
        import vision_transformer as vits

        model, head = self.config.model, self.config.head
        backbone = vits.VisionTransformer(
            img_size=[self.config.views.global_size],
            patch_size=model.patch_size,
            embed_dim=model.dim,
            depth=model.depth,
            num_heads=model.heads,
            qkv_bias=True,
            drop_path_rate=drop_path,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
        )
        projection = vits.DINOHead(
            model.dim,
            head.prototypes,
            norm_last_layer=head.norm_last_layer,
            nlayers=head.layers,
            hidden_dim=head.hidden_dim,
            bottleneck_dim=head.bottleneck_dim,
        )
        wrapped: nn.Module = utils.MultiCropWrapper(backbone, projection)
        return wrapped.to(self.device)

    def __call__(self, crops: list[Tensor]) -> float:
        for group in self.optimiser.param_groups:
            group["lr"] = self.rates[self.step]
        self.optimiser.param_groups[0]["weight_decay"] = self.decays[self.step]
        with torch.autocast(self.device.type, torch.float16):
            taught = self.teacher(crops[:GLOBAL_VIEWS])
            loss = self.loss(self.replica(crops), taught, self.epoch)
        assert math.isfinite(loss.item()), "the authors' loss is not finite"
        self.optimiser.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimiser)
        self.utils.clip_gradients(self.replica, self.config.optim.clip_norm)
        self.utils.cancel_gradients_last_layer(
            self.epoch, self.replica, self.config.head.freeze_last_layer_epochs
        )
        self.scaler.step(self.optimiser)
        self.scaler.update()
        with torch.no_grad():
            momentum = self.momenta[self.step]
            pairs = zip(self.student.parameters(), self.teacher.parameters(), strict=True)
            for value, average in pairs:
                average.data.mul_(momentum).add_((1 - momentum) * value.detach().data)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.step += 1
        return loss.item()


def _join_alone(device: torch.device) -> bool:
    """A process group of one, in which their loss is reduced; whether it is NCCL's."""
    wanted = ["nccl", "gloo"] if device.type == "cuda" else ["gloo"]
    os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
    for backend in wanted:
        if not dist.is_initialized():
            store = dist.FileStore(tempfile.mktemp(prefix="authors"), 1)
            limit = timedelta(seconds=30)
            dist.init_process_group(backend, store=store, rank=0, world_size=1, timeout=limit)
        try:
            dist.all_reduce(torch.ones(1, device=device))
        except RuntimeError:
            dist.destroy_process_group()
            continue
        return dist.get_backend() == "nccl"
    raise RuntimeError("neither NCCL nor Gloo reduces a tensor here")


def crops_of(views: list[Tensor], config: RunConfig) -> list[Tensor]:
    """One tensor a crop, as their loader gives them."""
    pairs = zip(views, config.views.counts, strict=True)
    return [crop for same, count in pairs for crop in same.chunk(count)]
