"""Zip files of tensors: what torch's reader would not notice."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest
import torch

from repro.decode.packed import FOLDER, damaged_entry

STATE = {"weight": torch.arange(6.0), "step": 3}
EXTERNAL = 38  # where an entry of the directory has its external attributes


def saved() -> bytes:
    file = io.BytesIO()
    torch.save(STATE, file)
    return file.getvalue()


def read(content: bytes) -> dict[str, Any] | None:
    """What a reader that checks first takes for the state, if anything."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            if damaged_entry(packed):
                return None
        found = torch.load(io.BytesIO(content), weights_only=True)
    except Exception:  # noqa: BLE001  whatever is made of garbage, it is no state
        return None
    assert isinstance(found, dict)
    return found


def directory(content: bytes) -> int:
    return content.index(b"PK\x01\x02")


def test_what_torch_writes_is_whole() -> None:
    found = read(saved())
    assert found is not None
    assert torch.equal(found["weight"], STATE["weight"])


def test_an_entry_that_is_marked_as_a_folder_is_damaged() -> None:
    """Its checksum is right, and torch reads whatever is in memory in its place."""
    content = bytearray(saved())
    entry = content.index(b"data/0", directory(content)) - len("archive/") - 46
    assert content[entry : entry + 4] == b"PK\x01\x02"
    content[entry + EXTERNAL] = FOLDER
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        assert packed.testzip() is None
        assert damaged_entry(packed) == "archive/data/0"


def test_a_damaged_entry_is_named_in_one_line_whatever_its_name() -> None:
    content = saved().replace(b"archive/data/0", b"archive\x1cdata\n0")
    content = content.replace(STATE["weight"].numpy().tobytes(), b"x" * 24)
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        assert damaged_entry(packed) == r"archive\x1cdata\n0"


@pytest.mark.slow
def test_no_flipped_bit_of_its_directory_is_another_state() -> None:
    whole = saved()
    for place in range(directory(whole), len(whole)):
        for bit in range(8):
            content = bytearray(whole)
            content[place] ^= 1 << bit
            found = read(bytes(content))
            if found is not None:
                assert torch.equal(found["weight"], STATE["weight"]), (place, bit)
                assert found["step"] == STATE["step"], (place, bit)
