"""How large a picture is, upright, from the beginning of its file."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from holdfast.data.decoding.image_file import read_image_file
from holdfast.data.decoding.image_kinds import FORMATS
from holdfast.data.decoding.orientation import orientation_of
from holdfast.data.decoding.quiet import quiet
from holdfast.errors import DataError

_PNG_ORIENTATION = (b"eXIf", b"profile type exif", b"adobe.xmp")


def picture_size(path: Path) -> tuple[int, int]:
    """Returns height and width in pixels of the picture as `decode_image` gives it, without decoding it.

    Raises:
        DataError: it cannot be read.
    """
    try:
        data = read_image_file(path)
        with quiet(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            # A PNG may state its orientation after its pixels; Pillow would decode it all to look.
            if image.format == "PNG" and not any(mark in data for mark in _PNG_ORIENTATION):
                return height, width
            turned = orientation_of(image) >= 5  # height and width are exchanged
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: its size cannot be read ({error}).") from error
    return (width, height) if turned else (height, width)
