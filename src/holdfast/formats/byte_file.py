"""The bytes of a file that is only looked at: read in pieces or mapped into memory, never written.

It refuses to know what the bytes mean. The file stays open as long as something refers to it, so that one that is
replaced by another of the same name in the meantime is still the one that was opened.
"""

from __future__ import annotations

import mmap
import os
import stat
import weakref
import zlib
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from holdfast.errors import CheckpointCorrupt, CheckpointError

_MAPPED_FROM = 1 << 20  # bytes; smaller pieces are read, for a process may have only some 65,000 maps
_PIECE = 1 << 20  # bytes of one reading; more at a time is slower: the caches are left behind
_LOOKED_AT = 256 << 10  # bytes of what is only looked at: these stay in the cache of one core
_SMALL, _WINDOW = 16 << 10, 128 << 10  # bytes; readings up to the first that follow each other are one of the second

Look = Callable[[memoryview], None]
_spare: deque[memoryview] = deque(maxlen=4)  # buffers that are done with: fresh memory is slow memory


class Buffer(NamedTuple):
    """Memory that may be written to without changing any file: `num_bytes` bytes of `memory` from `start`."""

    memory: bytearray | mmap.mmap
    start: int
    num_bytes: int

    def view(self) -> memoryview:
        """Returns the bytes themselves."""
        return memoryview(self.memory)[self.start : self.start + self.num_bytes]


