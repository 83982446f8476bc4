"""JPEG 2000s that Pillow, their only reader here, opens and gets wrong.

Source: ITU-T T.800, A.5.1 (SIZ) and B.2 (the reference grid).
"""

from __future__ import annotations

import struct

from holdfast.data.decoding.image_kinds import UnsupportedKind

_START = b"\xff\x4f\xff\x51"  # of a codestream: SOC, SIZ


def refuse_misread_colour(data: bytes) -> None:
    """Raises UnsupportedKind for several components that are deeper than 8 bits, or sampled so that rows do not fit.

    Pillow rounds values of deep colour to 8 bits, and what is rounded up to 256 becomes 0: white turns black. It reads
    coarser components as if their rows had the picture's width divided by the step, rounded down: with an odd width,
    colours shift from row to row.
    """
    start = data.find(_START)
    if start < 0 or start + 42 > len(data):
        return
    right, bottom, left, top, across, down = struct.unpack_from(">6I", data, start + 8)
    number = int.from_bytes(data[start + 40 : start + 42], "big")
    components = [data[k : k + 3] for k in range(start + 42, min(start + 42 + 3 * number, len(data) - 2), 3)]
    bits = max(((one[0] & 0x7F) + 1 for one in components), default=8)
    if number > 1 and bits > 8:
        raise UnsupportedKind(f"a JPEG 2000 of {number} components of {bits} bits; write it as PNG or TIFF")
    grid = (left, top, right, bottom, *((across, down) if across < right or down < bottom else ()))
    steps = [(one[1], one[2]) for one in components]
    uneven = any(size % max(step[k % 2], 1) for step in steps for k, size in enumerate(grid))
    if steps and (steps[0] != (1, 1) or uneven):
        shown = ", ".join(f"{x} × {y}" for x, y in steps)
        raise UnsupportedKind(
            f"a JPEG 2000 of {right - left} × {bottom - top} whose components have a sample for each {shown} pixels; "
            "write it as PNG"
        )
