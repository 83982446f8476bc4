"""From samples of other depths than 8 bits to 8: scaled, never clipped.

Where the file states its depth, white is the depth's largest value, whatever the picture's own maximum: two pictures
of one scanner keep their proportion. 32-bit numbers have no such white, so theirs is read from their values.

All goes band by band: numbers that are wide enough to reckon with would take gigabytes for a large picture at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
_BAND = 1 << 20  # samples, about


def bands(values: NDArray[Any]) -> Iterator[slice]:
    """Yields slices of rows that together cover `[H, ...]` values, about a million samples each."""
    rows = max(1, _BAND * len(values) // max(values.size, 1))
    return (slice(start, start + rows) for start in range(0, len(values), rows))


def _banded(scaled: Callable[[NDArray[Any]], NDArray[Any]], values: NDArray[Any]) -> Bytes:
    result = np.empty(values.shape, np.uint8)
    for band in bands(values):
        result[band] = scaled(values[band])
    return result


def from_bits(values: NDArray[np.generic], bits: int) -> Bytes:
    """Returns unsigned samples of `bits` bits (at most 16) as uint8: v · 255 / (2^bits - 1), rounded."""
    top = (1 << bits) - 1
    return _banded(lambda band: (band.astype(np.uint32) * 255 + top // 2) // top, values)


def from_signed(values: NDArray[np.generic], bits: int) -> Bytes:
    """Returns signed samples of `bits` bits as uint8: the lowest possible value is black, the highest white."""
    return _banded(lambda band: from_bits(band.astype(np.int64) + (1 << (bits - 1)), bits), values)


def from_wide(values: NDArray[np.generic]) -> Bytes:
    """Returns 32-bit integers or floats as uint8.

    Integers within 0 … 255 are taken as 8-bit, within 0 … 65535 as 16-bit. Floats within 0 … 1 are taken as a share
    of white, within 0 … 255 as 8-bit, within 0 … 65535 as 16-bit. All others run from their lowest value, or 0 if that
    is lower, to their highest. NaN is 0, infinities are the ends.

    Raises:
        ValueError: no value is a finite number.
    """
    low, high = np.inf, -np.inf
    for band in bands(values):
        wide = _wide(values[band])
        finite = wide[np.isfinite(wide)]
        low, high = min(low, float(finite.min(initial=np.inf))), max(high, float(finite.max(initial=-np.inf)))
    if low > high:
        raise ValueError("none of its values is a finite number")
    tops = [1.0, 255.0, 65535.0] if values.dtype.kind == "f" else [255.0, 65535.0]
    bottom = min(low, 0.0)
    top = next((t for t in tops if high <= t), high) if bottom == 0.0 else high
    # Halves, which are exact: the distance of the lowest and the highest double is none.
    span = (top / 2 - bottom / 2) or 1.0

    def scaled(band: NDArray[Any]) -> NDArray[Any]:
        wide = np.nan_to_num(_wide(band), nan=0.0, posinf=high, neginf=low)
        return np.rint((wide / 2 - bottom / 2) / span * 255.0)

    return _banded(scaled, values)


def _wide(values: NDArray[Any]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # a NaN that signals
        return values.astype(np.float64)
