"""How large a picture is, upright, from the beginning of its file."""

from __future__ import annotations

import warnings
from pathlib import Path

from PIL import ExifTags, Image, UnidentifiedImageError

from holdfast.data.decode import FORMATS
from holdfast.errors import DataError

_TURNED = (5, 6, 7, 8)  # the orientations in EXIF that exchange height and width
_PNG_ORIENTATION = (b"eXIf", b"profile type exif", b"adobe.xmp")


def picture_size(path: Path) -> tuple[int, int]:
    """Returns height and width in pixels of the picture as `decode_image` gives it, without decoding it.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                width, height = image.size
                # A PNG may state its orientation after its pixels; Pillow would decode it all to look.
                if image.format == "PNG" and not any(mark in path.read_bytes() for mark in _PNG_ORIENTATION):
                    return height, width
                turned = image.getexif().get(ExifTags.Base.Orientation, 1) in _TURNED
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: its size cannot be read ({error}).") from error
    return (width, height) if turned else (height, width)
