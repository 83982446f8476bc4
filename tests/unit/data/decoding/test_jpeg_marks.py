import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from holdfast.data.decoding.jpeg_marks import read_marks, without_strays
from holdfast.data.decoding.orientation import orientation_of


def encoded(mode: str = "RGB", **options: object) -> bytes:
    """The bytes of a JPEG of 20 × 12 random pixels."""
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(stream, "JPEG", **options)
    return stream.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_the_frame_is_what_was_written(mode: str, progressive: bool) -> None:
    """Size, components, precision and coding come from the frame header."""
    marks = read_marks(encoded(mode, progressive=progressive))
    assert marks is not None
    assert (marks.width, marks.height, marks.precision) == (20, 12, 8)
    assert marks.components == {"RGB": 3, "L": 1, "CMYK": 4}[mode]
    assert marks.frame == (0xC2 if progressive else 0xC0)
    assert marks.is_ordinary == (mode != "CMYK")


def test_no_beginning_of_a_jpeg_is_taken_for_more() -> None:
    """Cut anywhere before its scan, a header is None and never an exception."""
    whole = encoded(exif=Image.Exif().tobytes())
    marks = read_marks(whole)
    assert marks is not None
    assert [read_marks(whole[:cut]) for cut in range(marks.scan)] == [None] * marks.scan


def test_any_damage_to_a_header_raises_nothing() -> None:
    """Whatever bytes stand there, the answer is marks or None."""
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = encoded(exif=exif)
    generator = np.random.default_rng(1)
    found = 0
    for _ in range(2000):
        damaged = bytearray(whole)
        for place in generator.integers(2, 300, 3):
            damaged[place] = generator.integers(0, 256)
        found += read_marks(bytes(damaged)) is not None
        without_strays(bytes(damaged))
    assert 100 < found < 2000


def test_orientation_is_pillows_on_real_photographs(real_data: Path) -> None:
    """Every large photograph and every tenth ant and bee lies as Pillow's full reader of EXIF says."""
    paths = sorted((real_data / "large_photos").glob("*.[jJ]*"))
    paths += sorted((real_data / "hymenoptera_data").glob("*/*/*.jpg"))[::10]
    assert len(paths) > 60
    seen = set()
    for path in paths:
        marks = read_marks(path.read_bytes())
        assert marks is not None
        with Image.open(path) as image:
            assert (marks.width, marks.height) == image.size
            assert marks.orientation in (None, orientation_of(image)), path.name
        seen.add(marks.orientation)
    assert {1, 6} <= seen


def test_stray_bytes_between_segments_are_taken_out() -> None:
    """What remains is the file as it was before they came in."""
    whole = encoded()
    end = 4 + int.from_bytes(whole[4:6], "big")
    assert without_strays(whole[:end] + b"stray bytes" + whole[end:]) == whole
    assert without_strays(whole) == whole
