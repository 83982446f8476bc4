"""JPEGs by libjpeg-turbo (simplejpeg): whole, or smaller by 2, 4 or 8 without making the pixels in between.

A JPEG stores blocks of 8 × 8 frequencies. Leaving out the high ones gives a picture of half, a quarter or an eighth of
the side for little more than reading the file. Whole pictures have the very pixels of the other decoders, which
do what is odd.
"""

from __future__ import annotations

import io

import simplejpeg
import torch
from PIL import ExifTags, Image
from torch import Tensor

from holdfast.data.channels import to_channels
from holdfast.data.encoded import Encoded
from holdfast.errors import DataError

FACTORS = (8, 4, 2)  # by which libjpeg-turbo reduces with its fast arithmetic; it is slower at the eighths in between

_START = b"\xff\xd8\xff"
_APP1, _SCAN = 0xE1, 0xDA
_MOST_PIXELS = Image.MAX_IMAGE_PIXELS or 2**31
_BENIGN = "extraneous bytes before marker"  # some cameras leave them; no pixel is lost


def open_jpeg(data: bytes, channels: int) -> Encoded | None:
    """Returns the picture in `data`, not yet decoded; None where it is no JPEG, or a rare one that others decode.

    Rare are CMYK and RGB ones, those with more than 8 bits, and decompression bombs.

    Args:
        channels: of the decoded picture: 3 for RGB, 1 for grey.
    """
    if not data.startswith(_START):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data, strict=False)
    except ValueError:
        return None
    if colours not in ("YCbCr", "Gray") or height * width > _MOST_PIXELS:
        return None
    orientation = _orientation(data)
    sides = (width, height) if orientation >= 5 else (height, width)
    return Encoded(*sides, lambda most: _decode(data, most, (height, width), colours, channels, orientation))


def _decode(
    data: bytes, most_reduced: float, size: tuple[int, int], colours: str, channels: int, orientation: int
) -> Tensor:
    factor = next((f for f in FACTORS if f <= most_reduced), 1)
    # The smallest size with at least these sides is taken; sides are rounded up.
    least = {"min_height": -(-size[0] // factor), "min_width": -(-size[1] // factor)} if factor > 1 else {}
    wanted = "RGB" if colours == "YCbCr" else "GRAY"
    try:
        pixels = simplejpeg.decode_jpeg(data, wanted, min_factor=factor, **least)
    except ValueError as error:
        if _BENIGN not in str(error):
            raise DataError(f"damaged or cut short ({error}).") from error
        pixels = simplejpeg.decode_jpeg(data, wanted, min_factor=factor, strict=False, **least)
    return to_channels(_turned(torch.from_numpy(pixels).permute(2, 0, 1), orientation), channels)


def _turned(picture: Tensor, orientation: int) -> Tensor:
    """Returns `[C, h, w]` upright, whatever Exif says of it (2: mirrored, 3: upside down, 6 and 8: on its side …)."""
    if orientation in (5, 6, 7, 8):
        picture = picture.transpose(1, 2)
    across, down = orientation in (2, 3, 6, 7), orientation in (3, 4, 7, 8)
    flipped = [dimension for dimension, wanted in ((1, down), (2, across)) if wanted]
    return picture.flip(flipped) if flipped else picture


def _orientation(data: bytes) -> int:
    """Returns 1 to 8 as Exif counts, 1 being upright; from the metadata of Exif or XMP, 1 without them."""
    if not _has_metadata(data):
        return 1
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        stated = image.getexif().get(ExifTags.Base.Orientation, 1)
    return stated if isinstance(stated, int) and 1 <= stated <= 8 else 1


def _has_metadata(data: bytes) -> bool:
    """Whether a segment of Exif or XMP stands before the pixels; Pillow takes 20 times as long to say so."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker in (_APP1, _SCAN):
            return marker == _APP1
        if marker == 0xFF:  # a fill byte
            place += 1
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return True  # not as we know it: Pillow may look
