"""Tables of what a collection is made of: kinds, modes, depths, sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Any

from holdfast.data.check.probe import Facts

_ORIENTATIONS = {
    1: "1 upright", 2: "2 mirrored", 3: "3 upside down", 4: "4 flipped", 5: "5 mirrored, sideways", 6: "6 sideways",
    7: "7 mirrored, sideways", 8: "8 sideways",
}  # fmt: skip
_MEGAPIXELS = ((0.01, "below 0.01 MP"), (0.1, "0.01 – 0.1 MP"), (1, "0.1 – 1 MP"), (4, "1 – 4 MP"), (16, "4 – 16 MP"))


def survey(facts: Sequence[Facts]) -> dict[str, dict[str, int]]:
    """Returns table → value → number of good pictures, the most frequent first."""
    good = [one for one in facts if not one.fault]
    headers = [one.header for one in good]
    columns: dict[str, list[str]] = {
        "format": [one.kind or "array" for one in good],
        "mode": [header.mode or "?" for header in headers],
        "bits": [str(header.bits) for header in headers],
        "orientation": [_ORIENTATIONS[header.orientation] for header in headers],
        "megapixels": [_megapixels(header.width * header.height) for header in headers],
    }
    tables = {name: dict(Counter(values).most_common()) for name, values in columns.items()}
    tables["other"] = {
        name: number
        for name, number in (
            ("transparent", sum(header.transparent for header in headers)),
            ("animated", sum(header.animated for header in headers)),
            ("with ICC profile", sum(header.profile for header in headers)),
            ("progressive JPEG", sum(header.progressive for header in headers)),
        )
        if number
    }
    return tables


def sizes(facts: Sequence[Facts]) -> dict[str, Any]:
    """Returns the smallest, median and largest width and height in pixels, and the bytes of all files; {} of none."""
    headers = [one.header for one in facts if not one.fault and one.header.width]
    if not headers:
        return {}
    widths, heights = [h.width for h in headers], [h.height for h in headers]
    return {
        "width": [min(widths), int(median(widths)), max(widths)],
        "height": [min(heights), int(median(heights)), max(heights)],
        "num_bytes": sum(max(one.num_bytes, 0) for one in facts),
    }


def _megapixels(pixels: int) -> str:
    return next((text for limit, text in _MEGAPIXELS if pixels < limit * 1e6), "16 MP and more")
