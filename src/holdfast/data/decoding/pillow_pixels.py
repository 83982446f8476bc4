"""Pixels of every kind of picture that Pillow opens: its modes and depths, transparency laid on white.

Pillow reduces colour of 16 bits to its high bytes; here the low bytes are read as well, and both are rounded. This
file knows no file names.
"""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFile
from torch import Tensor

from holdfast.data.decoding.depth import Bytes, bands, from_bits, from_signed, from_wide
from holdfast.data.decoding.image_kinds import UnsupportedKind
from holdfast.data.decoding.jpeg_2000 import refuse_misread_colour
from holdfast.data.decoding.png_chunks import PngHeader
from holdfast.data.decoding.tiff_kinds import narrow_palette

BACKGROUND = 255  # what shows through transparent pixels: white

_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT, _EXTRA_SAMPLES = 258, 262, 339, 338  # tags of TIFF 6.0
_WHITE_IS_ZERO, _SIGNED = 0, 2


def pixels_of(image: ImageFile.ImageFile, data: bytes, png: PngHeader | None = None) -> Tensor:
    """Returns the first frame as `[1|3, H, W]` uint8, transparency laid on white, not yet turned upright.

    Args:
        image: opened and not yet loaded.
        data: the file's bytes, which may have to be opened a second time.
        png: the header, for a PNG.
    """
    if png is not None and png.bits == 16 and png.colour_type != 0:
        return channels_first(*_wide_png(image, data, png))
    if image.format == "TIFF":
        _use_native_order(image)
    if image.format == "JPEG2000":
        refuse_misread_colour(data)
    rawmode = _rawmode(image)
    area = image.tile[0].extents if image.format == "GIF" and image.tile else None
    image.load()
    if image.format == "TIFF" and image.mode in ("RGB", "RGBA") and rawmode.endswith(("16L", "16B", "16N")):
        return channels_first(*_wide_tiff(image, data, rawmode))
    values, alpha = _values(image, data, png)
    if area is not None:
        values = _white_outside(values, area)
    return channels_first(values, alpha)


def _values(image: ImageFile.ImageFile, data: bytes, png: PngHeader | None) -> tuple[Bytes, Bytes | None]:
    """Returns `[H, W]` or `[H, W, 3]` values, and `[H, W]` alpha where there is any."""
    mode = image.mode
    if mode.startswith("I") or mode == "F":
        samples = np.asarray(image)
        return _from_deep(samples, image), _keyed(samples, png)
    if mode in ("1", "L", "RGB"):
        plain = np.array(image if mode != "1" else image.convert("L"))
        if getattr(image, "tag_v2", {}).get(_SAMPLE_FORMAT, (1,))[0] == _SIGNED:
            plain = from_signed(plain.view(np.int8), 8)
        if png is not None:
            return plain, _keyed(_unscaled(plain, png), png)
        if mode == "L" and isinstance(image.info.get("transparency"), int):  # GIF
            return plain, _opaque_where(plain != image.info["transparency"])
        return plain, None
    if mode == "LAB":
        return np.array(_lab_to_rgb(image)), None
    if mode == "P" and image.format in ("PNG", "BMP", "DIB"):
        _refuse_beyond_palette(image)
    if image.format == "TIFF" and (palette := narrow_palette(image)) is not None:
        return palette[np.asarray(image)], None
    if mode in ("La", "RGBa"):
        return _split(image.convert({"La": "LA", "RGBa": "RGBA"}[mode]))
    if image.format == "TGA" and mode == "RGBA" and not data[17] & 0x0F:
        return np.array(image.convert("RGB")), None  # its header says that the fourth byte means nothing
    if mode == "LA" or mode == "RGBA" or image.has_transparency_data:
        return _split(image if mode == "LA" else image.convert("RGBA"))
    return np.array(image.convert("RGB")), None


def _refuse_beyond_palette(image: Image.Image) -> None:
    """Raises ValueError where a pixel names a colour that the palette does not have; Pillow would make it black."""
    number = len(image.palette.palette) // 3 if image.palette is not None else 0
    highest = int(np.asarray(image).max())
    if highest >= number:
        raise ValueError(f"a pixel is colour {highest} of a palette of {number}")


def _from_deep(samples: NDArray[Any], image: ImageFile.ImageFile) -> Bytes:
    """Grey of more than 8 bits, by the depth that the file states."""
    tags = getattr(image, "tag_v2", None)
    if tags is None:  # PNG, PGM and JPEG 2000: Pillow has spread them over 16 bits; PFM: floats
        return from_wide(samples) if image.mode == "F" else from_bits(samples, 16)
    bits = tags.get(_BITS, (1,))[0]
    if bits > 16 or image.mode == "F":
        unsigned = image.mode == "I" and tags.get(_SAMPLE_FORMAT, (1,))[0] == 1
        grey = from_wide(samples.view(np.uint32) if unsigned else samples)
    elif tags.get(_SAMPLE_FORMAT, (1,))[0] == _SIGNED:
        grey = from_signed(samples, bits)
    else:
        grey = from_bits(samples, bits)
    return 255 - grey if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else grey


def _unscaled(plain: Bytes, png: PngHeader) -> NDArray[Any]:
    """tRNS names a sample as it is stored: undo the spreading of 1, 2 and 4 bits over 0 … 255."""
    return plain // (255 // ((1 << png.bits) - 1)) if png.bits < 8 else plain


