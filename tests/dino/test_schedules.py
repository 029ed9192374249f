"""Schedules against closed forms (F7, F8, F9 of the authors' code)."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repro.config.schema import RunConfig
from repro.dino import schedules


def test_the_learning_rate_starts_at_zero_peaks_twice_and_nears_its_minimum() -> None:
    config = RunConfig()
    config.train.epochs, config.train.batch_size, config.optim.warmup_epochs = 100, 1024, 10
    rates = [schedules.learning_rate(config, step, 50) for step in range(100 * 50)]
    peak = 5e-4 * 1024 / 256
    assert rates[0] == 0
    assert rates[499] == rates[500] == max(rates) == pytest.approx(peak)
    assert rates[250] == pytest.approx(peak * 250 / 499)
    assert 1e-6 < rates[-1] < 1.01e-6 + 1e-9
    middle = 500 + (5000 - 500) // 2
    assert rates[middle] == pytest.approx((peak + 1e-6) / 2)


def test_weight_decay_and_momentum_follow_a_cosine_without_warm_up() -> None:
    config = RunConfig()
    total = config.train.epochs * 10
    for step in (0, 123, total // 2, total - 1):
        fall = (1 + math.cos(math.pi * step / total)) / 2
        assert schedules.weight_decay(config, step, 10) == pytest.approx(0.4 + (0.04 - 0.4) * fall)
        expected = 1 + (0.996 - 1) * fall
        assert schedules.teacher_momentum(config, step, 10) == pytest.approx(expected)
    assert schedules.teacher_momentum(config, total - 1, 10) < 1


def test_the_teacher_temperature_warms_up_per_epoch_including_both_ends() -> None:
    config = RunConfig()
    config.target.temp_start, config.target.temp, config.target.temp_warmup_epochs = 0.04, 0.07, 30
    table = [schedules.teacher_temperature(config, epoch) for epoch in range(40)]
    assert table[0] == 0.04
    assert table[29:] == [pytest.approx(0.07)] * 11
    assert table[10] == pytest.approx(0.04 + 0.03 * 10 / 29)


def test_without_sharpening_the_teacher_is_as_soft_as_the_student() -> None:
    config = RunConfig()
    config.target.sharpening = False
    assert schedules.teacher_temperature(config, 3) == config.loss.student_temp


@given(
    total=st.integers(2, 500),
    warmup=st.integers(0, 100),
    start=st.floats(1e-4, 1),
    end=st.floats(0, 1),
)
def test_a_cosine_stays_between_its_ends(total: int, warmup: int, start: float, end: float) -> None:
    warmup = min(warmup, total - 1)
    low, high = min(0.0, start, end), max(start, end)
    for step in range(total):
        value = schedules.cosine(step, total, start, end, warmup)
        assert low - 1e-12 <= value <= high + 1e-12
