"""Damage to a TIFF that its readers pass over: tags cut off, strips whose checksum is gone, JPEGs with made-up rows.

Pillow leaves out a tag that it cannot read, and all that follow. libtiff unpacks a deflated strip only as far as its
rows go, short of the checksum behind them, and only warns of a damaged JPEG within, where nobody hears it.

Source: TIFF 6.0, sections 2 and 22; Adobe's TIFF Technical Note 2 (JPEG); BigTIFF.
"""

from __future__ import annotations

import struct
import zlib

from PIL import Image

from holdfast.data.decoding.jpeg_marks import read_marks
from holdfast.data.decoding.jpeg_pixels import refuse_damage

_BITS, _COMPRESSION, _FILL_ORDER, _ROWS, _PLANAR, _JPEG_TABLES = 258, 259, 266, 278, 284, 347
_TILE_WIDTH, _TILE_LENGTH = 322, 323
_APART = 2  # of PlanarConfiguration: a strip holds one colour
_SMALLEST = 1 << 10  # rows of a tile that may be more than the picture's
_STRIPS, _TILES = (273, 279), (324, 325)
_DEFLATED, _JPEG = (8, 32946), 7
_LAST_OF_PIXELS = 532  # tags above it are EXIF, colour profiles and their like
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_CHUNK = 1 << 20  # bytes unpacked at a time


def refuse_cut_tags(data: bytes) -> None:
    """Raises ValueError where a tag of the first page that bears on its pixels, or its value, lies outside the file."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    start_form, number_form, entry_form, place_form = ("Q", "Q", "HHQ", "Q") if big else ("I", "H", "HHI", "I")
    inline, entry_bytes = (8, 20) if big else (4, 12)
    try:
        (start,) = struct.unpack_from(order + start_form, data, 8 if big else 4)
        (number,) = struct.unpack_from(order + number_form, data, start)
        first = start + struct.calcsize(order + number_form)
        for entry in range(first, first + number * entry_bytes, entry_bytes):
            tag, kind, count = struct.unpack_from(order + entry_form, data, entry)
            (place,) = struct.unpack_from(order + place_form, data, entry + entry_bytes - inline)
            size = count * _SIZES.get(kind, 0)
            if tag <= _LAST_OF_PIXELS and size > inline and place + size > len(data):
                raise ValueError(f"{size:,} bytes of its tag {tag} lie at byte {place:,} of {len(data):,}")
    except struct.error as error:
        raise ValueError("its tags end outside the file") from error


def refuse_damaged_strips(image: Image.Image, data: bytes) -> None:
    """Raises ValueError where a strip or tile, deflated or a JPEG, is not whole.

    Args:
        image: a TIFF, opened; its strips lie within `data`, as `refuse_wrong_tags` has made sure.
        data: the file.
    """
    tags = getattr(image, "tag_v2", {})
    compression = tags.get(_COMPRESSION, 1)
    if tags.get(_FILL_ORDER, 1) != 1 or compression not in (*_DEFLATED, _JPEG):
        return
    places, lengths = next(((tags[p], tags.get(n, ())) for p, n in (_STRIPS, _TILES) if p in tags), ((), ()))
    number, room = _needed(image)
    for k, (place, length) in enumerate(zip(places[:number], lengths[:number], strict=False)):
        strip = data[place : place + length]
        try:
            if compression == _JPEG:
                _refuse_damaged_jpeg(strip, tags.get(_JPEG_TABLES, b""))
            else:
                _refuse_damaged_zlib(strip, room)
        except (ValueError, zlib.error) as error:
            raise ValueError(f"strip or tile {k:,}: {error}") from error


def _needed(image: Image.Image) -> tuple[int, int]:
    """Returns how many strips or tiles the picture takes, and the bytes of each. A file may name more, and larger ones.

    Many strips that lie at one place and unpack to far more than a strip would keep us busy for days.
    """
    tags = getattr(image, "tag_v2", {})
    across, down = tags.get(_TILE_WIDTH), tags.get(_TILE_LENGTH)
    if across is None or down is None:
        across, down = image.width, tags.get(_ROWS, image.height)
    across, down = max(across, 1), max(min(down, max(image.height, _SMALLEST)), 1)
    bits = tags.get(_BITS, (1,))
    planes = len(bits) if tags.get(_PLANAR, 1) == _APART else 1
    return -(-image.width // across) * -(-image.height // down) * planes, (across * sum(bits) + 7) // 8 * down


def _refuse_damaged_zlib(strip: bytes, room: int) -> None:
    """Args: `room`, bytes that a strip takes; one that unpacks to more is not ours to follow."""
    unpacking, packed = zlib.decompressobj(), strip
    while packed and room >= 0 and not unpacking.eof:
        room -= len(unpacking.decompress(packed, min(_CHUNK, room + 1)))
        packed = unpacking.unconsumed_tail
    if room >= 0 and not unpacking.eof:
        raise ValueError("its deflated data end too early")


def _refuse_damaged_jpeg(strip: bytes, tables: bytes) -> None:
    """Args: `tables`, what all strips share: a JPEG of its own that has no pixels."""
    whole = tables[:-2] + strip[2:] if tables else strip
    marks = read_marks(whole)
    if marks is None:
        raise ValueError("it is no JPEG, or its segments do not follow one another")
    refuse_damage(whole, marks)
