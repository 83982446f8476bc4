"""Natural order: "2" before "10", "img9" before "img10".

`natural_key` says what it is. `natural_order` gives the same order for a whole folder at once: the pictures of a class
mostly differ in one number alone (`n01440764_10026.JPEG`), and then sorting them is sorting whole numbers.
"""

from __future__ import annotations

import os
import re

import numpy as np
import numpy.typing as npt

from holdfast.data.listing import Bytes, Ints, Names, columns_below, rows_at, words_at

_NUMBER = re.compile(r"(\d+)")
_FEW = 32  # names: from here on arrays are quicker than keys
_MOST_DIGITS = 15  # what a float64 holds exactly
_POWERS = 10.0 ** np.arange(_MOST_DIGITS - 1, -1, -1)
_ASCII = 0x80  # bytes below it are ASCII in UTF-8


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts "2" before "10", "img9" before "img10" and "img" before both; ties keep plain text order."""
    parts = _NUMBER.split(text)
    return (*((0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts if p), (-1, 0, text))


def natural_order(names: Names) -> Ints:
    """Returns the permutation that sorts names of one folder, `[n]` int64, as `natural_key` would."""
    numbers = _only_numbers(names) if len(names) >= _FEW else None
    if numbers is not None:
        order = np.argsort(numbers)
        if (np.diff(numbers[order]) > 0).all():  # "7" and "007" are one number: their order is that of their text
            return order
    keys = [natural_key(os.fsdecode(names.name(i))) for i in range(len(names))]
    return np.array(sorted(range(len(names)), key=keys.__getitem__), np.int64)


def _only_numbers(names: Names) -> npt.NDArray[np.float64] | None:
    """Returns the number in each name, if the names are alike but for one number of few digits; else None."""
    lengths = names.ends - names.starts
    shortest, longest = int(lengths.min()), int(lengths.max())
    first = names.name(0)
    before = _alike(names.data, names.starts, 8, shortest)
    while before and _is_digit(first[before - 1]):  # digits that all share belong to the number
        before -= 1
    after = _alike(names.data, names.ends - 8, -8, shortest)
    while after and _is_digit(first[-after]):
        after -= 1
    width = longest - before - after
    if before + after >= shortest or width > _MOST_DIGITS:
        return None
    # Beside the number may stand a digit of another script, which `natural_key` counts as part of it.
    if (before and first[before - 1] >= _ASCII) or (after and first[-after] >= _ASCII):
        return None
    # Right-aligned: in front of a shorter number stands what comes before it, which counts for nothing.
    digits = rows_at(names.data, names.ends - after - width, width) - np.uint8(ord("0"))
    if shortest < longest:
        digits *= ~columns_below(longest - lengths, width)
    if digits.max() > 9:
        return None
    return digits.astype(np.float64) @ _POWERS[-width:]  # exact, and quicker than integers


def _alike(data: Bytes, places: Ints, step: int, most: int) -> int:
    """Returns how many bytes all names have in common, `most` at most: eight at a time from `places`, by `step`."""
    for num in range(0, most, 8):
        words = words_at(data, places + num // 8 * step)
        different = int(np.bitwise_or.reduce(words ^ words[0]))
        if different:
            bits = (different & -different).bit_length() - 1 if step > 0 else 64 - different.bit_length()
            return min(num + bits // 8, most)
    return most


def _is_digit(byte: int) -> bool:
    return ord("0") <= byte <= ord("9")
