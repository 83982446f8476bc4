"""The checksum of zip archives over large data, at the speed of memory instead of zlib's.

A CRC is the remainder of the data, taken as a polynomial over GF(2), by a fixed polynomial P. It stays the same when a
multiple of P is added. P divides x^(64·91639) + x^(64·41678) + 1, so a word of 8 bytes may be struck out when it is
added to the words 49,961 and 91,639 places behind it. NumPy strikes out whole blocks so; what is left at the end, 733
kilobytes, goes through zlib. `tests/unit/formats/test_crc32.py` proves that P divides it.

Source: CRC-32 as in the .ZIP File Format Specification (APPNOTE) 4.4.7; the trinomial was searched for: x^64 generates
all remainders, of which 2^32 exist, so one of a degree near 2^16.5 was to be expected.
"""

from __future__ import annotations

import sys
import zlib
from collections import deque
from typing import Any

FAR, NEAR = 91_639, 41_678  # exponents of x^64
_STEP = FAR - NEAR
_BLOCK = min(NEAR, _STEP)  # words whose sums do not reach each other
_FOLDED_FROM = 4 << 20  # bytes; below, zlib is as fast
_WORD = 8
_spare: deque[Any] = deque(maxlen=4)  # sums that are done with: fresh memory is slow memory


def crc32(data: memoryview) -> int:
    """Returns the CRC-32 of the bytes, the same as `zlib.crc32`."""
    running = Crc32(len(data))
    running.update(data)
    return running.finish()


class Crc32:
    """A CRC-32 of data that comes in pieces.

    Args:
        num_bytes: how many there will be in all.
    """

    def __init__(self, num_bytes: int) -> None:
        self._crc = 0
        self._sums: Any = None  # FAR words, the sum that belongs to word n at n % FAR
        self._at, self._left = 0, 0  # words struck out, and still to be
        self._tail = b""
        # Whoever reads tensors has imported NumPy; whoever only looks at a file pays for no import.
        if num_bytes >= _FOLDED_FROM and (numpy := sys.modules.get("numpy")):
            self._sums = _taken_sums(numpy)
            self._sums.view(numpy.uint8)[:4] = 0xFF  # a CRC begins with all ones: as inverting 4 bytes
            self._left = num_bytes // _WORD - FAR

    def update(self, data: memoryview) -> None:
        """Takes the next bytes; of all pieces but the last, the length is a multiple of 8."""
        if self._sums is None:
            self._crc = zlib.crc32(data, self._crc)
            return
        import numpy as np

        whole = len(data) - len(data) % _WORD
        self._tail = bytes(data[whole:])
        words = np.frombuffer(data[:whole], np.uint64)
        while len(words):
            words = words[self._strike(words) :]

    def _strike(self, words: Any) -> int:
        """Takes some of the words in and returns how many."""
        import numpy as np

        here, there = self._at % FAR, (self._at + _STEP) % FAR
        count = min(len(words), _BLOCK, FAR - here, FAR - there, self._left or FAR)
        taken = self._sums[here : here + count]
        np.bitwise_xor(taken, words[:count], out=taken)  # it stays here as what is added FAR places behind …
        if self._left:
            behind = self._sums[there : there + count]
            np.bitwise_xor(behind, taken, out=behind)  # … and is added here FAR - NEAR places behind
            self._left -= count
        self._at += count
        return count

    def finish(self) -> int:
        """Returns the checksum of everything."""
        if self._sums is None:
            return self._crc
        first = self._at % FAR
        crc = 0xFFFFFFFF  # which is no beginning at all: that is in the sums already
        for rest in (self._sums[first:], self._sums[:first]):
            crc = zlib.crc32(rest, crc)
        _spare.append(self._sums)
        self._sums, self._crc = None, zlib.crc32(self._tail, crc)
        return self._crc


def _taken_sums(numpy: Any) -> Any:
    """Returns FAR words, all zero."""
    try:
        sums = _spare.pop()
    except IndexError:  # several threads, or the first time
        return numpy.zeros(FAR, numpy.uint64)
    sums.fill(0)
    return sums
