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
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Lengths = npt.NDArray[np.uint16]

# dirent.h; 0 means that the file system does not say.
UNKNOWN, PIPE, FOLDER, FILE, LINK = 0, 1, 4, 8, 10
# What comes before the name in a `struct linux_dirent64`: inode, offset, length of the record, kind.
_LENGTH_AT, _KIND_AT, _NAME_AT = 16, 18, 19
_SHORTEST = 24  # bytes of a record, a multiple of eight: its last eight bytes begin three before the name
_FIRST_BLOCK = 1 << 18  # bytes; a block holds thousands of names, and the buffer grows
_FEW_BYTES = 4096  # of a folder, about a hundred names
_DOT, _DOTS = np.frombuffer(b".\0\0", np.uint8), np.frombuffer(b"..\0", np.uint8)
_MARGIN = 264  # bytes, a multiple of eight: more than a name, which has 255 at most


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

    def lengths(self) -> Lengths:
        """Returns how many bytes each name has, `[n]`."""
        return (self.ends - self.starts).astype(np.uint16)  # 255 on Linux, three times as many elsewhere

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


def list_folder(descriptor: int) -> Names:
    """Returns the names in the folder that is open as `descriptor`.

    Raises:
        OSError: the folder cannot be read.
    """
    records = Records()
    records.add(descriptor)
    return records.names()[0]


class Records:
    """What the kernel says of many folders, one after the other in one buffer, to be taken apart at once.

    A call of NumPy takes a microsecond, however few names there are: ten names of a folder are not worth forty calls.
    """

    def __init__(self) -> None:
        # What lies before and after a name is looked at with it, and counts for nothing.
        self._buffer = np.zeros(_MARGIN, np.uint8)
        self._address = 0
        self._bounds = [_MARGIN]  # where each folder's records begin, and the last one's end
        self._listed: list[tuple[bytes, int]] = []  # where the system hands out no blocks
        self._counts: list[int] = []

    @property
    def num_bytes(self) -> int:
        """How much has been read."""
        return self._bounds[-1] - _MARGIN + 64 * len(self._listed)

    def add(self, descriptor: int) -> None:
        """Reads the folder that is open as `descriptor`. Raises OSError, and then has added nothing."""
        if _getdents64 is None:
            listed = _from_scandir(descriptor)
            self._listed += listed
            self._counts.append(len(listed))
            return
        size = self._bounds[-1]
        while True:
            # The last bytes stay free, so that a row as long as a name may begin at any name.
            room = len(self._buffer) - size - _MARGIN
            if room < _FIRST_BLOCK // 2:
                more = np.empty(max(len(self._buffer), _FIRST_BLOCK), np.uint8)
                self._buffer = np.concatenate([self._buffer, more])
                self._address = self._buffer.ctypes.data
                continue
            got = _getdents64(descriptor, self._address + size, room)
            if got < 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
            if got == 0:
                break
            size += got
        self._bounds.append(size)

    def names(self) -> tuple[Names, Ints]:
        """Returns all names, and where each folder's begin among them: `[F + 1]`, of the last where they end.

        The names lie in the buffer: call `clear` when they are not needed any more, and only then.
        """
        if _getdents64 is None:
            kinds = np.array([kind for _, kind in self._listed], np.uint8)
            return names_of([name for name, _ in self._listed], kinds), np.cumsum([0, *self._counts])
        return _from_blocks(self._buffer, self._bounds)

    def clear(self) -> None:
        """Forgets all folders, and keeps the buffer for others."""
        self._bounds, self._listed, self._counts = [_MARGIN], [], []


def give_back_freed_memory() -> None:
    """Returns memory that nothing uses to the system, where the C library (glibc) would keep it.

    A scan makes and frees thousands of small arrays. They leave holes that stay resident, as large as the paths
    themselves, and that every worker process would fill anew with pages of its own.
    """
    if _malloc_trim is not None:
        _malloc_trim(0)


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
_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None


def _from_blocks(buffer: Bytes, bounds: list[int]) -> tuple[Names, Ints]:
    records = _record_starts(buffer, bounds)
    lengths = buffer[: bounds[-1]].view(np.uint16)[(records + _LENGTH_AT) >> 1]
    short = np.flatnonzero(lengths == _SHORTEST)  # `.` and `..` are among these
    names = rows_at(buffer, records[short] + _NAME_AT, 3)
    dots = short[((names == _DOT) | (names == _DOTS)).all(1) | (names[:, :2] == _DOT[:2]).all(1)]
    kept = np.ones(len(records), np.bool_)
    kept[dots] = False
    records, lengths = records[kept], lengths[kept]
    after = records + lengths
    ends = after - 8 + _first_zero(buffer[: bounds[-1]].view(np.uint64)[(after >> 3) - 1], lengths)
    return Names(buffer, records + _NAME_AT, ends, buffer[records + _KIND_AT]), np.searchsorted(records, bounds)


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


def _record_starts(buffer: Bytes, bounds: list[int]) -> Ints:
    """Returns where records begin, `[n]` int64. Each says its own length, so each start follows from the one before."""
    size = bounds[-1]
    lengths = buffer[:size].view(np.uint16)[_LENGTH_AT >> 1 :: 4]  # of a record, if one begins at this multiple of 8
    edges = np.array(bounds)
    large = np.flatnonzero(np.diff(edges) > _FEW_BYTES)
    found = [_of_large(lengths, bounds[folder], bounds[folder + 1]) for folder in large.tolist()]
    # Small folders side by side: the first record of each, the second of each …
    place, end = np.delete(edges[:-1], large), np.delete(edges[1:], large)
    while len(place):
        inside = place < end
        place, end = place[inside], end[inside]
        found.append(place)
        place = place + lengths[place >> 3]
    return np.sort(np.concatenate(found)) if found else np.zeros(0, np.int64)


def _of_large(lengths: npt.NDArray[np.uint16], place: int, end: int) -> Ints:
    heads: list[int] = []
    while place < end and len(heads) < 3:  # `.` and `..` are short and come first
        heads.append(place)
        place += int(lengths[place >> 3])
    if place >= end:
        return np.array(heads, np.int64)
    step = int(lengths[place >> 3])
    regular = np.arange(place, end, step)
    if (end - place) % step == 0 and (lengths[regular >> 3] == step).all():
        return np.concatenate([np.array(heads, np.int64), regular])
    follow = _follow(lengths[place >> 3 : end >> 3], 0, (end - place) >> 3)
    return np.concatenate([np.array(heads, np.int64), place + (follow << 3)])


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
