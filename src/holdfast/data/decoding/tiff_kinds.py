"""TIFFs that are not decoded: camera raws, whose first picture is a preview, and depths that nobody here reads."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from holdfast.data.decoding.image_kinds import UnsupportedKind
from holdfast.data.decoding.quiet import quiet
from holdfast.words import count

_BITS, _SAMPLE_FORMAT, _PHOTOMETRIC, _DNG_VERSION, _SUBFILE_TYPE, _SUB_IFDS = 258, 339, 262, 50706, 254, 330
_COMPRESSION, _PLACES, _COLOURS = 259, ((273, 279), (324, 325)), 320
_REDUCED, _PALETTE, _SEPARATED, _YCBCR, _SUBSAMPLING = 1, 3, 5, 6, 530
_EXTRA_SAMPLES, _ALPHA = 338, 2
_HEAD_BYTES = 8  # no pixels lie before them
_SENSOR = (32803, 34892)  # a colour filter array, linear raw
_FORMATS = {1: "unsigned integers", 2: "signed integers", 3: "floats", 4: "untyped", 5: "complex", 6: "complex floats"}


def refuse_camera_raw(image: Image.Image) -> None:
    """Raises UnsupportedKind for a DNG, NEF and their like: their first picture is a small preview of the one meant."""
    tags = getattr(image, "tag_v2", {})
    preview = bool(tags.get(_SUBFILE_TYPE, 0) & _REDUCED) and _SUB_IFDS in tags
    if _DNG_VERSION in tags or preview or tags.get(_PHOTOMETRIC) in _SENSOR:
        raise UnsupportedKind("a camera raw file, whose first picture is a preview; develop it to JPEG or PNG")


def refuse_wrong_tags(image: Image.Image, num_bytes: int) -> None:
    """Raises ValueError where a tag is missing or wrong that Pillow passes over: it would make up pixels, or invert.

    UnsupportedKind where the tags are right and Pillow does not heed them.

    Args:
        image: a TIFF, opened.
        num_bytes: of the file.
    """
    tags = getattr(image, "tag_v2", {})
    if _PHOTOMETRIC not in tags:
        raise ValueError("it does not say whether 0 is black or white (no PhotometricInterpretation)")
    for places, lengths in _PLACES:
        found = tags.get(places, ())
        counts = tags.get(lengths, ())
        if len(counts) != len(found):
            counts = (1,) * len(found)  # old writers leave them out: each holds something
        for place, length in zip(found, counts, strict=True):
            if place < _HEAD_BYTES or place >= num_bytes or place + length > num_bytes:
                raise ValueError(f"{length:,} bytes of its pixels lie at byte {place:,} of {num_bytes:,}")
    if tags[_PHOTOMETRIC] == _YCBCR and tags.get(_COMPRESSION, 1) == 1:
        across, down = tags.get(_SUBSAMPLING, (2, 2))
        stored = sum(sum(tags.get(lengths, ())) for _, lengths in _PLACES)
        if (across, down) != (1, 1) and stored < 3 * image.width * image.height:  # Pillow reads it as if it were (1, 1)
            raise UnsupportedKind(
                f"an uncompressed TIFF of YCbCr, its colour sampled {across} × {down}; write it as PNG"
            )
    if tags[_PHOTOMETRIC] == _PALETTE and (bits := tags.get(_BITS, (1,))[0]) <= 8:
        number = len(tags.get(_COLOURS, ()))
        if number != 3 << bits:
            raise ValueError(f"its palette has {number:,} values, and {bits} bits take {3 << bits:,}")


def narrow_palette(image: Image.Image) -> NDArray[np.uint8] | None:
    """Returns a palette `[2^bits, 3]` whose values old writers left within 0 … 255, where TIFF has 0 … 65535.

    None for the usual kind. libtiff, and with it every viewer, decides it likewise.
    """
    values = getattr(image, "tag_v2", {}).get(_COLOURS, ())
    if image.mode != "P" or not values or max(values) > 255:
        return None
    return np.array(values, dtype=np.uint8).reshape(3, -1).T


def is_plain(image: Image.Image) -> bool:
    """Returns whether a TIFF's samples are unsigned and of 8 bits or fewer: those Pillow reads rightly.

    Not so where CMYK has alpha, which it leaves out. (Premultiplied, its ink lies on white already.)
    """
    tags = getattr(image, "tag_v2", {})
    if tags.get(_PHOTOMETRIC) == _SEPARATED and tags.get(_EXTRA_SAMPLES, (0,))[0] == _ALPHA:
        return False
    return max(tags.get(_BITS, (1,))) <= 8 and set(tags.get(_SAMPLE_FORMAT, (1,))) <= {1, 4}


def describe_tiff(data: bytes) -> str:
    """Returns what a TIFF holds that nothing here decodes: "a TIFF of 3 samples of 32 bits, floats"; "" for no TIFF."""
    if data[:4] == b"MM\0+":
        return "a BigTIFF in big-endian order, which is read uncompressed or deflated only; write it as a plain TIFF"
    try:
        with quiet():
            tags = TiffImagePlugin.ImageFileDirectory_v2(data[:8] if data[2:3] != b"+" else data[:16])
            stream = io.BytesIO(data)
            stream.seek(tags.next)
            tags.load(stream)
            if not tags:
                return ""
            bits = tags.get(_BITS, (1,))
            kind = _FORMATS.get(tags.get(_SAMPLE_FORMAT, (1,))[0], "of an unknown type")
            photometric, compression = tags.get(_PHOTOMETRIC), tags.get(_COMPRESSION, 1)
            raw = photometric in _SENSOR or _DNG_VERSION in tags
    except Exception:  # whatever is wrong with its tags, it cannot be described by them
        return ""
    if raw:
        return "it is a camera raw file; develop it to JPEG or PNG"
    return (
        f"a TIFF of {count(len(bits), 'sample')} of {count(max(bits), 'bit')}, {kind}, photometric "
        f"{photometric}, compression {compression}, which is not decoded; write it as PNG, or "
        "as a TIFF of 8 or 16 bits"
    )
