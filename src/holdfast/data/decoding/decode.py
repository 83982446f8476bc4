"""From the bytes of an image file to upright pixels: what it is, who decodes it, and what is refused.

JPEGs go to simplejpeg, which tells when data are damaged (`jpeg_pixels.py`), plain PNGs to torchcodec, TIFFs of other
samples than plain bytes to tifffile (`tiff_samples.py`), everything else to Pillow (`pillow_pixels.py`), which also
stands in where one of the first two is missing. All give the same pixels. This file knows nothing of folders, labels
or models.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Literal, cast

from PIL import Image, ImageFile, PngImagePlugin, UnidentifiedImageError
from torch import Tensor

from holdfast.data.decoding.channels import to_channels
from holdfast.data.decoding.heif import open_heif
from holdfast.data.decoding.image_file import read_image_file
from holdfast.data.decoding.image_kinds import FORMATS, UnsupportedKind, describe, kind_of
from holdfast.data.decoding.jpeg_marks import JpegMarks, read_marks, without_strays
from holdfast.data.decoding.jpeg_pixels import (
    decode_strictly,
    decode_with_torchcodec,
    refuse_damage,
    refuse_kind,
    simplejpeg_version,
)
from holdfast.data.decoding.orientation import orientation_of, upright
from holdfast.data.decoding.pillow_pixels import channels_first, pixels_of
from holdfast.data.decoding.png_chunks import PIXELS, SHOWN, PngHeader, only, read_header, refuse_missing_rows
from holdfast.data.decoding.quiet import quiet
from holdfast.data.decoding.tiff_damage import refuse_cut_tags, refuse_damaged_strips
from holdfast.data.decoding.tiff_kinds import describe_tiff, is_plain, refuse_camera_raw, refuse_wrong_tags
from holdfast.data.decoding.tiff_samples import read_samples
from holdfast.errors import DataError

# The function, the file and the line of its source, before what libpng said.
_FROM_TORCHCODEC = re.compile(r"^\w+, \S+:\d+, (?=decode_)")

_NOT_READ = re.compile(r"^Unsupported|requires the 'imagecodecs'")  # in Pillow's and tifffile's words
_PILLOWS_SIZE = re.compile(r"Image size \((\d+) pixels\)")
_IN_BYTES = re.compile(r"^b'(.*)'$")  # a message of Pillow's that is bytes
_LEFT_OUT = re.compile(r"compression support is not configured")  # in libtiff's words
Decoder = Literal["auto", "torchcodec", "pillow"]


class _Bomb(Exception):
    """More pixels than are decoded."""


@cache
def torchcodec_version() -> str | None:
    """Returns torchcodec's version, or None where it cannot be loaded."""
    try:
        import torchcodec
        from torchcodec.decoders import decode_jpeg, decode_png  # noqa: F401
    except (ImportError, OSError, RuntimeError):
        return None
    return str(torchcodec.__version__)


def decoder_versions() -> str:
    """Returns the libraries that "auto" decodes with: "simplejpeg 1.9.0, torchcodec 0.17.0"."""
    found = {"simplejpeg": simplejpeg_version(), "torchcodec": torchcodec_version()}
    return ", ".join([f"{name} {version}" for name, version in found.items() if version] or ["pillow"])


def decode_image(
    source: bytes | Path, channels: int = 3, decoder: Decoder = "auto", *, marks: JpegMarks | None = None
) -> Tensor:
    """Returns the picture in `source`, upright, its first frame if it has several.

    16-bit pictures are scaled (not clipped) to 8 bits; palettes are looked up; transparent pixels show white; CMYK
    becomes RGB. Colour profiles are left alone. `docs/images.md` has every kind.

    Args:
        source: the bytes of an image file, or its path.
        channels: 3 for RGB, 1 for grey (ITU-R 601 luma).
        decoder: "auto" takes the fastest suited, "pillow" Pillow alone, "torchcodec" insists that it is installed.
            All give the same pixels.
        marks: of these bytes, for a caller who has read them already; they are half of what a small JPEG costs.

    Returns:
        `[channels, H, W]` uint8 in [0, 255].

    Raises:
        DataError: the bytes are not a whole image; the message says what they are instead.
    """
    where = f"{source}: " if isinstance(source, Path) else ""
    data = read_image_file(source) if isinstance(source, Path) else source
    if not data:
        raise DataError(f"{where}the file is empty (0 bytes).")
    if decoder == "torchcodec" and torchcodec_version() is None:
        raise DataError("torchcodec was asked for as the decoder and cannot be loaded; install it or leave it out.")
    kind = kind_of(data)
    if kind is None or (kind not in FORMATS and kind != "HEIF"):
        what = describe(data) if kind is None else f"it is {kind}, which this build of Pillow does not open"
        raise DataError(f"{where}not an image ({what}).")
    try:
        pixels = _decode(data, kind, decoder, marks)
    except UnidentifiedImageError as error:
        if kind == "TIFF" and (what := describe_tiff(data)):
            raise DataError(f"{where}cannot be decoded: {what}.") from error
        raise DataError(f"{where}not an image (it begins like {kind} and goes on as none).") from error
    except UnsupportedKind as error:
        raise DataError(f"{where}cannot be decoded: {error}.") from error
    except (_Bomb, Image.DecompressionBombError) as error:
        size = _PILLOWS_SIZE.search(str(error))  # Pillow names twice the limit, which holds for its own warnings
        text = _too_many(int(size[1])) if size else str(error)
        raise DataError(f"{where}refused as a decompression bomb ({text}).") from error
    except MemoryError as error:
        raise DataError(f"{where}needs more memory to decode than there is.") from error
    except Exception as error:  # what a decoder raises over a damaged file: OSError, SyntaxError, AssertionError …
        message = _FROM_TORCHCODEC.sub("", str(error).splitlines()[0]) if str(error) else repr(error)
        message = _IN_BYTES.sub(r"\1", message)
        if "Decompressed data too large" in message or "memory used in text chunks" in message:
            raise DataError(f"{where}refused as a decompression bomb (in its metadata: {message}).") from error
        if isinstance(error, NotImplementedError) or _NOT_READ.search(message):
            raise DataError(f"{where}cannot be decoded: {message}; write it as PNG.") from error
        raise DataError(f"{where}damaged or cut short ({message}).") from error
    return to_channels(pixels, channels)


