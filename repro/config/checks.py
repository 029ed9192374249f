"""Configs that cannot train, each with its reason and what to do.

Bounds of single keys stand beside them in `schema.py`; here is what several keys together must
satisfy. Both are refused when a config is composed, before anything is planned or submitted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import msgspec

from repro.config.schema import (
    Family,
    LossKind,
    Operation,
    OptimiserName,
    RunConfig,
    StopOn,
    TeacherKind,
)
from repro.decode import mistakes
from repro.errors import UserError

RESNET = re.compile("res(net|next|nest)|res2ne")  # timm, which knows them, takes a second


def check(config: RunConfig) -> None:
    """Refuse values and combinations that cannot train, before anything starts.

    Raises:
        UserError: one line that names the keys, their values and the fix.
    """
    wrong = [*_unwritable(config), *_out_of_bounds(config)]
    problems = wrong or list(_problems(config))
    if problems:
        raise UserError("; ".join(problems))


def _unwritable(config: RunConfig) -> Iterator[str]:
    """Text that config.yaml could not give back, or that no file can be called."""
    for key, text in _texts(config, ""):
        if "${" in text:
            yield f"{key}={text}: must not contain ${{, which stands for another value"
        elif "\0" in text or (not text.isascii() and text != text.encode(errors="ignore").decode()):
            yield f"{key}={text!r}: is not text in UTF-8"


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Every text of a config, with its dotted key."""
    if is_dataclass(value):
        value = {item.name: getattr(value, item.name) for item in fields(value)}
    if isinstance(value, dict):
        for name, child in value.items():
            yield from _texts(child, f"{key}.{name}" if key else str(name))
    elif isinstance(value, str):
        yield key, value


def _out_of_bounds(config: RunConfig) -> Iterator[str]:
    for mistake in mistakes(msgspec.to_builtins(config), RunConfig):
        yield f"{'.'.join(mistake.path)}={mistake.value} {mistake.reason}"


def _problems(c: RunConfig) -> Iterator[str]:
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
            if size % c.model.patch_size:
                yield f"{key}={size} is not a multiple of model.patch_size={c.model.patch_size}"
        if c.model.dim % c.model.heads:
            yield f"model.dim={c.model.dim} is not a multiple of model.heads={c.model.heads}"
    if not c.data.made_here and c.data.eval_resize < c.data.resolution:
        yield (
            f"data.eval_resize={c.data.eval_resize} is smaller than "
            f"data.resolution={c.data.resolution}: the evaluation crop would not fit"
        )
    if c.model.family is Family.timm and not RESNET.search(c.model.name):
        yield (
            f"model.name={c.model.name} is no ResNet of timm's, e.g. resnet50; a ViT has "
            "model.family=vit, and its shape is model.dim, depth, heads and patch_size"
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
    stops, after = c.train.stop_on is not StopOn.nothing, c.train.stop_after
    if stops and after == 0:
        yield (
            f"train.stop_on={c.train.stop_on.name} says not for how long: set train.stop_after to "
            "a share of the epochs, e.g. 0.2"
        )
    if after > 0 and not stops:
        yield f"train.stop_after={after:g} without train.stop_on=collapse ends no run"
    yield from _method_problems(c)
    yield from _division_problems(c)


def _method_problems(c: RunConfig) -> Iterator[str]:
    """Parts of a method that do not fit each other."""
    operation, loss = c.target.operation, c.loss.kind
    if operation is not Operation.softmax and loss is not LossKind.cross_entropy:
        yield (
            f"target.operation={operation.name} makes probabilities, but loss.kind={loss.name} "
            "compares vectors; use loss.kind=cross_entropy or target.operation=softmax"
        )
    if operation is not Operation.softmax and c.target.centering:
        yield (
            f"target.operation={operation.name} replaces centering (Table 15); set "
            "target.centering=false"
        )
    balances = operation in (Operation.sinkhorn_knopp, Operation.softmax_batch)
    cold = min(c.target.temp, c.target.temp_start) == 0
    if cold and c.target.sharpening and (balances or c.target.temp != c.target.temp_start):
        yield (
            f"target.temp_start={c.target.temp_start:g}, target.temp={c.target.temp:g}: hard "
            "targets (0) need target.operation=softmax and the same temperature throughout"
        )
    contrastive = loss in (LossKind.info_nce, LossKind.nt_xent)
    if balances and c.train.batch_size < 2:
        yield f"train.batch_size={c.train.batch_size}: {operation.name} needs several images"
    if contrastive and not c.queue.used and c.train.batch_size < 2:
        yield f"train.batch_size={c.train.batch_size}: loss.kind={loss.name} has no negatives"
    if c.queue.used and not (loss is LossKind.info_nce or operation is Operation.sinkhorn_knopp):
        yield (
            "queue.used=true serves loss.kind=info_nce and target.operation=sinkhorn_knopp only, "
            f"not loss.kind={loss.name} with target.operation={operation.name}"
        )
    if c.queue.used and c.data.made_here:
        images = c.data.images_made
        if c.queue.size > images:
            yield (
                f"queue.size={c.queue.size} is larger than the data set of {images} images: it "
                "would hold the very images it is compared with"
            )
    if operation is Operation.labels or loss is LossKind.nt_xent:
        method = "labels as targets" if operation is Operation.labels else "loss.kind=nt_xent"
        if c.teacher.kind is not TeacherKind.student_copy:
            yield (
                f"teacher.kind={c.teacher.kind.name}: {method} has no teacher; "
                "set teacher.kind=student_copy, which evaluations then read"
            )
        if c.predictor.used:
            yield f"predictor.used=true: {method} has no teacher whose output it could predict"
    if operation is Operation.labels and c.head.l2_bottleneck:
        yield "target.operation=labels needs head.l2_bottleneck=false: classes, not prototypes"
    if c.optim.name is OptimiserName.lars and c.optim.weight_decay == 0:
        yield "optim.name=lars adapts decayed layers only: set optim.weight_decay above 0"


def _division_problems(c: RunConfig) -> Iterator[str]:
    """What a batch's division over ranks and parts, or batch norm, cannot have."""
    ranks, parts = c.resources.ranks, c.resources.accumulate
    batch = c.train.batch_size
    if batch % (ranks * parts):
        yield (
            f"train.batch_size={batch} is not a multiple of resources.ranks={ranks} x "
            f"resources.accumulate={parts}"
        )
    normed = [
        name
        for name, used in (
            ("head.batch_norm=true", c.head.batch_norm and c.head.layers > 1),
            ("predictor.batch_norm=true", c.predictor.used and c.predictor.batch_norm),
            ("model.family=resnet", c.model.family is Family.timm),
        )
        if used
    ]
    if normed and parts > 1:
        yield (
            f"resources.accumulate={parts} with {normed[0]}: batch norm would see a part of the "
            "batch at a time, another computation; use more ranks instead"
        )
    together = 1 if c.train.sync_batch_norm else ranks
    if normed and batch // together < 2:
        yield f"train.batch_size={batch} with {normed[0]}: batch norm needs at least 2 images"
    if c.loss.kind is LossKind.nt_xent and parts > 1:
        yield (
            f"resources.accumulate={parts} with loss.kind=nt_xent: its negatives are the batch "
            "itself; use more ranks instead"
        )
