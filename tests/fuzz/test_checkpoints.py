"""Files of weights with something changed in them: the network that was saved, or one line."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from safetensors.torch import save as as_safetensors
from torch import Tensor

from repro.errors import UserError
from repro.evals.weights.networks import load_weights
from tests.evals.weights.test_layouts import STUDENT, TEACHER, under
from tests.fuzz.searching import search, values


def packed(content: Any, zipped: bool = True) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


FULL = {
    "student": under("module.backbone.", STUDENT),
    "teacher": under("backbone.", TEACHER),
    "epoch": 7,
}
FILES = {
    "zip": ("weights.pth", packed(TEACHER)),
    "full": ("checkpoint.pth", packed(FULL)),
    "pickle": ("old.pth", packed(TEACHER, zipped=False)),
    "safetensors": ("weights.safetensors", as_safetensors(TEACHER)),
}


def read(path: Path, network: str = "") -> dict[str, Tensor]:
    """The network's tensors; empty where one line says why there are none."""
    try:
        return load_weights(path, network).backbone.state_dict()
    except UserError as error:
        said = str(error)
        said.encode()
        assert said.startswith(f"{path}: ")
        assert len(said.splitlines()) == 1, said
        return {}


def same(found: dict[str, Tensor], saved: dict[str, Tensor]) -> bool:
    return all(torch.equal(found[name], saved[name]) for name in saved)


@st.composite
def changed(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes set, put in, left out or cut off; mostly near the ends, which say what a file is."""
    data = bytearray(content)
    size = len(data)
    near = st.integers(0, min(2000, size - 1))
    places = near | near.map(lambda at: size - 1 - at) | st.integers(0, size - 1)
    for at in draw(st.lists(places, min_size=1, max_size=4)):
        how = draw(st.sampled_from(["set", "set", "flip", "put in", "leave out", "cut"]))
        if how == "set":
            data[at : at + 1] = bytes([draw(st.integers(0, 255))])
        elif how == "flip":
            data[at : at + 1] = bytes(
                [data[at] ^ (1 << draw(st.integers(0, 7)))] if data[at:] else []
            )
        elif how == "put in":
            data[at:at] = draw(st.binary(max_size=20))
        elif how == "leave out":
            del data[at : at + draw(st.integers(1, 100))]
        else:
            del data[at:]
    return bytes(data)


@pytest.mark.parametrize("kind", FILES)
def test_whatever_is_changed_in_a_file_it_holds_the_network_or_one_line(
    tmp_path: Path, kind: str
) -> None:
    name, content = FILES[kind]
    path = tmp_path / name
    checked = kind in ("zip", "full")  # by checksums, which the other formats lack

    def check(data: bytes) -> None:
        path.write_bytes(data)
        found = read(path)
        assert not (found and checked) or same(found, TEACHER)

    search(check, changed(content), 20)


WORDS = [
    "head.weight",
    "module.cls_token",
    "teacher",
    "student",
    "state_dict",
    "model_ema",
    "heads",
    "step",
    "method",
]
KEYS = [*TEACHER, *WORDS]
SIDES = st.lists(st.sampled_from([0, 1, 2, 3, 8, 17, 64, 192]), max_size=5)
KINDS = (torch.float32, torch.float16, torch.bfloat16, torch.int8, torch.bool, torch.complex64)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    shape = draw(SIDES.filter(lambda sides: torch.Size(sides).numel() < 1 << 16))
    tensor = torch.zeros(shape, dtype=draw(st.sampled_from(KINDS)))
    return tensor.transpose(0, -1) if shape and draw(st.booleans()) else tensor


contents = st.dictionaries(
    st.sampled_from(KEYS) | st.text(max_size=5) | st.integers(), tensors() | values, max_size=4
)


def test_whatever_a_file_holds_is_a_network_or_one_line(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"

    def check(drawn: tuple[dict[Any, Any], set[str], str, str]) -> None:
        changes, left_out, prefix, network = drawn
        state = {name: value for name, value in TEACHER.items() if name not in left_out} | changes
        content = {f"{prefix}{name}" if prefix else name: state[name] for name in state}
        path.write_bytes(packed(content if not network else {network: content}))
        found = read(path, network)
        assert not found or all(tensor.is_floating_point() for tensor in found.values())
        assert not found or changes or left_out or same(found, TEACHER)

    left_out = st.sets(st.sampled_from(list(TEACHER)), max_size=2)
    prefixes = st.sampled_from(["", "module.", "backbone.", "encoder.", "x."])
    networks = st.sampled_from(["", "teacher", "student", "state_dict"])
    search(check, st.tuples(contents, left_out, prefixes, networks), 30)
