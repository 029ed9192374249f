"""Files that are made to hurt: one line each, and no more memory or time than the file is worth."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from repro.errors import UserError
from repro.evals.weights.networks import load_weights
from tests.evals.weights.test_layouts import TEACHER, saved

with warnings.catch_warnings(action="ignore"):
    QUANTISED = torch.quantize_per_tensor(torch.zeros(64, 3, 8, 8), 0.1, 0, torch.qint8)
CHANGES: dict[str, tuple[dict[Any, Any], str]] = {
    "scalar class token": ({"cls_token": torch.tensor(1.0)}, "cls_token is [], of no ViT"),
    "flat positions": ({"pos_embed": torch.zeros(17)}, "pos_embed is [17], of no ViT"),
    "no positions": ({"pos_embed": torch.zeros(1, 0, 64)}, "-1 positions"),
    "patches of nothing": ({"patch_embed.proj.weight": torch.zeros(64, 3, 0, 0)}, "patches of 0"),
    "a number for a name": ({7: torch.zeros(1)}, "has the key 7"),
    "sparse": ({"norm.weight": torch.ones(64).to_sparse()}, "'norm.weight' is sparse"),
    "quantised": ({"patch_embed.proj.weight": QUANTISED}, "is quantised"),
    "complex": ({"norm.weight": torch.ones(64, dtype=torch.complex64)}, "is of complex64"),
    "integers": ({"norm.weight": torch.ones(64, dtype=torch.int64)}, "is of int64"),
    "without values": ({"norm.weight": torch.ones(64, device="meta")}, "has no values"),
    "a giant of one number": (
        {"cls_token": torch.zeros(1).expand(1, 1, 1 << 40)}, "repeats few numbers",
    ),
    "a wide network of few tensors": ({"cls_token": torch.zeros(1, 1, 1 << 20)}, "another shape"),
    "ten thousand blocks": (
        {f"blocks.{n}.norm1.weight": torch.ones(64) for n in range(10_000)}, "10,000 blocks",
    ),
    "a name of two lines": ({"norm\x85weight": torch.ones(64)}, r"has the key 'norm\x85weight'"),
    "zero for a name": ({0: torch.ones(64)}, "has the key 0"),
    "a network that is a number": (
        {"teacher": 5, "student": 5, "step": 1, "method": "dino", "x": None}, "'teacher' is a int",
    ),
    "an odd name within": ({"model": {"a\nb": torch.ones(1)}}, r"has the key 'a\nb'"),
    "a list": ({"norm.weight": [1.0]}, "'norm.weight' is a list"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_no_network_is_one_line(tmp_path: Path, name: str) -> None:
    changes, words = CHANGES[name]
    path = saved(tmp_path, TEACHER | changes)
    with pytest.raises(UserError) as caught:
        load_weights(path)
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_heads_that_are_no_number_say_nothing(tmp_path: Path) -> None:
    found = load_weights(saved(tmp_path, TEACHER | {"heads": torch.zeros(0)}))
    assert found.model.heads == 1


def test_a_network_without_blocks_is_none(tmp_path: Path) -> None:
    state = {name: value for name, value in TEACHER.items() if not name.startswith("blocks.")}
    with pytest.raises(UserError, match="0 blocks"):
        load_weights(saved(tmp_path, state))


def test_a_small_file_that_unpacks_to_gigabytes_is_refused_before_it_is_unpacked(
    tmp_path: Path,
) -> None:
    path = saved(tmp_path, TEACHER)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("archive/data/99", bytes(64 << 20))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(UserError, match="unpack to"):
        load_weights(path)


def test_a_pointer_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    """Reported as mahmoodlab/HIPT#36, which reads `invalid load key, 'v'`."""
    path = tmp_path / "vit.pth"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n")
    with pytest.raises(UserError, match=r"vit\.pth: a pointer of Git LFS"):
        load_weights(path)


KEYS = [*TEACHER, "head.weight", "module.cls_token", "teacher", "state_dict", "heads", "step"]
SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 8, 17, 64, 192]), max_size=4)


def drawn_tensors(shape: list[int], kind: torch.dtype) -> Tensor:
    return torch.zeros(shape, dtype=kind)


VALUES = st.one_of(
    st.builds(
        drawn_tensors,
        SHAPES.filter(lambda sides: torch.Size(sides).numel() < 1 << 18),
        st.sampled_from([torch.float32, torch.float16, torch.int8, torch.bool, torch.complex64]),
    ),
    st.none(),
    st.integers(),
    st.text(max_size=3),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    changes=st.dictionaries(st.one_of(st.sampled_from(KEYS), st.integers()), VALUES, max_size=4),
    left_out=st.sets(st.sampled_from(list(TEACHER)), max_size=2),
    network=st.sampled_from(["", "teacher", "student"]),
)
def test_any_dictionary_is_a_network_or_one_line(
    tmp_path: Path, changes: dict[Any, Any], left_out: set[str], network: str
) -> None:
    content = {k: v for k, v in TEACHER.items() if k not in left_out} | changes
    path, said = saved(tmp_path, content), ""
    try:
        assert load_weights(path, network).model.depth == 2
    except UserError as error:
        said = str(error)
    assert "\n" not in said


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.floats(0, 1, exclude_max=True), level=st.integers(0, 255), cut=st.booleans())
def test_a_torn_or_changed_file_is_a_network_or_one_line(
    tmp_path: Path, place: float, level: int, cut: bool
) -> None:
    path = saved(tmp_path, {"teacher": {"norm.weight": torch.ones(2)}, "x": list(range(20))})
    content = bytearray(path.read_bytes())
    at = int(place * len(content))
    if cut:
        del content[at:]
    else:
        content[at] = level
    path.write_bytes(bytes(content))
    with pytest.raises(UserError) as caught:
        load_weights(path)
    assert "\n" not in str(caught.value)
