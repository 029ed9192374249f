"""Files that are no pictures, or that would never end, are one line."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from repro.data.disk.decoder import UnreadableError, decoding, is_picture, open_image, printable
from repro.data.disk.levels import to_rgb
from repro.data.pictures import open_picture
from repro.errors import UserError
from tests.data.fuzz import answer, examples

KINDS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "AVIF", "JPEG2000", "TGA", "QOI")


def bomb(path: Path, side: int = 14_000) -> Path:
    """A PNG of 196 megapixels in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def test_a_decompression_bomb_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"bomb\.png: unreadable picture .*DecompressionBomb"):
        open_picture(bomb(tmp_path / "bomb.png"))


def test_a_pipe_and_a_device_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "endless.jpg").symlink_to("/dev/zero")
    (tmp_path / "folder.jpg").mkdir()
    for name in ("pipe", "endless", "folder"):
        with pytest.raises(UserError, match=rf"{name}\.jpg: unreadable picture .*no regular file"):
            open_picture(tmp_path / f"{name}.jpg")


def test_a_name_that_is_no_utf8_can_be_printed(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    path.write_bytes(b"torn")
    with pytest.raises(UserError, match=r"caf.xe9\.png") as raised:
        open_picture(path)
    str(raised.value).encode()
    assert printable("plain Ä.png") == "plain Ä.png"


@pytest.mark.parametrize("ending", ["gif", "jfif", "jpe", "avif", "jp2", "JPG", "tga", "qoi"])
def test_every_ending_that_counts_as_a_picture_is_read(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"picture.{ending}"
    kind = {"jfif": "JPEG", "jpe": "JPEG"}.get(ending)
    Image.new("RGB", (16, 8), (200, 10, 10)).save(path, kind)
    assert is_picture(path.name)
    assert open_picture(path).shape == (3, 8, 16)


def test_what_tools_leave_is_no_picture() -> None:
    for name in ("._1.jpg", ".DS_Store", "notes.txt", "jpg", ".jpg"):
        assert not is_picture(name)


def small(kind: str) -> bytes:
    """A small picture with an orientation tag, as a file of this kind."""
    file, image = io.BytesIO(), Image.effect_noise((24, 20), 60).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    tagged = {"exif": exif} if kind in ("JPEG", "PNG", "WEBP") else {}
    image.save(file, kind, **tagged)
    return file.getvalue()


SMALL = {kind: small(kind) for kind in KINDS}


@settings(max_examples=examples(150), deadline=None)
@given(data=st.data(), kind=st.sampled_from(KINDS))
def test_torn_and_flipped_files_are_pictures_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, kind: str
) -> None:
    content = bytearray(SMALL[kind])
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = (
        content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    )
    path = tmp_path_factory.getbasetemp() / f"torn-{os.getpid()}.{kind.lower()}"
    path.write_bytes(content)
    picture = answer(lambda: open_picture(path))
    assert path.name in picture if isinstance(picture, str) else picture.shape[0] == 3


def test_a_decoders_mistake_is_named_and_running_out_of_memory_is_not_one(tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes(SMALL["PNG"][:60])
    with pytest.raises(UnreadableError), decoding():
        to_rgb(open_image(tmp_path / "torn.png"))
    with pytest.raises(MemoryError), decoding():
        raise MemoryError
    with pytest.raises(pickle.PicklingError), decoding():
        raise pickle.PicklingError
