from __future__ import annotations

import random
import sys
import zlib

import numpy as np
import pytest

from holdfast.formats.crc32 import FAR, NEAR, Crc32, crc32

_P = 0x104C11DB7


def _times(a: int, b: int) -> int:
    """Returns the product of two remainders by the polynomial of CRC-32."""
    product = 0
    for bit in range(32):
        if b >> bit & 1:
            product ^= a << bit
    for bit in range(62, 31, -1):
        if product >> bit & 1:
            product ^= _P << (bit - 32)
    return product


def _power(exponent: int) -> int:
    """Returns x to that power by the polynomial of CRC-32."""
    result, square = 1, 2
    while exponent:
        if exponent & 1:
            result = _times(result, square)
        square, exponent = _times(square, square), exponent >> 1
    return result


def test_the_polynomial_of_crc_32_divides_the_trinomial() -> None:
    """What a word is replaced by leaves the same remainder."""
    assert _power(64 * FAR) ^ _power(64 * NEAR) ^ 1 == 0
    assert _power(64 * FAR) ^ _power(64 * (NEAR + 1)) ^ 1 != 0


@pytest.mark.parametrize("num_bytes", [0, 1, 7, 4096, (4 << 20) - 1, 4 << 20, (4 << 20) + 1, (9 << 20) + 5, 12 << 20])
@pytest.mark.parametrize("shift", [0, 3])
def test_the_checksum_is_that_of_zlib(num_bytes: int, shift: int) -> None:
    """Whatever the length, and wherever in memory the data begin."""
    data = memoryview(np.random.default_rng(num_bytes).bytes(num_bytes + shift))[shift:]
    assert crc32(data) == zlib.crc32(data)


def test_pieces_give_the_checksum_of_the_whole() -> None:
    """Data that come in pieces of any number of words, with a last one of any length."""
    dice, data = random.Random(0), np.random.default_rng(0).bytes((7 << 20) + 3)
    running, at = Crc32(len(data)), 0
    while at < len(data):
        size = 8 * dice.choice((1, 5, 1000, 49_961, 91_639, 200_000))
        running.update(memoryview(data)[at : at + size])
        at += size
    assert running.finish() == zlib.crc32(data)


def test_without_numpy_it_is_zlibs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking at a file imports nothing: NumPy is used where it is there already."""
    data = memoryview(np.random.default_rng(1).bytes(5 << 20))
    monkeypatch.delitem(sys.modules, "numpy")
    assert crc32(data) == zlib.crc32(data)
    assert "numpy" not in sys.modules


@pytest.mark.parametrize("at", [0, 4_000_000, -1])
def test_one_changed_bit_changes_it(at: int) -> None:
    """At the beginning, in what is struck out, and at the end."""
    data = bytearray(5 << 20)
    before = crc32(memoryview(data))
    data[at] ^= 1
    assert crc32(memoryview(data)) != before
