"""Files of weights, read without running anything that they hold and without believing their sizes.

torch's unpickler knows tensors and plain containers. Checkpoints hold more: the authors' have
numpy's numbers in the optimiser (whose classes have other names under numpy 1 and 2), their command
line, and paths in it. None of that is needed, so all such names stand for one inert object; any
other name ends the reading. A tensor must be plain: dense floats, as many as its bytes.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from repro.decode.packed import damaged_entry
from repro.errors import UserError

HEADS = "heads"  # under which our files say how many
SHOWN = 3  # keys that an error names
# torch stores tensors as they are; whoever packed its file anew gained a little.
LARGEST_RATIO, SMALL = 8, 1 << 20
POINTER = b"version https://git-lfs"
COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # of torch's messages
NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")
NUMBERS = ("bool", "int32", "int64", "uint8", "float16", "float32", "float64")
IGNORED = (
    *("argparse.Namespace", "_codecs.encode", "numpy.dtype", "numpy.ndarray"),
    *(f"{module}.{name}" for module in NUMPY for name in ("scalar", "_reconstruct")),
    *(f"numpy.{name}" for name in NUMBERS),
    *(f"numpy.dtypes.{name.capitalize()}DType" for name in NUMBERS),
    *(
        f"{module}.{system}Path"
        for module in ("pathlib", "pathlib._local")
        for system in ("Posix", "Windows", "PurePosix", "PureWindows", "")
    ),
)


class Ignored:
    """What of a checkpoint is not read."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The dictionary that a file holds.

    Raises:
        UserError: no file, no checkpoint, or one that holds what is not weights.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    with path.open("rb") as file:
        if file.read(len(POINTER)) == POINTER:
            raise UserError(f"{path}: a pointer of Git LFS, not the file itself; git lfs pull")
    try:
        if path.suffix == ".safetensors":
            content: Any = _read_safetensors(path)
        else:
            _check_packed(path)
            inert = torch.serialization.safe_globals([(Ignored, name) for name in IGNORED])
            with inert, warnings.catch_warnings(action="ignore"):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except UnpicklingError as error:
        raise UserError(
            f"{path}: not read, it holds more than weights ({_unknown_name(error)})"
        ) from None
    except Exception as error:  # noqa: BLE001 - whatever safetensors or zip make of garbage
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"{path}: not a checkpoint ({reason})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}, not a dictionary of weights")
    check_names(content, path)
    return content


def check_names(content: Mapping[Any, Any], path: Path) -> None:
    """Raises: UserError: a key that is no word, which no message could show in one line."""
    for key in content:
        if not (isinstance(key, str) and key.isprintable()):
            raise UserError(f"{path}: has the key {key!r:.40}, which is no name of a weight")


def tensors(state: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The tensors of a network, each of dense floats, which lie in the file.

    Raises:
        UserError: any other value.
    """
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor):
            what = "numpy's" if isinstance(tensor, Ignored) else f"a {type(tensor).__name__}"
            raise UserError(f"{path}: '{name}' is {what}, not a tensor")
        if why := _not_plain(tensor, name):
            raise UserError(f"{path}: '{name}' {why}; weights are dense floats")
    return {name: tensor.detach() for name, tensor in state.items()}


def first_line(error: Exception) -> str:
    text = COLOURS.sub("", str(error)).strip()
    return (text.splitlines() or [type(error).__name__])[0]


def some(names: Any) -> str:
    listed = list(names)
    return ", ".join(listed[:SHOWN]) + (", ..." if len(listed) > SHOWN else "") or "nothing"


def _read_safetensors(path: Path) -> dict[str, Any]:
    """The tensors, and the heads that an export of ours names in its header."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        content: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        heads = (file.metadata() or {}).get(HEADS, "")
    return {**content, HEADS: int(heads)} if heads.isdecimal() else content


def _check_packed(path: Path) -> None:
    """A file of kilobytes may declare gigabytes, which torch would unpack before it looks."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as packed:
        declared = sum(entry.file_size for entry in packed.infolist())
        size = path.stat().st_size
        if declared > LARGEST_RATIO * size + SMALL:
            raise UserError(f"{path}: not read, its {size:,} bytes unpack to {declared:,}")
        if damaged := damaged_entry(packed):
            raise UserError(f"{path}: damaged: {damaged} is not what was written, by its checksum")


def _not_plain(tensor: Tensor, name: str) -> str:
    if tensor.layout is not torch.strided or tensor.is_quantized:
        return "is quantised" if tensor.is_quantized else "is sparse"
    if tensor.device.type != "cpu":
        return "has no values"
    if name.endswith("num_batches_tracked"):
        return ""  # of a batch norm, a whole number
    if not tensor.is_floating_point():
        return f"is of {str(tensor.dtype).removeprefix('torch.')}"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return f"repeats few numbers as {list(tensor.shape)}"
    return ""


def _unknown_name(error: Exception) -> str:
    """Of torch's advice, which is not for our users, the name that it found."""
    found = re.search(r"GLOBAL (\S+)", COLOURS.sub("", str(error)))
    return found[1] if found else first_line(error)
