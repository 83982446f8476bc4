"""A plain value (a number, text, bytes, a dtype) as JSON, and back, of the same type and to the last bit.

JSON itself says None, booleans, integers, text and finite numbers. The rest are objects of one key with a `$`.
"""

from __future__ import annotations

import base64
import enum
import math
from typing import Any

import numpy as np
import torch

from holdfast.errors import UnsupportedState


def plain_word(value: Any) -> Any:
    """Returns the JSON for one plain value; one of a subclass (an IntEnum, a NumPy text) becomes the plain kind.

    Raises:
        UnsupportedState: it is none that JSON can be made to hold; the message says what was found and what to do.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, np.generic) and is_number(value.dtype):
        return {"$scalar": [value.dtype.name, plain_word(value.item())]}
    if isinstance(value, (str, int)):
        return _storable(value)
    if isinstance(value, float):
        # Python prints the shortest text that reads back as the same double; JSON has no word for the rest.
        plain = float.__float__(value)
        return plain if math.isfinite(plain) else {"$float": repr(plain)}
    if isinstance(value, complex):
        return {"$complex": [repr(value.real), repr(value.imag)]}
    if isinstance(value, (bytes, bytearray)):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, torch.Size):
        return {"$size": [_storable(size) for size in value]}
    if isinstance(value, torch.dtype):
        return {"$dtype": str(value).removeprefix("torch.")}
    advice = (
        "Store its .value."
        if isinstance(value, enum.Enum)
        else "Leave it out of state_dict(), or store what it is made of."
    )
    raise UnsupportedState(
        f"found a {type(value).__module__}.{type(value).__qualname__}; expected a tensor, a number, text, or lists and "
        f"dicts of them. {advice}"
    )


def plain_value(word: str, content: Any) -> Any:
    """Returns the value that a `$` word stands for.

    Raises:
        ValueError, TypeError, LookupError, OverflowError: this is no word of the format, or its content does not fit.
    """
    match word:
        case "$float":
            return float(content)
        case "$complex":
            return complex(float(content[0]), float(content[1]))
        case "$bytes":
            return base64.b64decode(content, validate=True)
        case "$scalar":
            return np.dtype(content[0]).type(content[1])
        case "$size":
            return torch.Size(content)
        case "$dtype" if hasattr(torch, content) and isinstance(getattr(torch, content), torch.dtype):
            return getattr(torch, content)
    raise ValueError(f"{word} is not a word of this format")


def is_number(dtype: np.dtype[Any]) -> bool:
    """Returns whether values of a NumPy dtype are numbers that mean the same on every machine (no long doubles)."""
    return dtype.kind in "biufc" and dtype.char not in "gG"


def _storable(value: str | int) -> str | int:
    """Returns plain text or a plain integer, once it is certain that UTF-8 and JSON can hold it."""
    plain = str.__str__(value) if isinstance(value, str) else int.__int__(value)
    try:
        str(plain).encode()
    except ValueError as error:  # half of a surrogate pair; more digits than Python turns into text
        what = "text" if isinstance(value, str) else "an integer"
        raise UnsupportedState(f"found {what} that JSON cannot hold ({error}). Store bytes.") from error
    return plain
