"""TIFF samples that Pillow cannot hold: floats, wide and signed integers, colour of 16 bits, planes apart.

Read by tifffile. Pillow reads some of them too, and some of those wrongly without a word (planes of 16 bits, compressed
samples of the other byte order), so what tifffile can unpack it unpacks; LZW and its like stay with Pillow.
"""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holdfast.data.decoding.depth import Bytes, from_bits, from_signed, from_wide
from holdfast.data.decoding.image_kinds import UnsupportedKind

_UNPACKED = (1, 8, 32946, 32773)  # none, deflate twice, PackBits: no other library is needed
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _SEPARATED = 0, 1, 2, 5
_COLOURS = {_RGB: 3, _SEPARATED: 4}  # samples of a pixel besides alpha
_READ = (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _SEPARATED)
_PREMULTIPLIED, _ALPHA = 1, 2  # of ExtraSamples
_ORIENTATION = 274
_OF_FLOATS = 3  # of Predictor


@cache
def tifffile_version() -> str | None:
    """Returns tifffile's version, or None where it cannot be loaded."""
    try:
        import tifffile
    except ImportError:
        return None
    if logging.getLogger("tifffile").level == logging.NOTSET:
        logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what is wrong with a file, we say once ourselves
    return str(tifffile.__version__)


def read_samples(data: bytes, max_pixels: int | None) -> tuple[Bytes, Bytes | None, int] | None:
    """Returns the first page as uint8 values, alpha if it has any, and its orientation.

    Returns:
        `[H, W]` or `[H, W, 3]` values; `[H, W]` alpha or None; 1 to 8. None where it is a kind for Pillow.

    Raises:
        ValueError: its samples are cut or damaged.
        UnsupportedKind: it has several bands and does not say which are its colours.
    """
    page = _page_of(data, max_pixels) if tifffile_version() is not None else None
    if page is None:
        return None
    planes, colours, extra = page.planes, _COLOURS.get(page.photometric, 1), page.extra
    if planes.shape[2] < colours:
        raise ValueError(f"{planes.shape[2]} samples a pixel where its colour needs {colours}")
    if colours == 1 and planes.shape[2] > 2:
        raise UnsupportedKind(
            f"a TIFF of {planes.shape[2]} bands, none of them named a colour; write three of them as RGB"
        )
    values = _to_bytes(planes[..., :colours], page.bits)
    if page.photometric == _WHITE_IS_ZERO:
        values = 255 - values
    alpha: Bytes | None = None
    if planes.shape[2] > colours and (not extra or extra[0] in (_PREMULTIPLIED, _ALPHA)):
        alpha = _to_bytes(planes[..., colours], page.bits)
    if page.photometric == _SEPARATED:  # the fifth sample is alpha only where that is said
        light = 255 - values.astype(np.uint16)
        values = ((light[..., :3] * light[..., 3:] + 127) // 255).astype(np.uint8)
        return values, alpha if extra and extra[0] == _ALPHA else None, page.orientation
    if alpha is not None and extra and extra[0] == _PREMULTIPLIED:
        values = np.minimum(values.astype(np.uint16) + 255 - alpha[..., None], 255).astype(np.uint8)
        alpha = None
    return np.ascontiguousarray(values if colours == 3 else values[..., 0]), alpha, page.orientation


@dataclass(frozen=True)
class _Page:
    """`[H, W, samples]` planes as stored, bits a sample, the kinds of extra samples, tags."""

    planes: NDArray[Any]
    bits: int
    extra: tuple[int, ...]
    photometric: int
    orientation: int


def _page_of(data: bytes, max_pixels: int | None) -> _Page | None:
    from tifffile import TiffFile

    try:
        with TiffFile(io.BytesIO(data)) as file:
            page: Any = file.pages[0]
            if page.compression not in _UNPACKED or page.photometric not in _READ:
                return None
            if page.dtype is None or page.dtype.kind not in "uif" or page.imagedepth != 1 or page.bitspersample % 8:
                return None
            if page.imagewidth * page.imagelength * max(page.dtype.itemsize // 4, 1) > (max_pixels or 1 << 40):
                return None  # Pillow's open refuses it, or its kind is not ours
            if not all(page.databytecounts) or not all(page.dataoffsets):
                raise ValueError("some of its strips are missing")
            if page.predictor == _OF_FLOATS and page.compression != 1:
                raise UnsupportedKind("a TIFF of floats stored as differences (predictor 3); write it without")
            samples = page.asarray(squeeze=False)
            if samples.ndim != 5:
                raise ValueError("it does not state its width and height")
            planes = np.moveaxis(samples[:, 0], 0, -2)  # [H, W, planes, samples]
            planes = planes.reshape(*planes.shape[:2], -1)
            orientation = page.tags.valueof(_ORIENTATION, 1)
            orientation = orientation if orientation in range(1, 9) else 1
            return _Page(planes, page.bitspersample, tuple(map(int, page.extrasamples)), page.photometric, orientation)
    except UnsupportedKind:
        raise
    except Exception as error:  # whatever it meets in a damaged file: struct, zlib, KeyError, its own
        if "requires the 'imagecodecs'" in str(error):
            raise UnsupportedKind(f"a TIFF that needs more than is installed ({error}); write it as PNG") from error
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _to_bytes(samples: NDArray[Any], bits: int) -> Bytes:
    if samples.dtype.kind == "f" or bits > 16:
        return from_wide(samples)
    return from_signed(samples, bits) if samples.dtype.kind == "i" else from_bits(samples, bits)
