"""The scans of a JPEG: complete ones pass, and each one less is told."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image

from holdfast.data.decoding.jpeg_marks import read_marks
from holdfast.data.decoding.jpeg_scans import refuse_missing_scans


def _jpeg(*, colour: bool, progressive: bool) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 3) if colour else (40, 56), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", progressive=progressive)
    return stream.getvalue()


def _refuse(data: bytes) -> None:
    marks = read_marks(data)
    assert marks is not None
    refuse_missing_scans(data, marks)


@pytest.mark.parametrize("colour", [True, False])
@pytest.mark.parametrize("progressive", [True, False])
def test_a_whole_jpeg_passes(colour: bool, progressive: bool) -> None:
    """One scan of all, or the ten of a progressive picture: nothing is missing."""
    _refuse(_jpeg(colour=colour, progressive=progressive))


@pytest.mark.parametrize("colour", [True, False])
def test_each_missing_scan_is_told(colour: bool) -> None:
    """A progressive JPEG that ends before any of its later scans is refused."""
    data = _jpeg(colour=colour, progressive=True)
    scans = [match.start() for match in re.finditer(b"\xff\xda", data)]
    assert len(scans) > 4
    for start in scans[1:]:
        with pytest.raises(ValueError, match="without its last scans"):
            _refuse(data[:start] + b"\xff\xd9")


def test_a_cut_header_of_a_scan_is_told() -> None:
    """A file that ends within a scan's header lacks that scan."""
    data = _jpeg(colour=True, progressive=True)
    last = data.rfind(b"\xff\xda")
    with pytest.raises(ValueError, match="without its last scans"):
        _refuse(data[: last + 5])
