"""What a JPEG's markers tell before its first scan: its size, its kind and which way is up.

A walk over a dozen segments, so that the common picture needs no second library to look at its header. Whatever is
out of the ordinary is left open (None), and Pillow is asked.

Source: ITU-T T.81, annex B; JEITA CP-3451 (EXIF), section 4.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

_ALONE = frozenset([0x01, *range(0xD0, 0xD8)])  # markers without a length
_FRAMES = frozenset([0xF7, 0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF])
_ORIENTATION = 0x0112
XMP_ORIENTATION = re.compile(rb"""tiff:Orientation\s*(?:=\s*["']|>\s*)([0-9])(?![0-9])""")
_XMP = b"http://ns.adobe.com/xap/1.0/\0"


@dataclass(frozen=True, slots=True)
class JpegMarks:
    """A JPEG's frame header and orientation.

    Attributes:
        frame: the frame's marker; 0xC0 to 0xC2 are Huffman coded, baseline to progressive.
        orientation: 1 to 8, or None where only a full reader of EXIF can tell.
        scan: where the first scan begins; thumbnails with end markers of their own lie before it.
    """

    width: int
    height: int
    components: int
    precision: int
    frame: int
    orientation: int | None
    scan: int

    @property
    def is_ordinary(self) -> bool:
        """8-bit grey or three colours, Huffman coded: what every decoder reads alike."""
        return self.precision == 8 and self.components in (1, 3) and self.frame in (0xC0, 0xC1, 0xC2)


def read_marks(data: bytes) -> JpegMarks | None:
    """Returns what stands before the first scan of a JPEG, or None where the segments do not follow one another."""
    place, end = 2, len(data)
    frame: tuple[int, int, int, int, int] | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    several = False
    while place + 4 <= end:
        if data[place] != 0xFF:
            return None
        mark = data[place + 1]
        if mark == 0xFF:
            place += 1
            continue
        if mark in _ALONE:
            place += 2
            continue
        if mark == 0xDA:
            if frame is None:
                return None
            return JpegMarks(*frame, None if several else _orientation(exif, xmp), place)
        length = data[place + 2] << 8 | data[place + 3]
        if length < 2 or mark in (0xD8, 0xD9):
            return None
        if mark in _FRAMES:
            if length < 8 or place + 10 > end or frame is not None:
                return None
            precision, height, width, components = struct.unpack_from(">BHHB", data, place + 4)
            frame = (width, height, components, precision, mark)
        elif mark == 0xE1:
            body = data[place + 4 : place + 2 + length]
            if body.startswith(b"Exif\0"):
                several, exif = several or exif is not None, body
            elif body.startswith(_XMP):
                several, xmp = several or xmp is not None, body
        place += 2 + length
    return None


def without_strays(data: bytes) -> bytes:
    """Returns the JPEG without bytes that stand between two of its segments, which viewers pass over in silence."""
    parts, place = [data[:2]], 2
    while place + 4 <= len(data):
        mark = data.find(b"\xff", place)
        if mark < 0 or mark + 4 > len(data):
            break
        kind = data[mark + 1]
        if kind == 0xDA:
            return b"".join([*parts, data[mark:]])
        if kind in (0, 0xFF) or kind in _ALONE:
            place = mark + 1
            continue
        place = mark + 2 + int.from_bytes(data[mark + 2 : mark + 4], "big")
        parts.append(data[mark:place])
    return data


def without_remarks(data: bytes) -> bytes:
    """Returns the JPEG with nothing in its header that libjpeg only remarks upon, so that it tells of damage alone.

    Parts of a colour profile are taken out; a version of JFIF and a transform of Adobe's that it does not know become
    those that it assumes instead.
    """
    parts, place = [data[:2]], 2
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != 0xDA:
        mark = data[place + 1]
        end = place + (
            1 if mark == 0xFF else 2 if mark in _ALONE else 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        )
        segment = data[place:end]
        if mark == 0xE0 and segment[4:9] == b"JFIF\0":
            segment = segment[:9] + b"\1" + segment[10:]
        elif mark == 0xEE and segment[4:9] == b"Adobe" and len(segment) >= 16 and segment[15]:
            # libjpeg assumes YCbCr of three components and YCCK of four.
            segment = segment[:15] + (b"\2" if _num_components(data) == 4 else b"\1") + segment[16:]
        if not (mark == 0xE2 and segment[4:16] == b"ICC_PROFILE\0"):
            parts.append(segment)
        place = end
    return b"".join([*parts, data[place:]])


def _num_components(data: bytes) -> int:
    marks = read_marks(data)
    return marks.components if marks is not None else 0


def _orientation(exif: bytes | None, xmp: bytes | None) -> int | None:
    """EXIF's word counts, XMP's only where EXIF has none. As Pillow reads both."""
    if exif is not None:
        found = _exif_orientation(exif[6:])
        if found != 0:
            return found
    match = XMP_ORIENTATION.search(xmp) if xmp is not None else None
    return _within_range(int(match[1])) if match else 1


def _exif_orientation(tiff: bytes) -> int | None:
    """Returns 1 to 8, 0 where EXIF does not state it, None where it is written in an unusual way."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return None
    (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    if start + 2 > len(tiff):
        return None
    (count,) = struct.unpack_from(f"{order}H", tiff, start)
    if start + 2 + 12 * count > len(tiff):
        return None
    for k in range(count):
        tag, kind, number, value = struct.unpack_from(f"{order}HHIH", tiff, start + 2 + 12 * k)
        if tag == _ORIENTATION:
            return _within_range(value) if (kind, number) == (3, 1) else None
    return 0


def _within_range(orientation: int) -> int:
    return orientation if 1 <= orientation <= 8 else 1  # EXIF defines no other
