"""A new file that is written past the page cache where the file system allows it.

A checkpoint is written once and read rarely. Copying it into the page cache costs a core about a second a gigabyte,
pushes out the pictures that training reads, and has to be flushed before the save counts. Direct writes take blocks
from aligned memory, so the bytes pass through a few small buffers: while the disk takes some, the next is filled.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from holdfast.checkpoints.background import Background

BUFFER_BYTES = 4 << 20
NUM_BUFFERS = 4  # a disk that must wait for its next write stands still; two buffers left it idle on a busy machine
_HUGE = 2 << 20  # bytes of a huge page; buffers begin on one where the system has them
_BLOCK = 4096  # bytes; no disk in use has larger logical blocks
_DIRECT = getattr(os, "O_DIRECT", 0)  # macOS has none
_spare: deque[list[memoryview]] = deque(maxlen=1)  # the buffers of the file before: fresh memory is slow memory


class DirectFile:
    """A new file, open for writing from its beginning to its end.

    Args:
        path: must not exist.

    Raises:
        OSError: from every method; an error of the disk may show at a later call than the one that caused it.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = _open_new(path)
        self._buffers = _take_buffers()
        self._filled = 0
        self._num_bytes = 0
        self._has_failed = False
        # Not an executor of concurrent.futures: these take no more work once the main thread has ended, and a save
        # that is under way then is finished all the same.
        self._disk = Background()

    @property
    def descriptor(self) -> int:
        """The file's descriptor, for syncing."""
        return self._descriptor

    def write(self, view: memoryview) -> None:
        """Appends bytes (a flat view of unsigned bytes)."""
        while view:
            taken = min(len(view), BUFFER_BYTES - self._filled)
            # NumPy copies without holding the interpreter; a memoryview would stop the training loop meanwhile.
            target = np.frombuffer(self._buffers[0], np.uint8, taken, self._filled)
            target[:] = np.frombuffer(view, np.uint8, taken)
            self._filled += taken
            view = view[taken:]
            if self._filled == BUFFER_BYTES:
                self._hand_over(BUFFER_BYTES)

    def finish(self) -> None:
        """Writes what is left and gives the file its exact size."""
        exact = self._num_bytes + self._filled
        if self._filled:
            self._hand_over(-(-self._filled // _BLOCK) * _BLOCK)  # the last block is filled up …
        self._wait()
        if self._num_bytes != exact:
            os.ftruncate(self._descriptor, exact)  # … and cut off again

    def close(self) -> None:
        """Closes the file, whatever became of it."""
        self._disk.wait()
        self._disk.end()
        _spare.append(self._buffers)
        os.close(self._descriptor)

    def _hand_over(self, num_bytes: int) -> None:
        self._wait(NUM_BUFFERS - 2)  # then the oldest buffer is free, and it is filled next
        view = self._buffers[0][:num_bytes]
        self._disk.submit(lambda: self._put(view))
        self._buffers.append(self._buffers.pop(0))
        self._num_bytes += num_bytes
        self._filled = 0

    def _put(self, view: memoryview) -> None:
        if self._has_failed:
            return  # nothing is written behind a hole
        try:
            _write_all(self._descriptor, view)
        except BaseException:
            self._has_failed = True
            raise

    def _wait(self, at_most: int = 0) -> None:
        self._disk.wait(at_most)
        if (failure := self._disk.take_failure()) is not None:
            raise failure


def _take_buffers() -> list[memoryview]:
    with contextlib.suppress(IndexError):  # another store writes at this moment
        buffers = _spare.pop()
        if [len(buffer) for buffer in buffers] == [BUFFER_BYTES] * NUM_BUFFERS:
            return buffers
    # Private: a forked process that saves too has copies of its own.
    region = mmap.mmap(-1, NUM_BUFFERS * BUFFER_BYTES + _HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        # A disk takes a list of pages that lie together. Of scattered small ones it is as long as a request may be
        # after less than a mebibyte, and writing took half as long again.
        region.madvise(mmap.MADV_HUGEPAGE)
    view = memoryview(region)
    start = -np.frombuffer(region, np.uint8).ctypes.data % _HUGE
    return [view[at : at + BUFFER_BYTES] for at in range(start, start + NUM_BUFFERS * BUFFER_BYTES, BUFFER_BYTES)]


@contextmanager
def open_direct(path: Path) -> Iterator[DirectFile]:
    """Opens a new file for direct writing, and closes it at the end of the block."""
    file = DirectFile(path)
    try:
        yield file
    finally:
        file.close()


def _open_new(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(path, flags | _DIRECT, 0o644)
    except OSError as error:
        if error.errno != errno.EINVAL:  # what a file system says that has no direct writes
            raise
    path.unlink(missing_ok=True)
    return os.open(path, flags, 0o644)


def _write_all(descriptor: int, view: memoryview) -> None:
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except OSError as error:
            flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
            if error.errno != errno.EINVAL or not flags & _DIRECT:
                raise
            # Opened for direct writes, and refuses them: some network file systems, or after a short write.
            fcntl.fcntl(descriptor, fcntl.F_SETFL, flags & ~_DIRECT)
