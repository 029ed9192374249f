"""Schedules of Sec. 3.2: learning rate, weight decay, teacher momentum and teacher temperature.

Learning rate, weight decay and momentum change every iteration, the teacher temperature every
epoch, as in the authors' code. The warm-up includes both of its ends: iteration 0 has learning rate
0 and the peak is used twice; the cosine approaches its end value without reaching it.
"""

from __future__ import annotations

import math

from repro.config.schema import RunConfig


def cosine(
    step: int, total: int, start: float, end: float, warmup: int = 0, warmup_start: float = 0.0
) -> float:
    """Iteration `step` of `total`: linear up to `start` over `warmup`, then cosine to `end`."""
    if step < warmup:
        return warmup_start + (start - warmup_start) * step / max(1, warmup - 1)
    progress = (step - warmup) / max(1, total - warmup)
    return end + 0.5 * (start - end) * (1 + math.cos(math.pi * progress))


def learning_rate(config: RunConfig, step: int, steps_per_epoch: int) -> float:
    """Linear scaling rule: lr x batch / 256; the minimum is not scaled."""
    return cosine(
        step,
        config.train.epochs * steps_per_epoch,
        start=config.optim.lr * config.train.batch_size / 256,
        end=config.optim.min_lr,
        warmup=config.optim.warmup_epochs * steps_per_epoch,
    )


def weight_decay(config: RunConfig, step: int, steps_per_epoch: int) -> float:
    total = config.train.epochs * steps_per_epoch
    return cosine(step, total, config.optim.weight_decay, config.optim.weight_decay_end)


def teacher_momentum(config: RunConfig, step: int, steps_per_epoch: int) -> float:
    total = config.train.epochs * steps_per_epoch
    return cosine(step, total, config.teacher.momentum, config.teacher.momentum_end)


def teacher_temperature(config: RunConfig, epoch: int) -> float:
    """Linear from `temp_start` to `temp` over the warm-up epochs (both ends included).

    Without sharpening the target is no sharper than the prediction: the student's temperature.
    The paper does not state the value of that row; App. D places collapse above 0.06.
    """
    if not config.target.sharpening:
        return config.loss.student_temp
    target = config.target
    if epoch >= target.temp_warmup_epochs:
        return target.temp
    fraction = epoch / max(1, target.temp_warmup_epochs - 1)
    return target.temp_start + (target.temp - target.temp_start) * fraction
