"""Pixels of a JPEG, and whether its data are whole.

libjpeg, inside every decoder, paints over what is missing: a file that was cut and closed again, or overwritten in its
middle, comes back as a picture with grey or scrambled rows, and the library only *warns*. simplejpeg is the one binding
that hands the warning on, so it decodes; where another decoder is asked for, it still judges. This file knows no file
names and turns nothing upright.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor

from holdfast.data.decoding.image_kinds import UnsupportedKind
from holdfast.data.decoding.jpeg_marks import JpegMarks, without_remarks
from holdfast.data.decoding.jpeg_scans import refuse_missing_scans

FACTORS = (8, 4, 2)  # by which libjpeg-turbo reduces with its fast arithmetic; it is slower at the eighths in between

_END = b"\xff\xd9"  # the marker behind a picture
_MOST_ENDS = 4  # that are looked at
_ARITHMETIC = (0xC9, 0xCA)
_MAX_SCANS = 500  # libjpeg-turbo's own measure; a thousand scans of a large picture take hours
# What libjpeg remarks upon and decodes rightly all the same.
_REMARKS = ("Unknown Adobe color transform", "Warning: unknown JFIF revision", "Corrupt JPEG data: bad ICC marker")
_DAMAGE = ("Corrupt JPEG data", "Premature end", "Inconsistent progression")
_EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker 0xd9")


@cache
def simplejpeg_version() -> str | None:
    """Returns simplejpeg's version, or None where it cannot be loaded."""
    try:
        from importlib.metadata import version

        import simplejpeg  # noqa: F401
    except (ImportError, OSError):
        return None
    return version("simplejpeg")


def decode_strictly(data: bytes, marks: JpegMarks, factor: int = 1) -> Tensor | None:
    """Returns `[1|3, h, w]` uint8 as simplejpeg decodes it, or None for a kind that it does not know.

    Args:
        factor: 1, or one of FACTORS: sides are divided by it and rounded up. A JPEG stores blocks of 8 × 8 frequencies;
            without the high ones a smaller picture comes out, for little more than reading the file.

    Raises:
        ValueError: libjpeg had to make up pixels, or passed over data.
    """
    _refuse_open_end(data, marks)
    space = "GRAY" if marks.components == 1 else "RGB"
    # It takes the smallest of its sizes that has at least these sides.
    least = {"min_height": -(-marks.height // factor), "min_width": -(-marks.width // factor), "min_factor": factor}
    pixels = _strictly(data, space, least if factor > 1 else {})
    return None if pixels is None else torch.from_numpy(pixels).permute(2, 0, 1)


def refuse_damage(data: bytes, marks: JpegMarks) -> bool:
    """Raises ValueError when libjpeg warns about the data. Decodes at an eighth of the size, for another decoder.

    Returns:
        False where simplejpeg could not decode it at all.
    """
    _refuse_open_end(data, marks)
    if simplejpeg_version() is not None and marks.components in (1, 3, 4):
        space = {1: "GRAY", 3: "RGB", 4: "CMYK"}[marks.components]
        return _strictly(data, space, {"min_height": 1, "min_width": 1, "min_factor": 8}) is not None
    return True


def _refuse_open_end(data: bytes, marks: JpegMarks) -> None:
    end = data.rfind(_END, marks.scan)
    if end < 0:
        raise ValueError("a JPEG without its end marker: cut short")
    if marks.frame in _ARITHMETIC and data[end - 2 : end] == b"\0\0":  # an encoder leaves them out (T.81, D.1.8)
        raise ValueError("a JPEG whose data end in zeros: rows would be made up")
    refuse_missing_scans(data, marks)


def refuse_kind(data: bytes, marks: JpegMarks) -> None:
    """Raises UnsupportedKind for JPEGs that no decoder here reads, ValueError for a height or width of zero."""
    if not marks.width or not marks.height:
        raise ValueError(f"its header states {marks.width} × {marks.height} pixels")
    if marks.frame == 0xF7:
        raise UnsupportedKind("JPEG-LS, which is not decoded; convert it to PNG")
    if marks.precision != 8:
        raise UnsupportedKind(f"a JPEG of {marks.precision} bits a sample; 8 are decoded; convert it to PNG")
    if marks.frame in (0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF):
        raise UnsupportedKind("a lossless or hierarchical JPEG, which is not decoded; convert it to PNG")
    if marks.components not in (1, 3, 4):
        raise UnsupportedKind(f"a JPEG of {marks.components} components; 1 (grey), 3 (colour) and 4 (CMYK) are decoded")
    if marks.frame in (0xC2, 0xCA) and data.count(b"\xff\xda") > _MAX_SCANS:
        raise UnsupportedKind(f"a progressive JPEG of more than {_MAX_SCANS} scans, made to keep a decoder busy")


def _strictly(data: bytes, space: str, scale: dict[str, int]) -> Any:
    from simplejpeg import decode_jpeg

    message = ""
    for known in (data, None):
        try:
            return decode_jpeg(without_remarks(data) if known is None else known, space, strict=True, **scale)
        except ValueError as error:
            message = str(error)
            if not message.startswith(_REMARKS):
                if message.startswith(_DAMAGE) and not _is_padding(data, message, space):
                    raise ValueError(f"{message}: rows would be made up") from error
                break
    if _EXTRANEOUS.search(message) is None and not message.startswith(_REMARKS):
        return None  # a kind that simplejpeg does not know, or damage that ends decoding: Pillow's answer counts
    try:
        return decode_jpeg(data, space, strict=False, **scale)
    except ValueError:
        return None


def _is_padding(data: bytes, message: str, space: str) -> bool:
    """Some cameras fill up with zeros before the end marker: nothing is missing there.

    Zeros of a broken copy may stand there too: they decode to flat blocks, and what is left over looks like padding.
    Without padding, all blocks are still there.
    """
    match = _EXTRANEOUS.search(message)
    if match is None:
        return False
    zeros = bytes(int(match[1]))
    # A thumbnail before the picture, or another picture behind it, has an end of its own.
    ends = [found.end() - len(_END) for found in re.finditer(_END, data)]
    padded = [end for end in ends if data[max(0, end - len(zeros)) : end] == zeros][:_MOST_ENDS]
    starts = [(len(data[:end].rstrip(b"\0")), end) for end in padded]
    # The last block may end in a zero.
    return any(_is_whole(data[: start + kept] + data[end:], space) for start, end in starts for kept in (0, 1))


def _is_whole(data: bytes, space: str) -> bool:
    from simplejpeg import decode_jpeg

    try:
        decode_jpeg(without_remarks(data), space, strict=True, min_height=1, min_width=1, min_factor=8)
    except ValueError:
        return False
    return True


def decode_with_torchcodec(data: bytes, marks: JpegMarks) -> Tensor:
    """Returns `[1|3, H, W]` uint8 as torchcodec decodes it."""
    from torchcodec.decoders import decode_jpeg

    data = without_remarks(data)  # libjpeg would print its remarks
    return cast(Tensor, decode_jpeg(data, mode="GRAY" if marks.components == 1 else "RGB"))
