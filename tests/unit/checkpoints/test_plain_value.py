from __future__ import annotations

import enum
import json
import struct
from typing import Any

import numpy as np
import pytest
import torch

from holdfast.checkpoints.plain_value import is_number, plain_value, plain_word
from holdfast.errors import UnsupportedState


@pytest.mark.parametrize(
    "value", [None, True, False, 0, -(2**70), "", "ü\0", 0.1, -0.0, 5e-324, 1.7976931348623157e308]
)
def test_what_json_can_say_is_said_in_json(value: Any) -> None:
    """These values are their own words, and JSON gives back the same bits."""
    word = plain_word(value)
    assert type(word) is type(value)
    read = json.loads(json.dumps(word, allow_nan=False))
    assert (type(read), repr(read)) == (type(value), repr(value))
    if isinstance(value, float):
        assert struct.pack("d", read) == struct.pack("d", value)


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (float("nan"), {"$float": "nan"}),
        (float("-inf"), {"$float": "-inf"}),
        (complex(-0.0, float("inf")), {"$complex": ["-0.0", "inf"]}),
        (b"\0\xff", {"$bytes": "AP8="}),
        (bytearray(b"\0\xff"), {"$bytes": "AP8="}),
        (torch.Size([2, 0]), {"$size": [2, 0]}),
        (torch.float8_e8m0fnu, {"$dtype": "float8_e8m0fnu"}),
        (np.float32(0.1), {"$scalar": ["float32", 0.10000000149011612]}),
        (np.bool_(True), {"$scalar": ["bool", True]}),
        (np.float16("nan"), {"$scalar": ["float16", {"$float": "nan"}]}),
    ],
    ids=str,
)
def test_what_json_cannot_say_has_a_word(value: Any, word: Any) -> None:
    """The word is the one of the specification."""
    assert plain_word(value) == word


@pytest.mark.parametrize(
    ("word", "content", "value"),
    [
        ("$float", "-inf", float("-inf")),
        ("$complex", ["-0.0", "inf"], complex(-0.0, float("inf"))),
        ("$bytes", "AP8=", b"\0\xff"),
        ("$size", [2, 0], torch.Size([2, 0])),
        ("$dtype", "float8_e8m0fnu", torch.float8_e8m0fnu),
        ("$scalar", ["float32", 0.10000000149011612], np.float32(0.1)),
        ("$scalar", ["bool", True], np.True_),
    ],
    ids=str,
)
def test_a_word_gives_its_value(word: str, content: Any, value: Any) -> None:
    """The value has the type and the bits that it had."""
    read = plain_value(word, content)
    assert (type(read), repr(read)) == (type(value), repr(value))


@pytest.mark.parametrize(("word", "content"), [("$unheard", 1), ("$bytes", "?"), ("$dtype", "nn"), ("$float", "wide")])
def test_a_word_fails_when_it_is_none_of_ours(word: str, content: Any) -> None:
    """An unknown word, or content that does not fit it, is no value."""
    with pytest.raises(ValueError, match=r"."):
        plain_value(word, content)


class _Suit(enum.Enum):
    HEARTS = "h"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (object(), r"found a builtins\.object; expected a tensor, .* Leave it out of state_dict\(\), or store what"),
        (_Suit.HEARTS, r"found a .*_Suit; expected a tensor, .* Store its \.value\."),
        ("\udc80", r"found text that JSON cannot hold \(.*surrogates not allowed\)\. Store bytes\."),
        (10**5000, r"found an integer that JSON cannot hold \(.*4300 digits.*\)\. Store bytes\."),
        (np.longdouble(1), r"found a numpy\.longdouble; expected"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_plain_value_is_refused(value: Any, message: str) -> None:
    """The message says what was found, what was expected and what to do."""
    with pytest.raises(UnsupportedState, match=message):
        plain_word(value)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        *[("?", True), ("u8", True), ("f2", True), ("c16", True)],
        *[("g", False), ("G", False), ("U3", False), ("O", False), ("M8[s]", False), ("V4", False)],
    ],
)
def test_numbers_are_what_means_the_same_everywhere(dtype: str, expected: bool) -> None:
    """Long doubles, text, objects, dates and records are no numbers of ours."""
    assert is_number(np.dtype(dtype)) is expected
