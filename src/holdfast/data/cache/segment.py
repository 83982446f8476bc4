"""One file of decoded pictures, mapped by many processes and filled by them at once.

Readers map it and take views; writers use `pwrite`, so that a full disk is an error and not a signal. A writer reserves
its place under a lock, writes the pixels without it, and publishes the record last. Whatever it leaves when it is
killed is a reserved slot that says nothing. Pixels of a file on disk are compared with their digest when they are first
used, by one process for all that were forked with it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import threading
from collections.abc import Iterator
from multiprocessing import reduction
from typing import Any, cast

import torch
import xxhash
from torch import Tensor

from holdfast.data.cache.record import (
    ALIGNMENT,
    CHANGING_AT,
    HEAD_BYTES,
    PROGRESS_BYTES,
    RECORD_BYTES,
    STOPPED_FULL,
    Layout,
    Progress,
    Record,
    is_free,
    pack_layout,
    pack_progress,
    pack_record,
    slots_for,
    unpack_layout,
    unpack_progress,
    unpack_record,
)

_UNSEEN, _SOUND, _DAMAGED = 0, 1, 2
_PIECE_BYTES = 1 << 18  # stays in the core's cache while it is hashed


class Segment:
    """Pictures by key, in the file behind an open descriptor. It survives `fork`, and travels to spawned processes.

    Args:
        descriptor: open for reading and writing (or reading alone); the segment owns it.
        in_memory: whether the file has never been on a disk, so that its pixels need no proof.

    Raises:
        ValueError: the file is not ours, is of another layout, or its head is damaged.
        OSError: it cannot be read or mapped.
    """

    def __init__(self, descriptor: int, *, in_memory: bool = False) -> None:
        self._file, self._in_memory = descriptor, in_memory
        layout = unpack_layout(os.pread(descriptor, HEAD_BYTES, 0))
        if layout is None or os.fstat(descriptor).st_size < layout.pixels_at:
            raise ValueError("not a file of decoded pictures, or its head is damaged")
        self._layout = layout
        self._table = mmap.mmap(descriptor, layout.pixels_at, mmap.MAP_SHARED, mmap.PROT_READ)
        self._pixels: mmap.mmap | None = None
        self._seen = mmap.mmap(-1, layout.num_slots)  # one byte a slot, shared with the processes that are forked
        self._stopped = False
        self._thread_lock = threading.Lock()

    @classmethod
    def create(
        cls, descriptor: int, num_pictures: int, limit: int, purpose: int = 0, *, in_memory: bool = False
    ) -> Segment:
        """Makes an empty file into a segment.

        Args:
            num_pictures: how many it shall hold at most.
            limit: bytes it may have at most.
            purpose: see `Layout`.
            in_memory: as for the constructor.

        Raises:
            OSError: there is no room even for its table.
        """
        layout = Layout(slots_for(num_pictures), limit, purpose)
        # The table is written out, not left a hole: a hole on a full tmpfs is a SIGBUS for the reader who maps it.
        zeros, at = bytes(min(layout.pixels_at, 1 << 20)), 0
        while at < layout.pixels_at:
            at += os.pwrite(descriptor, zeros[: layout.pixels_at - at], at)
        os.pwrite(descriptor, pack_progress(Progress(layout.pixels_at, 0)), CHANGING_AT)
        os.pwrite(descriptor, pack_layout(layout), 0)
        return cls(descriptor, in_memory=in_memory)

    def __getstate__(self) -> Any:
        return reduction.DupFd(self._file), self._in_memory

    def __setstate__(self, state: Any) -> None:
        duplicate, in_memory = state
        self.__init__(duplicate.detach(), in_memory=in_memory)  # type: ignore[misc]

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            os.close(self._file)

    def read(self, key: bytes) -> Tensor | None:
        """Returns the picture as `[C, H, W]` uint8, a view of the file's own memory; None when it is not there.

        A write into the view stays in this process, and spoils the picture for it: copy first. Damaged
        pixels are not returned; `add` puts them right.
        """
        found = self._find(key)
        if found is None:
            return None
        slot, record = found
        if not self._in_memory and self._seen[slot] == _UNSEEN:
            self._seen[slot] = _SOUND if self._is_sound(record) else _DAMAGED
        pixels = self._map_to(record) if self._seen[slot] != _DAMAGED else None
        if pixels is None:
            return None
        flat = torch.frombuffer(pixels, dtype=torch.uint8, count=record.num_bytes, offset=record.offset)
        return flat.view(record.shape).permute(2, 0, 1)

    def has(self, key: bytes) -> bool:
        """Whether there is a whole record of the key; its pixels are not looked at."""
        return self._find(key) is not None

    def add(self, key: bytes, picture: Tensor) -> bool:
        """Stores a picture, `[C, H, W]` uint8; returns whether it is there now. A failing disk ends the growing.

        A record whose pixels this process found damaged is written again.
        """
        if self._stopped:
            return False
        pixels = memoryview(cast(Any, picture.permute(1, 2, 0).contiguous().numpy()))
        try:
            with self._locked():
                record, slot = self._reserve(key, pixels.shape or (), xxhash.xxh3_64_intdigest(pixels))
            if slot is None:
                return record is not None
            assert record is not None
            _write_all(self._file, pixels.cast("B"), record.offset)
            _write_all(self._file, pack_record(record, whole=True), self._layout.slot_at(slot))
            self._seen[slot] = _UNSEEN
        except OSError as error:
            self._stop(error.errno or errno.EIO)
            return False
        return True

    def progress(self) -> Progress:
        """Returns how far it is filled; STOPPED reasons of `record.py`, EIO when its head is damaged."""
        found = unpack_progress(self._table[CHANGING_AT : CHANGING_AT + PROGRESS_BYTES])
        return found or Progress(self._layout.limit, self._layout.num_slots, errno.EIO)

    def may_grow_again(self) -> None:
        """Forgets why it stopped growing: there may be room now. Raises OSError when the file is not writable."""
        with self._locked():
            now = self.progress()
            if now.stopped and now.end < self._layout.limit:
                _write_all(self._file, pack_progress(Progress(now.end, now.num_claimed)), CHANGING_AT)
        self._stopped = False

    def has_room(self, num_pictures: int, bytes_a_picture: float) -> bool:
        """Whether so many more pictures of about this size fit."""
        now = self.progress()
        slots = self._layout.num_slots // 2 - now.num_claimed
        return slots >= num_pictures and self._layout.limit - now.end >= num_pictures * bytes_a_picture

    @property
    def limit(self) -> int:
        """Bytes it may have at most."""
        return self._layout.limit

    @property
    def purpose(self) -> int:
        """What set of pictures it was made for."""
        return self._layout.purpose

    def _find(self, key: bytes) -> tuple[int, Record] | None:
        for slot in self._slots(key):
            data = self._slot(slot)
            if data.startswith(key) and (record := unpack_record(data)) is not None:
                return slot, record
            if is_free(data):
                return None
        return None

    def _slots(self, key: bytes) -> Iterator[int]:
        """The slots where a key may be, in order; keys are digests, so their bytes are as good as random."""
        num_slots = self._layout.num_slots
        first = int.from_bytes(key[:8], "little") & (num_slots - 1)
        yield first
        yield from (slot & (num_slots - 1) for slot in range(first + 1, first + num_slots))

    def _slot(self, slot: int) -> bytes:
        at = self._layout.slot_at(slot)
        return self._table[at : at + RECORD_BYTES]

    def _is_sound(self, record: Record) -> bool:
        """Reads the pixels once: an error of the disk is an error here, and a signal in mapped memory."""
        digest, piece = xxhash.xxh3_64(), memoryview(bytearray(min(record.num_bytes, _PIECE_BYTES)))
        at, end = record.offset, record.offset + record.num_bytes
        while at < end:
            try:
                got = os.preadv(self._file, [piece[: end - at]], at)
            except OSError:
                return False
            if not got:
                return False  # cut short
            digest.update(piece[:got])
            at += got
        return digest.intdigest() == record.digest

    def _map_to(self, record: Record) -> mmap.mmap | None:
        """Returns a map that covers the record; the file grows, and is mapped anew when it has."""
        end = record.offset + record.num_bytes
        if self._pixels is None or len(self._pixels) < end:
            try:
                size = os.fstat(self._file).st_size
                if size < end:
                    return None
                # Private: a write into a picture never reaches the file. No memory is set aside for such writes.
                flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0)
                self._pixels = mmap.mmap(self._file, size, flags, mmap.PROT_READ | mmap.PROT_WRITE)
            except (OSError, ValueError):
                return None
        return self._pixels

    def _reserve(self, key: bytes, shape: tuple[int, ...], digest: int) -> tuple[Record | None, int | None]:
        """Returns (record, slot) to write; (record, None) when it is there already; (None, None) when nothing fits."""
        found = self._find(key)
        if found is not None:
            slot, record = found
            again = self._seen[slot] == _DAMAGED and (record.shape, record.digest) == (shape, digest)
            return record, slot if again else None
        now = self.progress()
        record = Record(key, now.end, (shape[0], shape[1], shape[2]), digest)
        end = -(-(now.end + record.num_bytes) // ALIGNMENT) * ALIGNMENT
        if now.stopped or now.num_claimed * 2 >= self._layout.num_slots or end > self._layout.limit:
            self._stopped = True
            if not now.stopped:
                _write_all(self._file, pack_progress(Progress(now.end, now.num_claimed, STOPPED_FULL)), CHANGING_AT)
            return None, None
        slot = next(slot for slot in self._slots(key) if is_free(self._slot(slot)))
        _write_all(self._file, pack_progress(Progress(end, now.num_claimed + 1)), CHANGING_AT)
        _write_all(self._file, pack_record(record, whole=False), self._layout.slot_at(slot))
        return record, slot

    def _stop(self, reason: int) -> None:
        self._stopped = True
        with contextlib.suppress(OSError), self._locked():  # a disk that takes nothing may not take this either
            now = self.progress()
            _write_all(self._file, pack_progress(Progress(now.end, now.num_claimed, reason)), CHANGING_AT)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer reserves at a time. The system frees the lock of a process that is killed."""
        with self._thread_lock:  # a process does not lock itself out of a file
            fcntl.lockf(self._file, fcntl.LOCK_EX, HEAD_BYTES)
            try:
                yield
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN, HEAD_BYTES)


def _write_all(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    view, at = memoryview(data), 0
    while at < len(view):  # a disk that becomes full writes a part first
        at += os.pwrite(descriptor, view[at:], offset + at)
