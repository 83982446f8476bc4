"""The bytes of a cache file: its head, and one record a picture. What they mean, and which of them can be believed.

Nothing here opens a file. A record counts only when its own check is right; a writer that was killed leaves none.

    head      4,096 bytes: magic, slots, bytes allowed, purpose, check; and, changing: end, slots claimed, reason, check
    table     slots of 64 bytes, a hash table with linear probing: key, place, shape, digest of the pixels, check
    pixels    one picture after another, `[H, W, C]` uint8, each at a multiple of 64 bytes
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

import xxhash

MAGIC = b"HFPICT01"  # another number, another layout: files of other layouts are left alone
HEAD_BYTES = 4096
RECORD_BYTES = 64
KEY_BYTES = 16
ALIGNMENT = 64  # a picture begins on a cache line

_FIXED = struct.Struct("<8sQQQQ")
_CHANGING = struct.Struct("<QQQQ")
CHANGING_AT = 64
_RECORD = struct.Struct("<16sQQIIIIQQ")
_NEVER = bytes(RECORD_BYTES)


@dataclass(frozen=True)
class Layout:
    """What of the head never changes.

    Attributes:
        num_slots: places in the table, a power of two.
        limit: bytes that the file may have, table included.
        purpose: a digest of the set of keys that it was made for, uint64: another run on the same pictures joins in.
    """

    num_slots: int
    limit: int
    purpose: int = 0

    @property
    def pixels_at(self) -> int:
        """Where the pixels begin."""
        return HEAD_BYTES + self.num_slots * RECORD_BYTES

    def slot_at(self, slot: int) -> int:
        """Where a slot begins."""
        return HEAD_BYTES + slot * RECORD_BYTES


@dataclass(frozen=True)
class Progress:
    """What of the head changes.

    Attributes:
        end: where the next picture goes.
        num_claimed: slots that somebody has begun to fill.
        stopped: the errno that ended the growing, STOPPED_FULL, or 0.
    """

    end: int
    num_claimed: int
    stopped: int = 0


STOPPED_FULL = 1 << 20  # no errno: as large as it may be


class Record(NamedTuple):
    """One picture in the file: where its pixels lie, their shape, and their xxh3-64."""

    key: bytes
    offset: int
    shape: tuple[int, int, int]  # [H, W, C]
    digest: int

    @property
    def num_bytes(self) -> int:
        """Bytes of its pixels."""
        return self.shape[0] * self.shape[1] * self.shape[2]


def pack_layout(layout: Layout) -> bytes:
    """Returns the fixed part of the head."""
    fixed = struct.pack("<8sQQQ", MAGIC, layout.num_slots, layout.limit, layout.purpose)
    return fixed + struct.pack("<Q", xxhash.xxh3_64_intdigest(fixed))


def unpack_layout(head: bytes) -> Layout | None:
    """Returns what the head says, or None when it is not ours or damaged."""
    if len(head) < HEAD_BYTES:
        return None
    magic, num_slots, limit, purpose, check = _FIXED.unpack_from(head)
    sound = magic == MAGIC and check == xxhash.xxh3_64_intdigest(head[: _FIXED.size - 8])
    return Layout(num_slots, limit, purpose) if sound and num_slots and not num_slots & (num_slots - 1) else None


def pack_progress(progress: Progress) -> bytes:
    """Returns the changing part of the head, which belongs at CHANGING_AT."""
    values = struct.pack("<QQQ", progress.end, progress.num_claimed, progress.stopped)
    return values + struct.pack("<Q", xxhash.xxh3_64_intdigest(values))


def unpack_progress(data: bytes) -> Progress | None:
    """Returns the changing part, or None when it is damaged: nothing may then be added to the file."""
    if len(data) < _CHANGING.size:
        return None
    end, num_claimed, stopped, check = _CHANGING.unpack_from(data)
    sound = check == xxhash.xxh3_64_intdigest(data[: _CHANGING.size - 8])
    return Progress(end, num_claimed, stopped) if sound else None


PROGRESS_BYTES = _CHANGING.size


def pack_record(record: Record, *, whole: bool) -> bytes:
    """Returns the record's slot; without its check (`whole` False) the slot is taken, and says nothing yet."""
    values = _RECORD.pack(record.key, record.offset, record.num_bytes, *record.shape, 0, record.digest, 0)[:-8]
    return values + struct.pack("<Q", xxhash.xxh3_64_intdigest(values) if whole else 0)


def unpack_record(slot: bytes) -> Record | None:
    """Returns the record in a slot, or None when it is unfinished or damaged."""
    key, offset, num_bytes, height, width, channels, _, digest, check = _RECORD.unpack(slot)
    if check != xxhash.xxh3_64_intdigest(slot[: RECORD_BYTES - 8]) or num_bytes != height * width * channels:
        return None
    return Record(key, offset, (height, width, channels), digest)


def is_free(slot: bytes) -> bool:
    """Whether nobody has ever taken the slot: a search for a key ends here."""
    return slot == _NEVER


def slots_for(num_pictures: int) -> int:
    """Returns how many slots a table for so many pictures has: half of them stay free, so searches are short."""
    return 1 << max(int(num_pictures * 2).bit_length(), 6)
