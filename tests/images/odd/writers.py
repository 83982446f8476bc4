"""Files written byte by byte: kinds that no library at hand writes, and damage done to files that one wrote."""

# ruff: noqa: E501  # a specimen a line reads best

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

from odd.specimen import Pixels

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(name: bytes, body: bytes = b"") -> bytes:
    """Returns a PNG chunk with its checksum."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(
    width: int, height: int, bits: int, colour_type: int, rows: Sequence[bytes], *before: bytes, interlace: int = 0
) -> bytes:
    """Returns a PNG of rows that are packed already; `before` are chunks that come ahead of the pixels."""
    return (
        SIGNATURE
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, interlace))
        + b"".join(before)
        + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
        + chunk(b"IEND")
    )


def png_of(samples: Pixels, bits: int, colour_type: int, *before: bytes) -> bytes:
    """Returns a PNG of `[H, W]` or `[H, W, C]` samples of 8 or 16 bits."""
    rows = [row.astype(">u2" if bits == 16 else "u1").tobytes() for row in samples]
    return png(samples.shape[1], samples.shape[0], bits, colour_type, rows, *before)


def tiff(
    strip: bytes, width: int, height: int, order: str = "<", *, big: bool = False, **tags: int | Sequence[int]
) -> bytes:
    """Returns a TIFF of one strip. Tags by name; those not given make it grey of 8 bits, uncompressed."""
    numbers = {
        "subfile": 254, "width": 256, "height": 257, "bits": 258, "compression": 259, "photometric": 262,
        "fill_order": 266, "offsets": 273, "orientation": 274, "samples": 277, "rows": 278, "counts": 279, "planar": 284,
        "predictor": 317, "primaries": 319, "colours": 320, "sub_ifds": 330, "extra": 338, "format": 339, "subsampling": 530,
        "dng_version": 50706,
    }  # fmt: skip
    entries: dict[str, int | Sequence[int]] = {
        "width": width, "height": height, "bits": 8, "compression": 1, "photometric": 1, "samples": 1, "rows": height,
        "counts": len(strip), "offsets": 16 if big else 8, **tags,
    }  # fmt: skip
    body = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}H", 43 if big else 42)
    head = 16 if big else 8
    strip += b"\0" * (len(strip) % 2)
    place = head + len(strip)
    body += struct.pack(f"{order}HHQ", 8, 0, place) if big else struct.pack(f"{order}I", place)
    word, count, room = ("Q", "Q", 8) if big else ("I", "H", 4)
    rows = struct.pack(f"{order}{count}", len(entries))
    after = place + len(rows) + len(entries) * (20 if big else 12) + room
    extra = b""
    for name in sorted(entries, key=lambda n: numbers[n]):
        value = entries[name]
        values = [value] if isinstance(value, int) else list(value)
        kind, letter = (4, "I") if name in ("offsets", "counts", "sub_ifds") else (3, "H")
        packed = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(packed) > room:
            packed, extra = struct.pack(f"{order}{word}", after + len(extra)), extra + packed
        rows += struct.pack(f"{order}HH{word}", numbers[name], kind, len(values)) + packed.ljust(room, b"\0")
    return body + strip + rows + struct.pack(f"{order}{word}", 0) + extra


def segments(jpeg: bytes) -> list[tuple[int, int, int]]:
    """Returns (marker, start, end) of each segment before the first scan's data."""
    place, found = 2, []
    while jpeg[place + 1] != 0xDA:
        end = place + 2 + int.from_bytes(jpeg[place + 2 : place + 4], "big")
        found.append((jpeg[place + 1], place, end))
        place = end
    return [*found, (0xDA, place, place + 2 + int.from_bytes(jpeg[place + 2 : place + 4], "big"))]


def with_frame(jpeg: bytes, **changes: int) -> bytes:
    """Returns a JPEG with fields of its frame header overwritten: marker, precision, height, width."""
    start = next(s for mark, s, _ in segments(jpeg) if mark in (0xC0, 0xC1, 0xC2))
    data = bytearray(jpeg)
    if "marker" in changes:
        data[start + 1] = changes["marker"]
    if "precision" in changes:
        data[start + 4] = changes["precision"]
    if "height" in changes:
        data[start + 5 : start + 7] = changes["height"].to_bytes(2, "big")
    if "width" in changes:
        data[start + 7 : start + 9] = changes["width"].to_bytes(2, "big")
    return bytes(data)


def with_segment(jpeg: bytes, marker: int, body: bytes) -> bytes:
    """Returns a JPEG with a segment put in first."""
    return jpeg[:2] + bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body + jpeg[2:]


def without_segments(jpeg: bytes, marker: int) -> bytes:
    """Returns a JPEG without its segments of one kind."""
    for mark, start, end in reversed(segments(jpeg)):
        if mark == marker:
            jpeg = jpeg[:start] + jpeg[end:]
    return jpeg


def scan_bytes(jpeg: bytes) -> tuple[int, int]:
    """Returns where the data of the first scan begin, and where the end marker stands."""
    return segments(jpeg)[-1][2], jpeg.rfind(b"\xff\xd9")
