"""A PNG's chunks: whole, in order, each with its checksum; and what its header says.

Decoders differ in which damage they mention. This walk decides it once, for both, before either sees the file.

Source: PNG specification (third edition), sections 5 and 11.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from holdfast.data.decoding.image_kinds import UnsupportedKind

# Chunks that change what must be done: transparency, orientation, or compressed text whose size only Pillow bounds.
_OUT_OF_THE_ORDINARY = frozenset([b"tRNS", b"eXIf", b"zTXt", b"iTXt", b"iCCP", b"acTL", b"CgBI", b"profile"])
_PROFILE = b"Raw profile type"  # how ImageMagick keeps EXIF in plain text; other plain text changes nothing


@dataclass(frozen=True, slots=True)
class PngHeader:
    """Width and height in pixels, bits a sample, the colour type, the names of all chunks, and tRNS's contents."""

    width: int
    height: int
    bits: int
    colour_type: int
    names: frozenset[bytes]
    transparent: bytes

    @property
    def is_ordinary(self) -> bool:
        """8-bit grey or RGB, opaque, upright: what every decoder reads alike."""
        return self.bits == 8 and self.colour_type in (0, 2) and not self.names & _OUT_OF_THE_ORDINARY


def read_header(data: bytes) -> PngHeader:
    """Returns the header after a walk over all chunks.

    Raises:
        ValueError: a chunk is cut, its checksum is wrong, or one is missing that every PNG has.
    """
    view = memoryview(data)
    names: set[bytes] = set()
    place, transparent = 8, b""
    while True:
        if place + 12 > len(data):
            raise ValueError("a PNG without its end chunk: cut short")
        length = int.from_bytes(view[place : place + 4], "big")
        name = data[place + 4 : place + 8]
        end = place + 8 + length
        if end + 4 > len(data):
            raise ValueError(f"chunk {_shown(name)} ends outside the file: cut short")
        if zlib.crc32(view[place + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            raise ValueError(f"the checksum of chunk {_shown(name)} at byte {place:,} is wrong")
        if not names and (name != b"IHDR" or length != 13):
            raise ValueError(f"its first chunk is {_shown(name)}, not IHDR")
        if name == b"tRNS":
            transparent = data[place + 8 : end]
        names.add(b"profile" if name == b"tEXt" and data.startswith(_PROFILE, place + 8) else name)
        place = end + 4
        if name == b"IEND":
            break
    if b"CgBI" in names:
        raise UnsupportedKind("an Xcode-optimised PNG (CgBI), which is not decoded; take the original")
    if b"IDAT" not in names:
        raise ValueError("a PNG without pixels (IDAT)")
    width, height, bits, colour_type = struct.unpack_from(">IIBB", data, 16)
    if not width or not height:
        raise ValueError(f"its header states {width} × {height} pixels")
    return PngHeader(width, height, bits, colour_type, frozenset(names), transparent)


def refuse_missing_rows(data: bytes, header: PngHeader) -> None:
    """Raises ValueError when the pixels unpack to fewer rows than the header states; Pillow would leave them black."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(header.colour_type, 1)
    passes = _ADAM7 if data[28] else ((0, 0, 1, 1),)
    missing = 0
    for left, top, across, down in passes:
        width, height = -(-(header.width - left) // across), -(-(header.height - top) // down)
        if width > 0 and height > 0:
            missing += height * (1 + (width * samples * header.bits + 7) // 8)
    unpacking, place = zlib.decompressobj(), 8
    while missing > 0 and not unpacking.eof and place < len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        packed = data[place + 8 : place + 8 + length] if data[place + 4 : place + 8] == b"IDAT" else b""
        while packed and missing > 0:
            missing -= len(unpacking.decompress(packed, 1 << 20))
            packed = unpacking.unconsumed_tail
        place += 12 + length
    if missing > 0:
        raise ValueError(f"its pixels end {missing:,} bytes too early")


# Where each pass of an interlaced PNG begins and how far it steps: left, top, across, down (section 8.2).
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def _shown(name: bytes) -> str:
    return name.decode("ascii") if name.isalpha() and name.isascii() else repr(name)
