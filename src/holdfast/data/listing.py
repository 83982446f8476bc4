"""The names in one folder, as bytes in one array: no Python object is made for a name.

`os.scandir` makes two objects a name under the interpreter's lock, which alone takes as long as a million pictures may
take in all, and no number of threads helps. Linux hands out names in blocks (`getdents64`); read through ctypes the
lock is free while the kernel works, and NumPy takes the blocks apart. Elsewhere `os.scandir` fills the same table.
This file knows nothing of pictures.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

# dirent.h; 0 means that the file system does not say.
UNKNOWN, PIPE, FOLDER, FILE, LINK = 0, 1, 4, 8, 10
# What comes before the name in a `struct linux_dirent64`: inode, offset, length of the record, kind.
_LENGTH_AT, _KIND_AT, _NAME_AT = 16, 18, 19
_SHORTEST = 24  # bytes of a record, a multiple of eight: its last eight bytes begin three before the name
_FIRST_BLOCK = 1 << 18  # bytes; a block holds thousands of names, and the buffer grows
_NOTHING = np.zeros(0, np.uint8)
_FEW_BYTES = 4096  # about a hundred names
_MARGIN = 264  # bytes: more than a name, which has 255 at most


@dataclass(frozen=True)
class Names:
    """The names in a folder, in no order, without `.` and `..`.

    Attributes:
        data: `[*]` uint8; names lie somewhere in it.
        starts, ends: `[n]` int64: name `i` is `data[starts[i]:ends[i]]`.
        kinds: `[n]` uint8: FILE, FOLDER, LINK, UNKNOWN, or another d_type.
    """

    data: Bytes
    starts: Ints
    ends: Ints
    kinds: Bytes

    def __len__(self) -> int:
        return len(self.starts)

    def name(self, index: int) -> bytes:
        """Returns one name."""
        return self.data[self.starts[index] : self.ends[index]].tobytes()

    def take(self, chosen: npt.NDArray[np.bool_] | Ints) -> Names:
        """Returns some of the names, by a mask or by indices."""
        return Names(self.data, self.starts[chosen], self.ends[chosen], self.kinds[chosen])

    def compact(self) -> Bytes:
        """Returns the names one after the other, without what lies between them, in memory of its own."""
        lengths = self.ends - self.starts
        if not len(lengths):
            return np.zeros(0, np.uint8)
        longest = int(lengths.max())
        rows = rows_at(self.data, self.starts, longest)
        return rows.ravel() if longest == lengths.min() else rows[columns_below(lengths, longest)]


def rows_at(data: Bytes, starts: Ints, width: int) -> Bytes:
    """Returns the `width` bytes from each of `starts` on, `[n, width]`; each row is copied as a whole."""
    items = np.ndarray((len(data) - width + 1,), f"V{width}", data, 0, (1,))
    return items[starts].view(np.uint8).reshape(-1, width)


def words_at(data: Bytes, starts: Ints) -> npt.NDArray[np.uint64]:
    """Returns the eight bytes from each of `starts` on as one number, the first byte lowest."""
    items: npt.NDArray[np.uint64] = np.ndarray((len(data) - 7,), "<u8", data, 0, (1,))
    return items[starts]


def columns_below(lengths: Ints, width: int) -> npt.NDArray[np.bool_]:
    """Returns a mask `[n, width]` of the first `lengths[i]` columns of each row."""
    return rows_at(_step(width), width - lengths, width).view(np.bool_)


@lru_cache(256)
def _step(width: int) -> Bytes:
    return np.repeat(np.array([1, 0], np.uint8), width)


def names_of(names: Sequence[bytes], kinds: Bytes) -> Names:
    """Returns names that are at hand one by one as a table."""
    lengths = np.array([len(name) for name in names], np.int64)
    margin = _MARGIN + int(lengths.max(initial=0))  # a row as long as the longest may begin and end at any name
    ends = margin + np.cumsum(lengths)
    data = np.frombuffer(bytes(margin) + b"".join(names) + bytes(margin), np.uint8)
    return Names(data, ends - lengths, ends, kinds)


def list_folder(descriptor: int) -> Names | list[tuple[bytes, int]]:
    """Returns the names in the folder that is open as `descriptor`; a few come as a list of (name, kind).

    For a few names arrays cost more than they save. They may lie in a buffer that this thread's next call fills anew:
    take what is needed out first.

    Raises:
        OSError: the folder cannot be read.
    """
    if _getdents64 is None:
        return _from_scandir(descriptor)
    buffer, size = _read_blocks(descriptor)
    return _few_from_blocks(buffer[:size].tobytes()) if size <= _FEW_BYTES else _from_blocks(buffer, size)


def kind_of(mode: int) -> int:
    """Returns the kind that a file's `st_mode` says, as in `Names.kinds`."""
    return stat.S_IFMT(mode) >> 12  # the numbers of dirent.h are those of stat.h, shifted


