"""Whether a JPEG's scans together bring all that its pixels need.

A progressive JPEG that was cut between two scans, with an end marker behind, decodes without a word: it is only coarse,
or grey. Its scans' headers tell what was still to come.

Source: ITU-T T.81, sections B.2.3 and G.1.1.1.
"""

from __future__ import annotations

import re

from holdfast.data.decoding.jpeg_marks import JpegMarks

_NEXT_MARK = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # within a scan, 0xFF is followed by 0, and restarts belong to it
_NEVER = 16  # more than the bits that a scan may leave for later


def refuse_missing_scans(data: bytes, marks: JpegMarks) -> None:
    """Raises ValueError when a component, one of its 64 frequencies or a low bit of one comes in no scan."""
    progressive = marks.frame in (0xC2, 0xCA)
    if not progressive and data[marks.scan + 4] == marks.components:
        return  # the common case: one scan of all
    bits_left: dict[int, list[int]] = {}
    place: int | None = marks.scan
    while place is not None:
        number = data[place + 4]
        parameters = place + 5 + 2 * number
        if parameters + 3 > len(data):
            break
        first, last, bits = data[parameters], data[parameters + 1], data[parameters + 2] & 0x0F
        for component in data[place + 5 : parameters : 2]:
            row = bits_left.setdefault(component, [_NEVER] * 64)
            row[first : last + 1] = [bits] * (min(last, 63) + 1 - first)
        place = _next_scan(data, parameters + 3)
    if len(bits_left) < marks.components or any(any(row) for row in bits_left.values()):
        raise ValueError("a JPEG without its last scans: cut short between two")


def _next_scan(data: bytes, place: int) -> int | None:
    while (match := _NEXT_MARK.search(data, place)) is not None and match.end() + 3 < len(data):
        place = match.start()
        if data[place + 1] == 0xDA:
            return place
        if data[place + 1] in (0xD8, 0xD9):
            break
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None
