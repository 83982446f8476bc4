"""Image files, opened so that a crop can be chosen from their size, and then decoded no larger than it needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PIL import Image
from torch import Tensor

from holdfast.data.decoding.channels import to_channels
from holdfast.data.decoding.decode import Decoder, decode_image
from holdfast.data.decoding.image_file import read_image_file
from holdfast.data.decoding.jpeg_marks import JpegMarks, read_marks
from holdfast.data.decoding.jpeg_pixels import FACTORS, decode_strictly, refuse_kind, simplejpeg_version
from holdfast.data.decoding.orientation import upright
from holdfast.data.preprocessing.encoded import Encoded, decoded
from holdfast.errors import DataError

_JPEG = b"\xff\xd8\xff"


def open_image(path: Path | str, channels: int = 3, decoder: Decoder = "auto") -> Encoded:
    """Opens an image file of any kind. An ordinary JPEG is decoded when it is asked for; others are decoded now.

    Args:
        path: of the file.
        channels: 3 for RGB, 1 for grey.
        decoder: see `decode_image`; only "auto" decodes smaller.

    Raises:
        DataError: it cannot be read or is no picture; the message names it. Damage to a JPEG shows when it is decoded.
    """
    return open_bytes(read_image_file(path), path, channels, decoder)


def open_bytes(data: bytes, path: Path | str, channels: int = 3, decoder: Decoder = "auto") -> Encoded:
    """Opens the bytes of an image file, as `open_image` does; errors name `path`."""
    marks = read_marks(data) if decoder == "auto" and data.startswith(_JPEG) else None
    if marks is None or not _is_common(marks):
        return decoded(_naming(path, lambda: decode_image(data, channels, decoder)))
    on_its_side = (marks.orientation or 1) >= 5
    height, width = (marks.width, marks.height) if on_its_side else (marks.height, marks.width)
    return Encoded(
        height, width, lambda most_reduced: _naming(path, lambda: _decode(data, marks, channels, most_reduced))
    )


def _is_common(marks: JpegMarks) -> bool:
    pixels, limit = marks.height * marks.width, Image.MAX_IMAGE_PIXELS
    return (
        marks.is_ordinary
        and marks.orientation is not None
        and 0 < pixels <= (limit or pixels)
        and simplejpeg_version() is not None
    )


def _decode(data: bytes, marks: JpegMarks, channels: int, most_reduced: float) -> Tensor:
    factor = next((factor for factor in FACTORS if factor <= most_reduced), 1)
    if factor == 1:
        return decode_image(data, channels)
    try:
        refuse_kind(data, marks)
        pixels = decode_strictly(data, marks, factor)
    except ValueError:
        pixels = None
    if pixels is None:  # a rare kind, or damage: said in the words of every other command
        return decode_image(data, channels)
    return to_channels(upright(pixels, marks.orientation or 1), channels)


def _naming(path: Path | str, decode: Callable[[], Tensor]) -> Tensor:
    try:
        return decode()
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