def _from_scandir(descriptor: int) -> list[tuple[bytes, int]]:
    with os.scandir(descriptor) as entries:
        return [
            (
                os.fsencode(entry.name),
                LINK if entry.is_symlink() else
                FILE if entry.is_file(follow_symlinks=False) else
                FOLDER if entry.is_dir(follow_symlinks=False) else PIPE,
            )
            for entry in entries
        ]  # fmt: skip


def _find_getdents64() -> ctypes._NamedFuncPointer | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        function = ctypes.CDLL(None, use_errno=True).getdents64
    except (OSError, AttributeError):  # a C library older than glibc 2.30
        return None
    function.argtypes, function.restype = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t], ctypes.c_ssize_t
    return function


_getdents64 = _find_getdents64()
_buffers = threading.local()


def _read_blocks(descriptor: int) -> tuple[Bytes, int]:
    """Returns this thread's buffer with all records of the folder, and how many bytes they take."""
    assert _getdents64 is not None
    buffer: Bytes = getattr(_buffers, "buffer", _NOTHING)
    size = 0
    while True:
        if len(buffer) - size < _FIRST_BLOCK // 2:
            buffer = np.concatenate([buffer, np.zeros(max(len(buffer), _FIRST_BLOCK), np.uint8)])
        # The last bytes stay free, so that a row as long as a name may begin at any name.
        got = _getdents64(descriptor, buffer.ctypes.data + size, len(buffer) - size - _MARGIN)
        if got < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        if got == 0:
            break
        size += got
    _buffers.buffer = buffer
    return buffer, size


def _few_from_blocks(data: bytes) -> list[tuple[bytes, int]]:
    few, place = [], 0
    while place < len(data):
        length, kind = struct.unpack_from("=HB", data, place + _LENGTH_AT)
        name = data[place + _NAME_AT : data.index(0, place + _NAME_AT)]
        if name not in (b".", b".."):
            few.append((name, kind))
        place += length
    return few


def _from_blocks(buffer: Bytes, size: int) -> Names:
    records = _record_starts(buffer, size)
    lengths = buffer.view(np.uint16)[(records + _LENGTH_AT) >> 1]
    after = records + lengths
    starts, ends = records + _NAME_AT, after - 8 + _first_zero(buffer.view(np.uint64)[(after >> 3) - 1], lengths)
    kinds = buffer[records + _KIND_AT]
    short = ends - starts <= 2
    dots = [i for i in np.flatnonzero(short).tolist() if buffer[starts[i] : ends[i]].tobytes() in (b".", b"..")]
    names = Names(buffer, starts, ends, kinds)
    if dots == [0, 1]:  # where most file systems put them
        return Names(buffer, starts[2:], ends[2:], kinds[2:])
    return names.take(np.delete(np.arange(len(names)), dots))


def _first_zero(words: npt.NDArray[np.uint64], lengths: npt.NDArray[np.uint16]) -> Ints:
    """Returns which byte of the last eight of each record is the first zero: the name ends there.

    What follows it was never written, and may be anything.

    Source: H. S. Warren, Hacker's Delight, 2nd ed., section 6-1.
    """
    words[lengths == _SHORTEST] |= np.uint64(0xFFFFFF)  # three bytes that belong to no name
    high = np.uint64(0x8080808080808080)
    zeros = (words - np.uint64(0x0101010101010101)) & ~words & high
    lowest = zeros & (~zeros + np.uint64(1))
    # A power of two is exact as a float64, and its exponent says which: 7, 15, 23 …
    return ((lowest.astype(np.float64).view(np.int64) >> 52) - 1023) >> 3


def _record_starts(buffer: Bytes, size: int) -> Ints:
    """Returns where records begin, `[n]` int64. Each says its own length, so each start follows from the one before."""
    lengths = buffer[:size].view(np.uint16)[_LENGTH_AT >> 1 :: 4]  # of a record, if one begins at this multiple of 8
    heads: list[int] = []
    place = 0
    while place < size and len(heads) < 3:  # `.` and `..` are short and come first
        heads.append(place)
        place += int(lengths[place >> 3])
    if place >= size:
        return np.array(heads, np.int64)
    step = int(lengths[place >> 3])
    regular = np.arange(place, size, step)
    if (size - place) % step == 0 and (lengths[regular >> 3] == step).all():
        return np.concatenate([np.array(heads, np.int64), regular])
    return np.concatenate([np.array(heads, np.int64), _follow(lengths, place >> 3, size >> 3) << 3])


def _follow(lengths: npt.NDArray[np.uint16], first: int, end: int) -> Ints:
    """Returns the chain first, next(first), next(next(first)) … below `end`, by doubling: ten rounds for a thousand."""
    jump = np.arange(end + 1, dtype=np.int64)
    jump[: len(lengths)] += np.maximum(lengths >> 3, 1)
    np.minimum(jump, end, out=jump)
    chain = np.array([first], np.int64)
    while chain[-1] < end:
        chain = np.concatenate([chain, jump[chain]])
        jump = jump[jump]
    return chain[: np.searchsorted(chain, end)]