class ByteFile:
    """A file, opened for reading.

    Raises:
        CheckpointError: it is not there, or may not be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.where = os.fspath(path)
        try:
            # Without O_NONBLOCK, opening a pipe waits for whoever writes into it.
            self._descriptor = os.open(self.where, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise CheckpointError(f"Opening {self.where}: {reason}. Check the path.") from error
        self._close = weakref.finalize(self, os.close, self._descriptor)
        facts = os.fstat(self._descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise CheckpointError(f"Opening {self.where}: it is no file (a pipe, a device, a folder); expected a file.")
        self.num_bytes = facts.st_size
        self._window = (0, b"")  # where it begins, what lies there

    def read(self, start: int, count: int) -> bytes:
        """Returns `count` bytes from `start`, fewer at the end of the file.

        A file of many small things is read in windows: a system call for each would cost more than its bytes.
        """
        count = max(0, min(count, self.num_bytes - start))
        if count > _SMALL:
            return self._read(start, count)
        begin, window = self._window
        if begin <= start and start + count <= begin + len(window):
            return window[start - begin : start - begin + count]
        follows = 0 <= start - begin - len(window) <= _SMALL or begin <= start <= begin + len(window)
        found = self._read(start, min(_WINDOW if follows and window else count, self.num_bytes - start))
        self._window = start, found
        return found[:count]

    def _read(self, start: int, count: int) -> bytes:
        pieces: list[bytes] = []
        while count > 0:
            try:
                piece = os.pread(self._descriptor, min(count, 1 << 30), start)
            except OSError as error:
                raise CheckpointCorrupt(f"Reading {self.where}: {error.strerror or error}.") from error
            if not piece:
                break
            pieces.append(piece)
            start, count = start + len(piece), count - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def read_into(self, start: int, target: memoryview, look: Look | None = None) -> None:
        """Fills memory with the bytes from `start`, and lets each piece be looked at while it is still in the cache.

        Raises:
            CheckpointCorrupt: the file does not reach that far.
        """
        at = 0
        while at < len(target):
            piece = target[at : at + _PIECE]
            filled = 0
            while filled < len(piece):
                try:
                    count = os.preadv(self._descriptor, [piece[filled:]], start + at + filled)
                except OSError as error:
                    raise CheckpointCorrupt(f"Reading {self.where}: {error.strerror or error}.") from error
                if not count:
                    raise _cut(self, start, len(target), os.fstat(self._descriptor).st_size)
                filled += count
            if look:
                look(piece)
            at += len(piece)

    def look_through(self, start: int, count: int, look: Look | None = None) -> None:
        """Lets each piece of `count` bytes from `start` be looked at, and keeps none; without `look`, are they there?

        Raises:
            CheckpointCorrupt: the file does not reach that far, or no longer.
        """
        self.check(start, count)
        if not look:
            return
        try:
            buffer = _spare.pop()
        except IndexError:  # several threads, or the first time
            buffer = memoryview(bytearray(_LOOKED_AT))
        for at in range(0, count, _LOOKED_AT):
            piece = buffer[: min(_LOOKED_AT, count - at)]
            self.read_into(start + at, piece)
            look(piece)
        _spare.append(buffer)

    def check(self, start: int, count: int) -> None:
        """Raises CheckpointCorrupt when the file does not reach that far, as it is now: it may have been cut since."""
        end = min(self.num_bytes, os.fstat(self._descriptor).st_size)
        if start < 0 or start + count > end:
            raise _cut(self, start, count, end)

    def whole(self) -> bytes | mmap.mmap:
        """Returns the whole file, mapped; what is not touched is not read."""
        if not self.num_bytes:
            return b""
        return mmap.mmap(self._descriptor, self.num_bytes, access=mmap.ACCESS_READ)

    def buffer(self, start: int, count: int) -> Buffer:
        """Returns a piece as memory of one's own: mapped when it is large, so that it is read when it is used.

        Raises:
            CheckpointCorrupt: the file does not reach that far.
        """
        if start < 0 or start + count > self.num_bytes:
            raise _cut(self, start, count)
        if count < _MAPPED_FROM:
            found = bytearray(self.read(start, count))
            if len(found) < count:
                raise _cut(self, start, count, os.fstat(self._descriptor).st_size)
            return Buffer(found, 0, count)
        self.check(start, count)  # touching what was cut off since would end the process
        page = start - start % mmap.ALLOCATIONGRANULARITY
        try:
            memory = mmap.mmap(self._descriptor, start + count - page, access=mmap.ACCESS_COPY, offset=page)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"Reading {self.where}: cannot be mapped into memory ({error}).") from error
        return Buffer(memory, start - page, count)


class MemoryFile:
    """The same for bytes in memory: what came out of a compressed file."""

    def __init__(self, where: str, data: bytes) -> None:
        self.where = where
        self._data = data
        self.num_bytes = len(data)

    def read(self, start: int, count: int) -> bytes:
        """Returns `count` bytes from `start`, fewer at the end."""
        return self._data[start : start + count]

    def read_into(self, start: int, target: memoryview, look: Look | None = None) -> None:
        """Fills memory with the bytes from `start`. Raises CheckpointCorrupt when there are not as many."""
        with self.buffer(start, len(target)).view() as found:
            target[:] = found
        if look:
            look(target)

    def look_through(self, start: int, count: int, look: Look | None = None) -> None:
        """Lets the bytes be looked at. Raises CheckpointCorrupt when there are not as many."""
        if start < 0 or start + count > self.num_bytes:
            raise _cut(self, start, count)
        if look:
            look(memoryview(self._data)[start : start + count])

    def whole(self) -> bytes:
        """Returns all bytes."""
        return self._data

    def buffer(self, start: int, count: int) -> Buffer:
        """Returns a piece as memory of one's own. Raises CheckpointCorrupt when there is not as much."""
        if start < 0 or start + count > self.num_bytes:
            raise _cut(self, start, count)
        return Buffer(bytearray(self._data[start : start + count]), 0, count)


