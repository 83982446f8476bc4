"""Turning pixels upright: the eight orientations of EXIF, and where Pillow finds them."""

from __future__ import annotations

import struct

import torch
from PIL import ExifTags, Image
from torch import Tensor

from holdfast.data.decoding.jpeg_marks import XMP_ORIENTATION


def upright(pixels: Tensor, orientation: int) -> Tensor:
    """Returns `[C, H, W]` pixels turned as EXIF asks (JEITA CP-3451, tag 0x0112), mostly a view; 1 changes nothing.

    The strides of a single column or row are the usual ones.
    """
    if orientation >= 5:
        pixels = pixels.transpose(1, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels.flip(1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels.flip(2)
    # torch goes by the stride of a column even where there is one alone: its resize then reads what is not the picture.
    return pixels.clone(memory_format=torch.contiguous_format) if 1 in pixels.shape[1:] else pixels


def orientation_of(image: Image.Image) -> int:
    """Returns 1 to 8 from EXIF, or from XMP where EXIF is silent; 1 where neither can be read.

    Metadata that cannot be read is no reason to refuse a picture: without it, it lies as it was stored.
    """
    try:
        value = image.getexif().get(ExifTags.Base.Orientation)
        if value is None:  # Pillow reads XMP too, but not as freely written as XML may be
            xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
            match = XMP_ORIENTATION.search(xmp.encode() if isinstance(xmp, str) else xmp)
            value = int(match[1]) if match else 1
    except (ValueError, SyntaxError, OSError, TypeError, KeyError, IndexError, OverflowError, struct.error):
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
