"""A PNG's chunks: whole, in order, each with its checksum; and what its header says.

Decoders differ in which damage they mention. This walk decides it once, for both, before either sees the file.

Source: PNG specification (third edition), sections 5 and 11.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from holdfast.data.decoding.image_kinds import UnsupportedKind

_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}  # bits, by colour type
# Chunks that change what must be done: transparency, orientation, or compressed text whose size only Pillow bounds.
_OUT_OF_THE_ORDINARY = frozenset([b"tRNS", b"eXIf", b"zTXt", b"iTXt", b"iCCP", b"acTL", b"CgBI", b"profile"])
_NEEDED = frozenset([b"IHDR", b"PLTE", b"IDAT", b"IEND"])  # the critical chunks: no picture without understanding them
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
    place, transparent, last = 8, b"", b""
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
            raise ValueError(f"its first chunk is {_shown(name)} of {length:,} bytes, not IHDR of 13")
        _refuse_misplaced(name, length, names, last)
        last = name
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
    width, height, bits, colour_type, compression, filtering, interlace = struct.unpack_from(">IIBBBBB", data, 16)
    if not width or not height:
        raise ValueError(f"its header states {width} × {height} pixels")
    if bits not in _DEPTHS.get(colour_type, ()) or compression or filtering or interlace > 1:
        raise ValueError(
            f"its header states colour type {colour_type} of {bits} bits, compression {compression}, filter "
            f"{filtering} and interlacing {interlace}, which PNG does not have"
        )
    if colour_type == 3 and b"PLTE" not in names:
        raise ValueError("its pixels are numbers of a palette, and it has none (PLTE)")
    return PngHeader(width, height, bits, colour_type, frozenset(names), transparent)


def _refuse_misplaced(name: bytes, length: int, before: set[bytes], last: bytes) -> None:
    """Raises ValueError for chunks on whose place or name decoders differ. Args: `before`, `last`: chunks before it."""
    if not (name.isalpha() and name.isascii()):
        raise ValueError(f"a chunk is named {name!r}, which is no name")
    if name[:1].isupper() and name not in _NEEDED | {b"CgBI"}:
        raise ValueError(f"chunk {_shown(name)} is marked as needed for its pixels, and PNG knows none of that name")
    if name in (b"IHDR", b"PLTE") and name in before:
        raise ValueError(f"chunk {_shown(name)} is there twice")
    if name == b"IDAT" and last != b"IDAT" and b"IDAT" in before:
        raise ValueError(f"its pixels (IDAT) are interrupted by chunk {_shown(last)}")
    if name == b"PLTE" and (b"IDAT" in before or length % 3 or not 3 <= length <= 768):
        raise ValueError(f"its palette has {length:,} bytes, or comes after its pixels")


def only(data: bytes, names: frozenset[bytes]) -> bytes:
    """Returns the PNG without chunks of other names. Decoders print or raise what they find wrong with idle ones."""
    parts, place = [data[:8]], 8
    while place < len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        name = data[place + 4 : place + 8]
        if name in names and (name != b"tEXt" or data.startswith(_PROFILE, place + 8)):
            parts.append(data[place:end])
        if name == b"IEND":
            break
        place = end
    return b"".join(parts)


def refuse_missing_rows(data: bytes, header: PngHeader) -> None:
    """Raises ValueError when the pixels unpack to fewer rows than the header states, or end without their checksum.

    Pillow would leave the rows black, and takes pixels without the checksum.
    """
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(header.colour_type, 1)
    passes = _ADAM7 if data[28] else ((0, 0, 1, 1),)
    missing = 0
    for left, top, across, down in passes:
        width, height = -(-(header.width - left) // across), -(-(header.height - top) // down)
        if width > 0 and height > 0:
            missing += height * (1 + (width * samples * header.bits + 7) // 8)
    unpacking, place = zlib.decompressobj(), 8
    while missing >= 0 and not unpacking.eof and place < len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        packed = data[place + 8 : place + 8 + length] if data[place + 4 : place + 8] == b"IDAT" else b""
        while packed and missing >= 0:
            missing -= len(unpacking.decompress(packed, 1 << 20))
            packed = unpacking.unconsumed_tail
        place += 12 + length
    if missing > 0:
        raise ValueError(f"its pixels end {missing:,} bytes too early")
    if missing == 0 and not unpacking.eof:
        raise ValueError("its pixels end without their checksum")


PIXELS = frozenset([b"IHDR", b"IDAT", b"IEND"])  # all that an ordinary one needs
# Also what tells how to show them; of animations the still picture, as in a viewer that knows none.
SHOWN = PIXELS | {b"PLTE", b"tRNS", b"eXIf", b"tEXt", b"zTXt", b"iTXt", b"iCCP"}

# Where each pass of an interlaced PNG begins and how far it steps: left, top, across, down (section 8.2).
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def _shown(name: bytes) -> str:
    return name.decode("ascii") if name.isalpha() and name.isascii() else repr(name)
