"""What a picture's header says, from bytes that were read already."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from holdfast.data.check.header import Header, read_header
from holdfast.data.decoding.image_kinds import kind_of


def _bytes(image: Image.Image, kind: str, **options: object) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def _picture(mode: str = "RGB") -> Image.Image:
    return Image.new("RGB", (40, 30), (200, 10, 90)).convert(mode)


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


SIXTEEN = Image.fromarray(np.full((30, 40), 30_000, dtype=np.uint16))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (_bytes(_picture(), "JPEG"), Header(40, 30, "RGB")),
        (_bytes(_picture("L"), "JPEG"), Header(40, 30, "L")),
        (_bytes(_picture("CMYK"), "JPEG"), Header(40, 30, "CMYK")),
        (_bytes(_picture(), "JPEG", progressive=True), Header(40, 30, "RGB", progressive=True)),
        (_bytes(_picture(), "JPEG", exif=_turned()), Header(40, 30, "RGB", orientation=6)),
        (_bytes(_picture(), "JPEG", icc_profile=b"x" * 200), Header(40, 30, "RGB", profile=True)),
        (_bytes(_picture(), "PNG"), Header(40, 30, "RGB")),
        (_bytes(_picture("1"), "PNG"), Header(40, 30, "1", 1)),
        (_bytes(SIXTEEN, "PNG"), Header(40, 30, "L", 16)),
        (_bytes(_picture("RGBA"), "PNG"), Header(40, 30, "RGBA", transparent=True)),
        (_bytes(_picture("P"), "PNG", transparency=0), Header(40, 30, "P", transparent=True)),
        (_bytes(_picture(), "PNG", exif=_turned()), Header(40, 30, "RGB", orientation=6)),
        (_bytes(_picture(), "PNG", icc_profile=b"x" * 200), Header(40, 30, "RGB", profile=True)),
        (
            _bytes(_picture(), "PNG", save_all=True, append_images=[_picture("L").convert("RGB")]),
            Header(40, 30, "RGB", animated=True),
        ),
        (_bytes(_picture(), "WEBP", exif=_turned()), Header(40, 30, "RGB", orientation=6)),
        (_bytes(_picture("1"), "TIFF"), Header(40, 30, "1", 1)),
        (_bytes(_picture("RGBA"), "TIFF"), Header(40, 30, "RGBA", transparent=True)),
    ],
)
def test_size_mode_depth_and_kind_are_told(data: bytes, expected: Header) -> None:
    """JPEG and PNG by their own bytes, others by Pillow: size as stored, mode, bits, which way is up, and extras."""
    kind = kind_of(data)
    assert kind is not None
    assert read_header(data, kind) == expected


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "HEIF"])
def test_bytes_that_end_early_have_an_empty_header(kind: str) -> None:
    """What cannot be read is left open: no error is raised for it here."""
    assert read_header(b"\xff\xd8\xff\xe0\0", kind) == Header()


def test_headers_of_real_photographs_agree_with_pillow(real_data: Path) -> None:
    """Size, mode, orientation and profile of 32 photographs are those that Pillow reads."""
    for path in sorted((real_data / "large_photos").glob("*.jp*g")):
        header = read_header(path.read_bytes(), "JPEG")
        with Image.open(path) as image:
            assert (header.width, header.height, header.mode) == (*image.size, image.mode)
            assert header.orientation == image.getexif().get(0x0112, 1)
            assert header.profile == bool(image.info.get("icc_profile"))
            assert header.progressive == bool(image.info.get("progressive"))
