"""From the bytes of an image file to upright pixels.

torchcodec decodes the common case (upright 8-bit JPEG and PNG); Pillow does the rest and stands in where torchcodec
is missing. The file's header is always read by Pillow, which knows its orientation, depth and palette. This file
knows nothing of folders, labels or models.
"""

from __future__ import annotations

import io
import struct
import warnings
from functools import cache
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from holdfast.data.channels import to_channels
from holdfast.errors import DataError

Decoder = Literal["auto", "torchcodec", "pillow"]

# What we open, by Pillow's names. Not all it knows: EPS would start Ghostscript, and nothing we read runs a program.
Image.init()
_WANTED = ("JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM", "AVIF", "JPEG2000", "TGA")
FORMATS = tuple(name for name in _WANTED if name in Image.OPEN)  # some builds of Pillow lack some

_BACKGROUND = (255, 255, 255)  # what shows through transparent pixels


@cache
def torchcodec_version() -> str | None:
    """Returns torchcodec's version, or None where it cannot be loaded."""
    try:
        import torchcodec
        from torchcodec.decoders import decode_jpeg, decode_png  # noqa: F401
    except (ImportError, OSError, RuntimeError):
        return None
    return str(torchcodec.__version__)


def decode_image(source: bytes | Path, channels: int = 3, decoder: Decoder = "auto") -> Tensor:
    """Returns the picture in `source`, upright, its first frame if it has several.

    16-bit pictures are scaled (not clipped) to 8 bits; palettes are looked up; transparent pixels show white; CMYK
    becomes RGB. Colour profiles are left alone.

    Args:
        source: the bytes of an image file, or its path.
        channels: 3 for RGB, 1 for grey (ITU-R 601 luma).
        decoder: "auto" takes torchcodec where it is loaded and suited, "pillow" never does, "torchcodec" insists
            that it is installed.

    Returns:
        `[channels, H, W]` uint8 in [0, 255].

    Raises:
        DataError: the bytes are not a whole image; the message says what they are instead.
    """
    where = f"{source}: " if isinstance(source, Path) else ""
    data = read_bytes(source) if isinstance(source, Path) else source
    if not data:
        raise DataError(f"{where}the file is empty (0 bytes).")
    if decoder == "torchcodec" and torchcodec_version() is None:
        raise DataError("torchcodec was asked for as the decoder and cannot be loaded; install it or leave it out.")
    try:
        with warnings.catch_warnings():
            # Pillow warns of odd metadata and of large pictures, on opening; what it cannot decode it raises.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if decoder != "pillow" and torchcodec_version() is not None and _suits_torchcodec(data, image):
                    return _decode_with_torchcodec(data, image, channels)
                return _decode_with_pillow(image, channels)
    except UnidentifiedImageError as error:
        raise DataError(f"{where}not an image ({_describe(data)}).") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(f"{where}refused as a decompression bomb ({error}).") from error
    except (OSError, RuntimeError, ValueError, SyntaxError, EOFError, IndexError, struct.error) as error:
        raise DataError(
            f"{where}damaged or cut short ({str(error).splitlines()[0] if str(error) else error!r})."
        ) from error


def read_bytes(path: Path) -> bytes:
    """Returns what a file holds. Raises DataError, naming it."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error


def _suits_torchcodec(data: bytes, image: Image.Image) -> bool:
    """8-bit grey or RGB JPEGs and PNGs, upright and without transparency: there both decoders give the same pixels."""
    if image.format not in ("JPEG", "PNG") or image.mode not in ("L", "RGB") or "transparency" in image.info:
        return False
    # torchcodec 0.17 turns pictures upright by itself; another version may not. Turned ones are left to Pillow.
    if image.format == "JPEG":
        return bool(image.getexif().get(ExifTags.Base.Orientation, 1) == 1)
    # A PNG may state its orientation after its pixels; getexif() would decode it all to look.
    return not any(mark in data for mark in (b"eXIf", b"profile type exif", b"adobe.xmp"))


def _decode_with_torchcodec(data: bytes, image: Image.Image, channels: int) -> Tensor:
    from torchcodec.decoders import decode_jpeg, decode_png

    decode = decode_jpeg if image.format == "JPEG" else decode_png
    native = "GRAY" if image.mode == "L" else "RGB"
    if image.format == "JPEG":
        _refuse_cut_jpeg(data)
    return to_channels(cast(Tensor, decode(data, mode=native)), channels)


def _decode_with_pillow(image: Image.Image, channels: int) -> Tensor:
    image.seek(0)
    image.load()
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I") or upright.mode == "F":
        pixels = torch.from_numpy(_scale_to_bytes(np.asarray(upright)))[None]
        return to_channels(pixels, channels)
    if upright.has_transparency_data:
        background = Image.new("RGBA", upright.size, (*_BACKGROUND, 255))
        upright = Image.alpha_composite(background, upright.convert("RGBA"))
    if upright.mode not in ("L", "RGB"):
        upright = upright.convert("L" if upright.mode == "1" else "RGB")
    array = np.array(upright)
    pixels = torch.from_numpy(array)
    return to_channels(pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous(), channels)


def _scale_to_bytes(values: np.ndarray) -> np.ndarray:  # uint16, int32 or float32
    """Scales 16-bit and wider grey values to uint8: by 257 when they are 16-bit, by their maximum when wider."""
    wide = values.astype(np.float64)
    top = float(wide.max(initial=0.0))
    scale = 255.0 if top <= 1.0 and values.dtype.kind == "f" else 255.0 / (65535.0 if top <= 65535 else top)
    return np.clip(np.rint(wide * scale), 0, 255).astype(np.uint8)


def _refuse_cut_jpeg(data: bytes) -> None:
    """Raises when a JPEG has no end marker: decoders then make up the missing rows as grey."""
    if data.rfind(b"\xff\xd9") < 0:
        raise ValueError("a JPEG without its end marker")


def _describe(data: bytes) -> str:
    head = data[:64].lstrip().lower()
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it looks like a web page"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer; run `git lfs pull`"
    if not any(data[:4096]):
        return "it is all zeros"
    return f"{len(data):,} bytes that no decoder recognises"