def _keyed(samples: NDArray[Any], png: PngHeader | None) -> Bytes | None:
    """Returns alpha where a grey or RGB PNG declares one colour transparent."""
    if png is None or not png.transparent:
        return None
    number = 1 if png.colour_type == 0 else 3
    if png.colour_type not in (0, 2) or len(png.transparent) < 2 * number:
        return None
    key = np.frombuffer(png.transparent[: 2 * number], ">u2") & ((1 << png.bits) - 1)
    return _opaque_where(samples != key[0] if number == 1 else (samples != key).any(axis=2))


def _opaque_where(mask: NDArray[np.bool_]) -> Bytes:
    return np.where(mask, np.uint8(255), np.uint8(0))


def _split(image: Image.Image) -> tuple[Bytes, Bytes]:
    array = np.asarray(image)
    return (array[..., 0] if array.shape[2] == 2 else array[..., :-1]), array[..., -1]


def _wide_png(image: ImageFile.ImageFile, data: bytes, png: PngHeader) -> tuple[Bytes, Bytes | None]:
    """Colour, or grey with alpha, of 16 bits. Pillow has no such mode: high and low bytes are read one by one."""
    if png.colour_type == 4:  # two samples of two bytes are the four bytes of RGBA
        raw = _load_as(image, "RGBA", "RGBA")
        samples = raw.view(">u2").reshape(*raw.shape[:2], 2)
        return from_bits(samples[..., 0], 16), from_bits(samples[..., 1], 16)
    mode = "RGB" if png.colour_type == 2 else "RGBA"
    high = _load_as(image, mode, f"{mode};16B")
    with Image.open(io.BytesIO(data), formats=["PNG"]) as again:
        low = _load_as(again, mode, f"{mode};16L")  # reads each sample's second byte as the one that counts
    samples = _joined(high, low)
    if mode == "RGBA":
        return from_bits(samples[..., :3], 16), from_bits(samples[..., 3], 16)
    return from_bits(samples, 16), _keyed(samples, png)


def _joined(high: Bytes, low: Bytes) -> NDArray[np.uint16]:
    samples = high.astype(np.uint16)
    samples <<= 8
    samples |= low
    return samples


def _wide_tiff(image: ImageFile.ImageFile, data: bytes, rawmode: str) -> tuple[Bytes, Bytes | None]:
    """RGB or RGBA of 16 bits, high and low bytes as in `_wide_png`; `image` is loaded and has the high ones."""
    swapped = rawmode[:-1] + ("L" if rawmode.endswith("B") else "B")
    with Image.open(io.BytesIO(data), formats=["TIFF"]) as again:
        try:
            low = _load_as(again, image.mode, swapped)
        except ValueError:  # "unknown raw mode": the high bytes alone, one level off at most
            low = None
    high = np.asarray(image)
    if low is None or low.shape != high.shape or rawmode.startswith("RGBa"):
        return _split(image) if image.mode == "RGBA" else (high, None)
    samples = _joined(high, low)
    if image.mode == "RGBA":
        return from_bits(samples[..., :3], 16), from_bits(samples[..., 3], 16)
    return from_bits(samples, 16), None


def _rawmode(image: ImageFile.ImageFile) -> str:
    args = image.tile[0].args if image.tile else None
    return args if isinstance(args, str) else str(args[0]) if args else ""


def _load_as(image: ImageFile.ImageFile, mode: str, rawmode: str) -> NDArray[Any]:
    """Loads the picture with its bytes laid out in another way than Pillow would."""
    image._mode = mode
    image.tile = [
        tile._replace(args=rawmode if isinstance(tile.args, str) else (rawmode, *(tile.args or ())[1:]))
        for tile in image.tile
    ]
    image.load()
    return np.array(image)


def _use_native_order(image: ImageFile.ImageFile) -> None:
    """libtiff gives samples in this machine's byte order; Pillow names the file's for wide and signed ones."""
    native = {"I;16BS": "I;16S", "I;32BS": "I;32S", "F;32BF": "F;32F"}
    if sys.byteorder == "little" and image.tile and image.tile[0].codec_name == "libtiff":
        image.tile = [
            tile._replace(args=(native.get(tile.args[0], tile.args[0]), *tile.args[1:]))
            if isinstance(tile.args, tuple)
            else tile
            for tile in image.tile
        ]


def _white_outside(values: Bytes, area: tuple[int, int, int, int]) -> Bytes:
    """A GIF's first frame may cover a part of the canvas; the rest is transparent."""
    left, top, right, bottom = area
    canvas = np.full_like(values, BACKGROUND)
    canvas[top:bottom, left:right] = values[top:bottom, left:right]
    return canvas


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    try:
        from PIL import ImageCms

        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(lab, srgb, "LAB", "RGB")
    except ImportError as error:
        raise UnsupportedKind(
            "a CIE L*a*b* picture, which this build of Pillow (without LittleCMS) cannot convert"
        ) from error
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None  # only a transform in place returns nothing
    return converted


def channels_first(values: Bytes, alpha: Bytes | None) -> Tensor:
    """Returns `[H, W]` or `[H, W, 3]` values as `[1|3, H, W]`, laid on white where `[H, W]` alpha is below 255."""
    if alpha is not None:
        on_white = np.empty_like(values)
        for band in bands(values):  # at once it would take gigabytes for a large picture
            opacity = alpha[band].astype(np.uint16) if values.ndim == 2 else alpha[band, :, None].astype(np.uint16)
            # (c·a + white·(255 - a)) / 255, rounded: at most 65025 + 127, so 16 bits hold it
            on_white[band] = (values[band] * opacity + (255 - opacity) * np.uint16(BACKGROUND) + 127) // 255
        values = on_white
    pixels = torch.from_numpy(np.ascontiguousarray(values))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous()
