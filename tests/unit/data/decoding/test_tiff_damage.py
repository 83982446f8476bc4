"""Damage to a TIFF that its readers pass over: whole ones pass, each kind of damage is told."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from holdfast.data.decoding.tiff_damage import refuse_cut_tags, refuse_damaged_strips


def _tiff(compression: str | None = None, *, big: bool = False, rows: int = 16) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    stream = io.BytesIO()
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[278] = rows
    Image.fromarray(pixels).save(stream, "TIFF", compression=compression, big_tiff=big, tiffinfo=tags)
    return stream.getvalue()


def _refuse(data: bytes) -> None:
    with Image.open(io.BytesIO(data)) as image:
        refuse_damaged_strips(image, data)


def _strip(data: bytes, number: int) -> tuple[int, int]:
    with Image.open(io.BytesIO(data)) as image:
        tags = image.tag_v2  # type: ignore[attr-defined]  # a TIFF has them
        return tags[273][number], tags[279][number]


@pytest.mark.parametrize("big", [False, True])
def test_tags_within_the_file_pass_and_cut_ones_do_not(big: bool) -> None:
    """Where the tags or their values lie last, each byte less of them is told."""
    order, data = "<", _tiff(big=big)
    (start,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", data, 8 if big else 4)
    moved = bytearray(data + data[start:])  # the tags once more, at the file's end
    struct.pack_into(f"{order}{'Q' if big else 'I'}", moved, 8 if big else 4, len(data))
    (number,) = struct.unpack_from(f"{order}{'Q' if big else 'H'}", moved, len(data))
    end = len(data) + (8 + 20 * number if big else 2 + 12 * number)
    refuse_cut_tags(data)
    refuse_cut_tags(bytes(moved[:end]))
    for less in range(1, end - len(data) + 1):
        with pytest.raises(ValueError, match="tags end outside the file"):
            refuse_cut_tags(bytes(moved[: end - less]))


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "jpeg", "packbits"])
def test_whole_strips_pass(compression: str | None) -> None:
    """However its strips are compressed, a TIFF as it was written is whole."""
    data = _tiff(compression)
    refuse_cut_tags(data)
    _refuse(data)


@pytest.mark.parametrize("number", [0, 3])
def test_a_deflated_strip_without_its_right_checksum_is_told(number: int) -> None:
    """libtiff never reads so far; any strip may be the one."""
    data = bytearray(_tiff("tiff_adobe_deflate"))
    place, length = _strip(bytes(data), number)
    assert zlib.decompress(data[place : place + length])
    data[place + length - 1] ^= 1
    with pytest.raises(ValueError, match=f"strip or tile {number}: .*incorrect data check"):
        _refuse(bytes(data))


def test_deflated_data_that_stop_early_are_told() -> None:
    """A strip whose last bytes are missing unpacks to all its rows, and is cut all the same."""
    data = bytearray(_tiff("tiff_adobe_deflate", rows=64))
    place, length = _strip(bytes(data), 0)
    counts = data.find(struct.pack("<HHII", 279, 4, 1, length))
    assert counts >= 0
    struct.pack_into("<I", data, counts + 8, length - 3)
    assert place > 0
    with pytest.raises(ValueError, match="strip or tile 0: its deflated data end too early"):
        _refuse(bytes(data))


@pytest.mark.parametrize("number", [0, 3])
def test_a_jpeg_strip_with_made_up_rows_is_told(number: int) -> None:
    """libjpeg fills them in and warns, and libtiff keeps the warning to itself."""
    data = bytearray(_tiff("jpeg"))
    place, length = _strip(bytes(data), number)
    middle = place + length // 2
    data[middle : middle + 100] = bytes(100)
    with pytest.raises(ValueError, match=f"strip or tile {number}: .*made up"):
        _refuse(bytes(data))
    data[place : place + 40] = bytes(40)
    with pytest.raises(ValueError, match=f"strip or tile {number}: it is no JPEG"):
        _refuse(bytes(data))


def test_no_strip_is_followed_further_than_its_rows() -> None:
    """Strips by the thousand that lie at one place and unpack to gigabytes would keep us busy for days."""
    pixels = np.zeros((64, 48, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "TIFF", compression="tiff_adobe_deflate")
    data = stream.getvalue()
    place, length = _strip(data, 0)
    longer = zlib.compress(pixels.tobytes() + bytes(1 << 20))[:-1] + b"?"  # a wrong checksum far behind its rows
    moved = data + longer
    moved = moved.replace(struct.pack("<HHII", 279, 4, 1, length), struct.pack("<HHII", 279, 4, 1, len(longer)))
    moved = moved.replace(struct.pack("<HHII", 273, 4, 1, place), struct.pack("<HHII", 273, 4, 1, len(data)))
    assert _strip(moved, 0) == (len(data), len(longer))
    _refuse(moved)
