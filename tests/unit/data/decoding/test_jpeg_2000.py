"""JPEG 2000s: what Pillow reads rightly passes, what it misreads is refused by its header."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest

from holdfast.data.decoding.image_kinds import UnsupportedKind
from holdfast.data.decoding.jpeg_2000 import refuse_misread_colour


def _header(
    size: tuple[int, int], steps: Sequence[int], *, bits: int = 8, origin: int = 0, tile: int | None = None
) -> bytes:
    """Returns SOC and SIZ of a picture whose components have a sample for each step × step pixels."""
    width, height = size
    grid = (width + origin, height + origin, origin, origin, tile or width + origin, tile or height + origin, 0, 0)
    parts = b"".join(bytes([bits - 1, step, step]) for step in steps)
    return b"\xff\x4f\xff\x51" + struct.pack(">HH8IH", 38 + len(parts), 0, *grid, len(steps)) + parts


@pytest.mark.parametrize(
    "header",
    [
        _header((63, 47), (1, 1, 1)),
        _header((64, 48), (1, 2, 2)),
        _header((64, 48), (1, 2, 2), tile=32),
        _header((63, 47), (1, 1, 1), tile=15, origin=3),
        _header((63, 47), (1,), bits=16),
        b"no codestream",
    ],
)
def test_what_pillow_reads_rightly_passes(header: bytes) -> None:
    """Equal components of any size, and coarser ones whose rows come out even, are left to Pillow."""
    refuse_misread_colour(header)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (_header((63, 48), (1, 2, 2)), "63 × 48 whose components"),
        (_header((64, 47), (1, 2, 2)), "1 × 1, 2 × 2, 2 × 2 pixels"),
        (_header((64, 48), (1, 2, 2), tile=15), "whose components"),
        (_header((64, 48), (1, 2, 2), origin=1), "64 × 48 whose components"),
        (_header((64, 48), (2, 2, 2)), "2 × 2, 2 × 2, 2 × 2 pixels"),
        (_header((64, 48), (1, 1, 1), bits=12), "3 components of 12 bits"),
    ],
)
def test_what_pillow_misreads_is_refused(header: bytes, words: str) -> None:
    """Rows that do not come out even would shift colours, deep white would be black: both are refused, with sizes."""
    with pytest.raises(UnsupportedKind, match=words):
        refuse_misread_colour(header)
