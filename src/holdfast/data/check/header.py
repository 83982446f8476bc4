"""What a picture's header says: size, mode, depth, orientation. From bytes that were read already; nothing is decoded.

JPEGs and PNGs are read by their own few bytes; opening them with Pillow would take as long as decoding a small one.
"""

from __future__ import annotations

import io
import struct
from typing import NamedTuple

from PIL import Image

from holdfast.data.decoding.image_kinds import FORMATS
from holdfast.data.decoding.jpeg_marks import JpegMarks, read_marks
from holdfast.data.decoding.orientation import orientation_of
from holdfast.data.decoding.quiet import quiet

_JPEG_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
_PNG_MODES = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}
_PROGRESSIVE = 0xC2
_BITS = {"1": 1, "I": 32, "F": 32}


class Header(NamedTuple):
    """A picture's header.

    Attributes:
        width, height: pixels as stored, before it is turned upright; 0 where not known.
        mode: Pillow's word: L, RGB, RGBA, P, CMYK, 1 …; "" where not known.
        bits: of one sample.
        orientation: 1 to 8, EXIF's; 1 is upright.
        transparent: it has an alpha channel or transparent colours.
        animated: it has more than one frame or page.
        profile: it carries an ICC profile.
        progressive: it is a progressive JPEG.
    """

    width: int = 0
    height: int = 0
    mode: str = ""
    bits: int = 8
    orientation: int = 1
    transparent: bool = False
    animated: bool = False
    profile: bool = False
    progressive: bool = False


def read_header(data: bytes, kind: str, marks: JpegMarks | None = None) -> Header:
    """Returns what the header says, as far as it can be read; damage is the decoder's to name.

    Args:
        data: the whole file.
        kind: what it is, as `kind_of` says.
        marks: of a JPEG, for a caller who has read them already.
    """
    if kind == "JPEG" and marks is None:
        marks = read_marks(data)
    if marks is not None and marks.orientation is not None:
        return Header(
            marks.width,
            marks.height,
            _JPEG_MODES.get(marks.components, f"{marks.components} channels"),
            marks.precision,
            marks.orientation,
            profile=data.find(b"ICC_PROFILE\0", 0, marks.scan) >= 0,
            progressive=marks.frame == _PROGRESSIVE,
        )
    if kind == "PNG" and len(data) >= 33:
        return _png_header(data)
    return _header_by_pillow(data, kind)


def _png_header(data: bytes) -> Header:
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    pixels = data.find(b"IDAT", 33)
    before = len(data) if pixels < 0 else pixels
    has = {name for name in (b"tRNS", b"acTL", b"iCCP") if data.find(name, 33, before) >= 0}
    turned = any(mark in data for mark in (b"eXIf", b"profile type exif", b"adobe.xmp"))  # may follow the pixels
    return Header(
        width,
        height,
        _PNG_MODES.get(colour, "") if bits > 1 or colour else "1",
        bits,
        _header_by_pillow(data, "PNG").orientation if turned else 1,
        colour in (4, 6) or b"tRNS" in has,
        b"acTL" in has,
        b"iCCP" in has,
    )


def _header_by_pillow(data: bytes, kind: str) -> Header:
    if kind not in FORMATS:
        return Header()
    try:
        with quiet(), Image.open(io.BytesIO(data), formats=[kind]) as image:
            bits = 16 if "16" in image.mode else _BITS.get(image.mode, 8)
            return Header(
                *image.size,
                image.mode,
                bits,
                orientation_of(image),
                image.mode in ("LA", "RGBA", "PA") or "transparency" in image.info,
                bool(getattr(image, "is_animated", False)),
                bool(image.info.get("icc_profile")),
                bool(image.info.get("progressive")),
            )
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, RuntimeError, struct.error,
            Image.DecompressionBombError):  # fmt: skip
        return Header()