class FileSlice:
    """A piece of a file as a file of its own: an entry of an archive, one of many streams in a row.

    Args:
        file: what it is a piece of.
        start, num_bytes: where it lies there.
        place: what it is, for messages: " (weights/0)".

    Raises:
        CheckpointCorrupt: the file does not reach that far.
    """

    where: str
    num_bytes: int

    def __init__(self, file: ByteFile | MemoryFile | FileSlice, start: int, num_bytes: int, place: str = "") -> None:
        if start < 0 or num_bytes < 0 or start + num_bytes > file.num_bytes:
            raise CheckpointCorrupt(
                f"Reading {file.where}{place}: it ends at byte {file.num_bytes:,}; expected {num_bytes:,} bytes from "
                f"{start:,}. The file was cut; take another copy of it."
            )
        self.where = file.where + place
        self._file, self._start = file, start
        self.num_bytes = num_bytes

    def read(self, start: int, count: int) -> bytes:
        """Returns `count` bytes from `start`, fewer at the end of the piece."""
        return self._file.read(self._start + start, max(0, min(count, self.num_bytes - start)))

    def read_into(self, start: int, target: memoryview, look: Look | None = None) -> None:
        """Fills memory with the bytes from `start`. Raises CheckpointCorrupt when there are not as many."""
        if start < 0 or start + len(target) > self.num_bytes:
            raise _cut(self, start, len(target))
        self._file.read_into(self._start + start, target, look)

    def look_through(self, start: int, count: int, look: Look | None = None) -> None:
        """Lets the bytes be looked at, and keeps none. Raises CheckpointCorrupt when there are not as many."""
        if start < 0 or start + count > self.num_bytes:
            raise _cut(self, start, count)
        self._file.look_through(self._start + start, count, look)

    def whole(self) -> bytes:
        """Returns all bytes of the piece."""
        return self.read(0, self.num_bytes)

    def buffer(self, start: int, count: int) -> Buffer:
        """Returns some of them as memory of one's own. Raises CheckpointCorrupt when there are not as many."""
        if start < 0 or start + count > self.num_bytes:
            raise _cut(self, start, count)
        return self._file.buffer(self._start + start, count)


Bytes = ByteFile | MemoryFile | FileSlice


def _cut(file: Bytes, start: int, count: int, end: int | None = None) -> CheckpointCorrupt:
    end = file.num_bytes if end is None else end
    return CheckpointCorrupt(
        f"Reading {file.where}: it ends at byte {end:,}; expected {count:,} bytes from {start:,}. "
        "The file was cut; take another copy of it."
    )


def inflate(source: Bytes, start: int, count: int, limit: int, *, gzip: bool, place: str = "") -> bytearray:
    """Decompresses deflated data.

    Args:
        source: where it lies, compressed, from `start`, `count` bytes long.
        limit: the most that may come out.
        gzip: whether it has gzip's header (and may be several such streams one after another).
        place: of what it is, for messages: the entry of an archive.

    Raises:
        CheckpointCorrupt: it is damaged or cut.
        CheckpointError: more comes out than the limit.
    """
    what = f"Decompressing {source.where}{place}"
    made, at, stop, rest = bytearray(), start, start + count, b""
    while True:
        machine = zlib.decompressobj(zlib.MAX_WBITS | 16 if gzip else -zlib.MAX_WBITS)
        while not machine.eof:
            if not rest:
                rest = source.read(at, min(_PIECE, stop - at))
                at += len(rest)
            try:
                piece = machine.decompress(rest, _PIECE)
            except zlib.error as error:
                raise CheckpointCorrupt(f"{what}: found {error}. It is damaged; take another copy of it.") from error
            if not (rest or piece or machine.eof):
                raise CheckpointCorrupt(f"{what}: found no end of the {count:,} compressed bytes. It was cut.")
            made += piece
            rest = machine.unconsumed_tail
            if len(made) > limit:
                raise CheckpointError(
                    f"{what}: more than {limit:,} bytes come out of {count:,}; no weights shrink like that. "
                    "If you trust it, decompress it yourself and open what comes out."
                )
        rest = machine.unused_data or source.read(at, min(_PIECE, stop - at))
        at += 0 if machine.unused_data else len(rest)
        if not gzip or rest[:2] != b"\x1f\x8b":
            return made
