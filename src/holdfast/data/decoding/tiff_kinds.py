"""TIFFs that are not decoded: camera raws, whose first picture is a preview, and depths that nobody here reads."""

from __future__ import annotations

import io

from PIL import Image, TiffImagePlugin

from holdfast.data.decoding.image_kinds import UnsupportedKind
from holdfast.words import count

_BITS, _SAMPLE_FORMAT, _PHOTOMETRIC, _DNG_VERSION, _SUBFILE_TYPE, _SUB_IFDS = 258, 339, 262, 50706, 254, 330
_REDUCED = 1
_SENSOR = (32803, 34892)  # a colour filter array, linear raw
_FORMATS = {1: "unsigned integers", 2: "signed integers", 3: "floats", 4: "untyped", 5: "complex", 6: "complex floats"}


def refuse_camera_raw(image: Image.Image) -> None:
    """Raises UnsupportedKind for a DNG, NEF and their like: their first picture is a small preview of the one meant."""
    tags = getattr(image, "tag_v2", {})
    preview = bool(tags.get(_SUBFILE_TYPE, 0) & _REDUCED) and _SUB_IFDS in tags
    if _DNG_VERSION in tags or preview or tags.get(_PHOTOMETRIC) in _SENSOR:
        raise UnsupportedKind("a camera raw file, whose first picture is a preview; develop it to JPEG or PNG")


def is_plain(image: Image.Image) -> bool:
    """Returns whether a TIFF's samples are unsigned and of 8 bits or fewer: those Pillow reads rightly."""
    tags = getattr(image, "tag_v2", {})
    return max(tags.get(_BITS, (1,))) <= 8 and set(tags.get(_SAMPLE_FORMAT, (1,))) <= {1, 4}


def describe_tiff(data: bytes) -> str:
    """Returns what a TIFF holds that nothing here decodes: "3 samples of 32 bits, floats"."""
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[:8] if data[2:3] != b"+" else data[:16])
        stream = io.BytesIO(data)
        stream.seek(tags.next)
        tags.load(stream)
        bits = tags.get(_BITS, (1,))
        kind = _FORMATS.get(tags.get(_SAMPLE_FORMAT, (1,))[0], "of an unknown type")
    except Exception:  # whatever is wrong with its tags, it cannot be described by them
        return "it begins like TIFF and goes on as none"
    if tags.get(_PHOTOMETRIC) in _SENSOR or _DNG_VERSION in tags:
        return "it is a camera raw file; develop it to JPEG or PNG"
    return (
        f"a TIFF of {count(len(bits), 'sample')} of {max(bits)} bits, {kind}, photometric "
        f"{tags.get(_PHOTOMETRIC)}, which is not decoded; convert it to 8 or 16 bits"
    )
