"""From samples of other depths than 8 bits to 8: scaled, never clipped.

Where the file states its depth, white is the depth's largest value, whatever the picture's own maximum: two pictures
of one scanner keep their proportion. 32-bit numbers have no such white, so theirs is read from their values.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


def from_bits(values: NDArray[np.generic], bits: int) -> Bytes:
    """Returns unsigned samples of `bits` bits (at most 16) as uint8: v · 255 / (2^bits - 1), rounded."""
    top = (1 << bits) - 1
    return ((values.astype(np.uint32) * 255 + top // 2) // top).astype(np.uint8)


def from_signed(values: NDArray[np.generic], bits: int) -> Bytes:
    """Returns signed samples of `bits` bits as uint8: the lowest possible value is black, the highest white."""
    return from_bits(values.astype(np.int64) + (1 << (bits - 1)), bits)


def from_wide(values: NDArray[np.generic]) -> Bytes:
    """Returns 32-bit integers or floats as uint8.

    Integers within 0 … 255 are taken as 8-bit, within 0 … 65535 as 16-bit. Floats within 0 … 1 are taken as a share
    of white, within 0 … 255 as 8-bit, within 0 … 65535 as 16-bit. All others run from their lowest value, or 0 if that
    is lower, to their highest. NaN is 0, infinities are the ends.

    Raises:
        ValueError: no value is a finite number.
    """
    with np.errstate(invalid="ignore"):  # a NaN that signals
        wide = values.astype(np.float64)
    finite = np.isfinite(wide)
    if not finite.any():
        raise ValueError("none of its values is a finite number")
    low, high = float(wide[finite].min()), float(wide[finite].max())
    wide = np.nan_to_num(wide, nan=0.0, posinf=high, neginf=low)
    tops = [1.0, 255.0, 65535.0] if values.dtype.kind == "f" else [255.0, 65535.0]
    bottom = min(low, 0.0)
    top = next((t for t in tops if high <= t), high) if bottom == 0.0 else high
    # Halves, which are exact: the distance of the lowest and the highest double is none.
    return np.rint((wide / 2 - bottom / 2) / ((top / 2 - bottom / 2) or 1.0) * 255.0).astype(np.uint8)
