"""One picture from a file, or one line that says why not.

The decoder is asked for nothing but regular files: a pipe would never end, nor would a device. What
it raises on torn files and on decompression bombs is one kind of error, named by whoever asked.
"""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, UnidentifiedImageError

DECODER_ERRORS = (
    UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError,
    EOFError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, AssertionError,
    struct.error, zlib.error,
)  # fmt: skip
BUFFER = re.compile(r"<_io\.BytesIO[^>]*>")  # what PIL calls a file that has been read already
ENDINGS = (  # of pictures that the decoder reads; small letters
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".dib", ".webp", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".gif", ".avif", ".jp2", ".j2k", ".jpx", ".jpf", ".jpc",
    ".tga", ".qoi",
)  # fmt: skip


class UnreadableError(Exception):
    """An image file cannot be decoded; the text is the decoder's."""


@contextmanager
def decoding() -> Iterator[None]:
    """Around the opening and decoding of an image alone: no other mistake must pass for one."""
    try:
        yield
    except DECODER_ERRORS as error:
        reason = " ".join(BUFFER.sub("", str(error)).split())[:120]
        raise UnreadableError(f"{type(error).__name__}: {printable(reason)}") from error


def open_image(path: str | os.PathLike[str]) -> Image.Image:
    """The image of a file, whose pixels are still undecoded; within `decoding()`."""
    return Image.open(io.BytesIO(read_regular(path)))


def read_regular(path: str | os.PathLike[str]) -> bytes:
    """Raises: OSError, also for what is no regular file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # opening a pipe would wait
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("no regular file, but a folder, a pipe or a device")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def is_picture(name: str) -> bool:
    """By its ending; what begins with a dot is a tool's."""
    return not is_hidden(name) and name.lower().endswith(ENDINGS)


def is_hidden(name: str) -> bool:
    """Whether a file or folder is a tool's, not a person's: .ipynb_checkpoints, ._1.jpg, @eaDir."""
    return name.startswith(".") or name in ("__MACOSX", "@eaDir")


def printable(name: str | os.PathLike[str]) -> str:
    """A name with bytes that are no UTF-8 as every stream takes it."""
    return os.fspath(name).encode(errors="surrogateescape").decode(errors="backslashreplace")
