"""Image files, opened so that a crop can be chosen before anything is decoded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from holdfast.data.decode import Decoder, decode_image, read_bytes
from holdfast.data.encoded import Encoded, decoded
from holdfast.data.jpeg import open_jpeg
from holdfast.errors import DataError


def open_image(path: Path, channels: int = 3, decoder: Decoder = "auto") -> Encoded:
    """Opens an image file of any kind. A JPEG is decoded when it is asked for, as far as it is needed; others now.

    Args:
        path: of the file.
        channels: 3 for RGB, 1 for grey.
        decoder: see `decode_image`; "pillow" decodes every file whole.

    Raises:
        DataError: it cannot be read or is no picture; the message names it. Damage to a JPEG shows when it is decoded.
    """
    data = read_bytes(path)
    jpeg = open_jpeg(data, channels) if decoder != "pillow" else None
    if jpeg is None:
        return decoded(_naming(path, lambda: decode_image(data, channels, decoder)))
    return jpeg._replace(decode=lambda most_reduced: _naming(path, lambda: jpeg.decode(most_reduced)))


def _naming(path: Path, decode: Callable[[], Tensor]) -> Tensor:
    try:
        return decode()
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
