"""HEIC, the iPhone's format: opened where pillow-heif is installed, and said plainly where it is not.

Neither Pillow nor torchcodec brings the decoder (libheif, and patents on HEVC), so it is an extra of its own.
"""

from __future__ import annotations

import io

from PIL import Image, ImageFile

from holdfast.data.decoding.image_kinds import UnsupportedKind


def open_heif(data: bytes) -> ImageFile.ImageFile:
    """Returns the picture, opened and not loaded; its orientation is applied or stands in its EXIF, never both.

    Raises:
        UnsupportedKind: pillow-heif is not installed.
    """
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise UnsupportedKind(
            "HEIC needs a decoder that is not installed; install holdfast[heic] or pillow-heif, or convert it to JPEG"
        ) from error
    Image.preinit()
    image: ImageFile.ImageFile = HeifImageFile(io.BytesIO(data))
    return image
