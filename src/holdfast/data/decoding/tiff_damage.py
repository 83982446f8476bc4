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

_COMPRESSION, _FILL_ORDER, _JPEG_TABLES, _BITS = 259, 266, 347, 258
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
    most = image.width * image.height * sum(tags.get(_BITS, (1,))) // 8 + _CHUNK
    for number, (place, length) in enumerate(zip(places, lengths, strict=False)):
        strip = data[place : place + length]
        try:
            if compression == _JPEG:
                _refuse_damaged_jpeg(strip, tags.get(_JPEG_TABLES, b""))
            else:
                _refuse_damaged_zlib(strip, most)
        except (ValueError, zlib.error) as error:
            raise ValueError(f"strip or tile {number:,}: {error}") from error


def _refuse_damaged_zlib(strip: bytes, most: int) -> None:
    """Args: `most`, bytes that the picture can take; a strip that unpacks to more is not ours to follow."""
    unpacking, packed = zlib.decompressobj(), strip
    while packed and most > 0 and not unpacking.eof:
        most -= len(unpacking.decompress(packed, _CHUNK))
        packed = unpacking.unconsumed_tail
    if most > 0 and not unpacking.eof:
        raise ValueError("its deflated data end too early")


def _refuse_damaged_jpeg(strip: bytes, tables: bytes) -> None:
    """Args: `tables`, what all strips share: a JPEG of its own that has no pixels."""
    whole = tables[:-2] + strip[2:] if tables else strip
    marks = read_marks(whole)
    if marks is None:
        raise ValueError("it is no JPEG, or its segments do not follow one another")
    refuse_damage(whole, marks)
