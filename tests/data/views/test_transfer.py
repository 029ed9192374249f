"""From memory to the device: many tensors in one copy, constants once."""

from __future__ import annotations

import torch

from repro.data.views.transfer import constant, moved_together, packed, unpacked

TENSORS = [
    torch.arange(5).view(1, 5),
    torch.tensor([True, False, True]),
    torch.zeros(0, 7),
    torch.arange(6.0).view(2, 3).T,
    torch.tensor(3, dtype=torch.uint8),
    torch.arange(3, dtype=torch.float64),
]


def test_a_pack_holds_every_tensor_as_it_was() -> None:
    pack = packed(TENSORS)
    assert pack.dtype is torch.uint8
    for before, after in zip(TENSORS, unpacked(pack, TENSORS), strict=True):
        assert (before.dtype, before.shape) == (after.dtype, after.shape)
        assert torch.equal(before, after)


def test_tensors_are_moved_together_in_one_piece() -> None:
    there = moved_together(TENSORS, torch.device("meta"))
    assert {tensor.device.type for tensor in there} == {"meta"}
    assert len({tensor.untyped_storage()._cdata for tensor in there}) == 1
    assert moved_together(TENSORS, torch.device("cpu")) is TENSORS


def test_a_constant_is_made_once_and_may_take_part_in_a_gradient() -> None:
    with torch.inference_mode():
        first = constant((0.25, 0.5), torch.device("cpu"), torch.float32)
    assert constant((0.25, 0.5), torch.device("cpu"), torch.float32) is first
    weight = torch.ones(2, requires_grad=True)
    (weight * first).sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert weight.grad.tolist() == [0.25, 0.5]
