"""A PNG's chunks: whole, in order, each with its checksum; and what its header says.

Decoders differ in which damage they mention. This walk decides it once, for both, before either sees the file.

Source: PNG specification (third edition), sections 5 and 11.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

# Chunks that change what must be done: transparency, orientation, or compressed text whose size only Pillow bounds.
_OUT_OF_THE_ORDINARY = frozenset([b"tRNS", b"eXIf", b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"acTL", b"CgBI"])


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
    place, names, transparent = 8, set(), b""
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
        names.add(name)
        place = end + 4
        if name == b"IEND":
            break
    if b"CgBI" in names:
        raise ValueError("an Xcode-optimised PNG (CgBI), which is not decoded; take the original")
    if b"IDAT" not in names:
        raise ValueError("a PNG without pixels (IDAT)")
    width, height, bits, colour_type = struct.unpack_from(">IIBB", data, 16)
    if not width or not height:
        raise ValueError(f"its header states {width} × {height} pixels")
    return PngHeader(width, height, bits, colour_type, frozenset(names), transparent)


def _shown(name: bytes) -> str:
    return name.decode("ascii") if name.isalpha() and name.isascii() else repr(name)