def _decode(data: bytes, kind: str, decoder: Decoder, marks: JpegMarks | None) -> Tensor:
    if kind == "JPEG":
        return _decode_jpeg(data, decoder, marks)
    if kind == "PNG":
        png = read_header(data)
        _refuse_bomb(png.width, png.height)
        if decoder != "pillow" and png.is_ordinary and torchcodec_version() is not None:
            from torchcodec.decoders import decode_png

            if png.names - PIXELS:  # libpng prints what it dislikes about the others
                data = only(data, PIXELS)
            return cast(Tensor, decode_png(data, mode="GRAY" if png.colour_type == 0 else "RGB"))
        refuse_missing_rows(data, png)
        data = only(data, SHOWN)
        return _decode_with_pillow(data, kind, png)
    if kind == "TIFF":
        pixels = _decode_deep_tiff(data)
        if pixels is not None:
            return pixels
    return _decode_with_pillow(data, kind, None)


def _decode_deep_tiff(data: bytes) -> Tensor | None:
    """Returns a TIFF's pixels where its samples are not plain bytes; None leaves it to Pillow."""
    refuse_cut_tags(data)
    try:
        with quiet(), Image.open(io.BytesIO(data), formats=["TIFF"]) as image:
            _refuse_bomb(*image.size)
            refuse_camera_raw(image)
            refuse_wrong_tags(image, len(data))
            if is_plain(image):
                refuse_damaged_strips(image, data)
                return None
    except UnidentifiedImageError:
        pass  # a kind that Pillow does not have
    found = read_samples(data, Image.MAX_IMAGE_PIXELS)
    if found is None:
        return None
    values, alpha, orientation = found
    return upright(channels_first(values, alpha), orientation).contiguous()


def _decode_jpeg(data: bytes, decoder: Decoder, marks: JpegMarks | None) -> Tensor:
    marks = read_marks(data) if marks is None else marks
    if marks is None:
        data = without_strays(data)
        marks = read_marks(data)
    if marks is None:
        raise ValueError("its segments do not follow one another")
    refuse_kind(data, marks)
    _refuse_bomb(marks.width, marks.height)
    pixels = _decode_ordinary_jpeg(data, marks, decoder) if decoder != "pillow" and marks.is_ordinary else None
    if pixels is not None:
        return pixels
    refuse_damage(data, marks)
    return _decode_with_pillow(data, "JPEG", None)


def _decode_ordinary_jpeg(data: bytes, marks: JpegMarks, decoder: Decoder) -> Tensor | None:
    if decoder == "auto" and simplejpeg_version() is not None:
        pixels = decode_strictly(data, marks)
        return None if pixels is None else upright(pixels, _jpeg_orientation(data, marks))
    if torchcodec_version() is None or marks.orientation != 1:
        return None  # torchcodec 0.17 turns pictures upright by itself and another version may not: left to Pillow
    return decode_with_torchcodec(data, marks) if refuse_damage(data, marks) else None


def _jpeg_orientation(data: bytes, marks: JpegMarks) -> int:
    if marks.orientation is not None:
        return marks.orientation
    with quiet(), Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        return orientation_of(image)


def _decode_with_pillow(data: bytes, kind: str, png: PngHeader | None) -> Tensor:
    opened: Callable[[], ImageFile.ImageFile] = partial(Image.open, io.BytesIO(data), formats=[kind])
    if kind == "HEIF":
        opened = partial(open_heif, data)
    elif kind == "PNG":  # opened by itself, it says what is wrong
        opened = partial(PngImagePlugin.PngImageFile, io.BytesIO(data))
    with quiet() as complaints, opened() as image:
        _refuse_bomb(*image.size)
        try:
            pixels = pixels_of(image, data, png)
        except OSError:  # Pillow knows only that libtiff failed
            _raise(complaints)
            raise
        _refuse_bomb(*image.size)  # a GIF's frame may turn out larger than its canvas
        _raise(complaints)
        return upright(pixels, orientation_of(image)).contiguous()


def _raise(complaints: list[str]) -> None:
    """Raises what libtiff says first, if anything."""
    if not complaints:
        return
    said = complaints[0].removeprefix("tempfile.tif: ")  # what Pillow calls it to libtiff
    if _LEFT_OUT.search(said):
        raise UnsupportedKind(f"a TIFF of a kind that this libtiff leaves out ({said}); write it as PNG")
    raise ValueError(f"libtiff says {said}")


def _refuse_bomb(width: int, height: int) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise _Bomb(f"{width} × {height} is {_too_many(width * height)}")


def _too_many(pixels: int) -> str:
    return f"{pixels:,} pixels, and at most {Image.MAX_IMAGE_PIXELS:,} are decoded"
