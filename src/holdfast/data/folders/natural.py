"""Natural order: "2" before "10", "img9" before "img10".

`natural_key` says what it is. `natural_order` gives the same order for a whole folder at once, and `order_in_folders`
for many: the pictures of a class mostly differ in one number alone (`n01440764_10026.JPEG`), and then sorting them is
sorting whole numbers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from holdfast.data.folders.listing import Bytes, Ints, Names, names_of, words_at

_NUMBER = re.compile(r"(\d+)")
_FEW = 32  # names: from here on arrays are quicker than keys
_MOST_DIGITS = 15  # more are compared as Python's whole numbers
_LAST_BYTES = np.array([(1 << 64) - (1 << 64 - 8 * num) for num in range(9)], np.uint64)  # the last `num` of eight
_ASCII = 0x80  # bytes below it are ASCII in UTF-8


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts "2" before "10", "img9" before "img10" and "img" before both; ties keep plain text order."""
    parts = _NUMBER.split(text)
    return (*((0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts if p), (-1, 0, text))


def natural_order(names: Names) -> Ints:
    """Returns the permutation that sorts names of one folder, `[n]` int64, as `natural_key` would."""
    if len(names) >= _FEW:
        order, sure = order_in_folders(names, np.array([0, len(names)]))
        if sure[0]:
            return order
    keys = [natural_key(os.fsdecode(names.name(i))) for i in range(len(names))]
    return np.array(sorted(range(len(names)), key=keys.__getitem__), np.int64)


def natural_sorted(texts: Iterable[str]) -> list[str]:
    """Returns texts of one folder in natural order."""
    listed = list(texts)
    names = names_of([os.fsencode(text) for text in listed], np.zeros(len(listed), np.uint8))
    return [listed[i] for i in natural_order(names).tolist()]


def order_in_folders(names: Names, firsts: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Sorts the names of many folders at once, each folder's within it, where they are alike but for one number.

    Args:
        names: of one folder after the other, in any order within each.
        firsts: `[F + 1]`, rising: folder `i` has the names `firsts[i]` to `firsts[i + 1]`.

    Returns:
        The permutation, `[n]` int64, and for which folders it is that of `natural_key`, `[F]`. The names of the others
        stay in their folders, in an order that means nothing.
    """
    heads, counts = firsts[:-1], np.diff(firsts)
    lengths = names.ends - names.starts
    shortest = np.minimum.reduceat(lengths, heads)
    before = _alike(names.data, names.starts, 8, shortest, firsts)
    after = _alike(names.data, names.ends - 8, -8, shortest, firsts)
    # Digits that all share belong to the number.
    before = _without_digits(names.data, names.starts[heads] - 1, before, 1)
    after = _without_digits(names.data, names.ends[heads], after, -1)
    around = before + after
    sure = (around < shortest) & (np.maximum.reduceat(lengths, heads) - around <= _MOST_DIGITS)
    # Beside the number may stand a digit of another script, which `natural_key` counts as part of it.
    sure &= (before == 0) | (names.data[names.starts[heads] + before - 1] < _ASCII)
    sure &= (after == 0) | (names.data[names.ends[heads] - after] < _ASCII)
    num_digits = np.clip(lengths - np.repeat(around, counts), 0, _MOST_DIGITS)
    numbers, are_digits = _numbers(names.data, names.ends - np.repeat(after, counts), num_digits)
    folder = np.repeat(np.arange(len(counts)), counts)
    sure[folder[~are_digits]] = False
    numbers[~np.repeat(sure, counts)] = 0
    places = int(numbers.max(initial=0)) + 1
    fits = places * len(counts) < 1 << 62  # then folder and number are one number to sort by
    order = np.argsort(folder * places + numbers) if fits else np.lexsort((numbers, folder))
    # "7" and "007" are one number: their order is that of their text.
    ties = (np.diff(numbers[order]) == 0) & (np.diff(folder) == 0)
    sure[folder[1:][ties]] = False
    return order, sure | (counts == 1)


def _alike(data: Bytes, places: Ints, step: int, most: Ints, firsts: Ints) -> Ints:
    """Returns how many bytes the names of each folder have in common, `[F]`, at most `most` of it.

    Eight bytes at a time are compared with the folder's first name, from `places` on, by `step`.
    """
    heads, counts, found = firsts[:-1], np.diff(firsts), most.copy()
    same = np.ones(len(found), np.bool_)
    for num in range(0, int(most.max()), 8):
        words = words_at(data, places + num // 8 * step)
        words ^= np.repeat(words[heads], counts)
        different = np.bitwise_or.reduceat(words, heads).view(np.uint8).reshape(-1, 8) != 0
        here = same & different.any(1)
        length = num + (different if step > 0 else different[:, ::-1]).argmax(1)
        found[here] = np.minimum(length, most)[here]
        same &= ~here
        if not same.any():
            break
    return found


def _without_digits(data: Bytes, places: Ints, lengths: Ints, step: int) -> Ints:
    """Returns lengths without the digits at the end of what they count, which is at `places + step * length`."""
    while True:
        last = data[places + step * lengths]
        digit = (lengths > 0) & (last >= ord("0")) & (last <= ord("9"))
        if not digit.any():
            return lengths
        lengths = lengths - digit


def _numbers(data: Bytes, ends: Ints, num_digits: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Returns the numbers that end at `ends`, and where digits alone are there; 15 digits at most."""
    numbers, good = _eight_digits(words_at(data, ends - 8), np.minimum(num_digits, 8))
    if num_digits.max(initial=0) > 8:
        high, also_good = _eight_digits(words_at(data, ends - 16), np.maximum(num_digits - 8, 0))
        return numbers + high * 10**8, good & also_good
    return numbers, good


def _eight_digits(words: npt.NDArray[np.uint64], num: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Returns the numbers that the last `num` bytes of words spell, and where all of these are digits.

    Pairs of digits become numbers below 100 in all places at once, then pairs of these, then pairs of those.
    """
    words = (words ^ np.uint64(0x3030303030303030)) & _LAST_BYTES[num]
    good = ((words + np.uint64(0x7676767676767676)) | words) & np.uint64(0x8080808080808080) == 0
    words = words * np.uint64(10) + (words >> np.uint64(8)) & np.uint64(0x00FF00FF00FF00FF)
    words = words * np.uint64(100) + (words >> np.uint64(16)) & np.uint64(0x0000FFFF0000FFFF)
    words = words * np.uint64(10_000) + (words >> np.uint64(32)) & np.uint64(0xFFFFFFFF)
    return words.view(np.int64), good
