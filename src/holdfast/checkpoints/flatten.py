"""A state tree, taken apart into named tensors and a JSON skeleton, and put together again.

A leaf is a tensor, a JSON value, or one of a few plain Python and NumPy values; anything else is an error that names
its path. In the skeleton an object with one key that begins with `$` stands for what JSON cannot say:

    {"$tensor": name}   {"$tuple": [...]}   {"$items": [[key, value], ...]}   {"$float": "nan"}
    {"$bytes": base64}  {"$array": name}    {"$scalar": [dtype, value]}       {"$size": [...]}
    {"$dtype": name}    {"$set": [...]}     {"$frozenset": [...]}             {"$complex": [real, imaginary]}

This file knows no disk.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from holdfast.checkpoints.tensors import DTYPE_NAMES
from holdfast.errors import CheckpointCorrupt, UnsupportedState


@dataclass
class FlatState:
    """A tree taken apart.

    Attributes:
        skeleton: JSON, with tensors replaced by their names.
        tensors: name → tensor; each stored once.
        aliases: name → the name it shares its memory with (tied weights); these are not in `tensors`.
    """

    skeleton: Any
    tensors: dict[str, Tensor] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)


def flatten(tree: Any, part: str) -> FlatState:
    """Takes `tree` apart; tensors are referred to, not copied.

    Args:
        tree: nested dicts, lists and tuples of tensors and plain values.
        part: its name, for errors.

    Raises:
        UnsupportedState: a value that cannot be stored; the message names its path. Nothing has been written then.
    """
    flat = FlatState(None)
    seen: dict[tuple[Any, ...], str] = {}
    flat.skeleton = _encode(tree, (), part, flat, seen)
    return flat


def unflatten(skeleton: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Puts a tree together again. Tied tensors come back as one tensor under both names.

    Raises:
        CheckpointCorrupt: the skeleton asks for a tensor that is not there, or is not one of ours.
    """
    try:
        return _decode(skeleton, tensors)
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CheckpointCorrupt(f"The state's skeleton does not fit its tensors ({error!r}).") from error


def _encode(value: Any, path: tuple[str, ...], part: str, flat: FlatState, seen: dict[tuple[Any, ...], str]) -> Any:
    if isinstance(value, Tensor):
        return {"$tensor": _add_tensor(value, path, part, flat, seen)}
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (str, int)):
        return _storable(value, path, part)
    if isinstance(value, Mapping):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {
                _storable(key, (*path, key), part): _encode(item, (*path, key), part, flat, seen)
                for key, item in value.items()
            }
        return {
            "$items": [
                [_encode(key, (*path, "key"), part, flat, seen), _encode(item, (*path, str(key)), part, flat, seen)]
                for key, item in value.items()
            ]
        }
    if isinstance(value, torch.Size):
        return {"$size": list(value)}
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        items = [_encode(item, (*path, str(i)), part, flat, seen) for i, item in enumerate(value)]
        return items if isinstance(value, list) else {"$tuple": items}
    return _encode_scalar(value, path, part, flat, seen)


def _storable(value: str | int, path: tuple[str, ...], part: str) -> str | int:
    """Returns plain text or a plain integer, once it is certain that UTF-8 and JSON can hold it."""
    try:
        plain = str.__str__(value) if isinstance(value, str) else int(value)
        str(plain).encode()
    except ValueError as error:  # half of a surrogate pair; more digits than Python turns into text
        raise UnsupportedState(f"Saving {'.'.join((part, *path))}: {error}.") from error
    return plain


def _encode_scalar(
    value: Any, path: tuple[str, ...], part: str, flat: FlatState, seen: dict[tuple[Any, ...], str]
) -> Any:
    if isinstance(value, np.ndarray) and _is_number(value.dtype) and not isinstance(value, np.ma.MaskedArray):
        # A copy: torch takes no read-only, backwards or foreign-endian memory.
        array = np.array(value, value.dtype.newbyteorder("="), order="C")
        return {"$array": _add_tensor(torch.from_numpy(array), path, part, flat, seen)}
    if isinstance(value, np.generic) and _is_number(value.dtype):
        return {"$scalar": [value.dtype.name, _encode(value.item(), path, part, flat, seen)]}
    if isinstance(value, float):
        # Python prints the shortest text that reads back as the same double; JSON has no word for the rest.
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, complex):
        return {"$complex": [repr(value.real), repr(value.imag)]}
    if isinstance(value, (bytes, bytearray)):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, torch.dtype):
        return {"$dtype": str(value).removeprefix("torch.")}
    if isinstance(value, (set, frozenset)):
        word = "$set" if isinstance(value, set) else "$frozenset"
        return {word: [_encode(item, (*path, "member"), part, flat, seen) for item in sorted(value, key=repr)]}
    where = ".".join((part, *path))
    raise UnsupportedState(
        f"Saving {where}: found a {type(value).__module__}.{type(value).__qualname__}; expected a tensor, a number, "
        "text, or lists and dicts of them. Leave it out of state_dict(), or store what it is made of."
    )


def _is_number(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "biufc" and dtype.char not in "gG"  # a long double is another thing on every machine


def _lazy(tensor: Tensor) -> tuple[bool, bool]:
    return tensor.is_conj(), tensor.is_neg()  # the same memory, read with another sign


def _add_tensor(
    tensor: Tensor, path: tuple[str, ...], part: str, flat: FlatState, seen: dict[tuple[Any, ...], str]
) -> str:
    name = ".".join(path) or "value"
    if tensor.dtype not in DTYPE_NAMES or tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
        raise UnsupportedState(
            f"Saving {part}.{name}: a tensor of {tensor.dtype}, "
            f"{tensor.layout}{', on the meta device' if tensor.is_meta else ''} "
            "cannot be stored. Convert it in state_dict()."
        )
    while name in flat.tensors or name in flat.aliases or name == "__metadata__":
        name += "_"  # {"a.b": x, "a": {"b": y}}; and the header keeps one name to itself
    # Views of one storage with one layout are one tensor under several names (tied weights).
    key = (
        (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride(), tensor.device, *_lazy(tensor))
        if tensor.numel()
        else None
    )
    if key is not None and key in seen:
        flat.aliases[name] = seen[key]
    else:
        flat.tensors[name] = tensor
        if key is not None:
            seen[key] = name
    return name


def _decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((key, content),) = value.items()
        if key.startswith("$"):
            return _decode_special(key, content, tensors)
    return {key: _decode(item, tensors) for key, item in value.items()}


def _decode_special(key: str, content: Any, tensors: Mapping[str, Tensor]) -> Any:
    match key:
        case "$tensor":
            return tensors[content]
        case "$array":
            return tensors[content].numpy().copy()
        case "$tuple":
            return tuple(_decode(item, tensors) for item in content)
        case "$items":
            return {_decode(k, tensors): _decode(v, tensors) for k, v in content}
        case "$float":
            return float(content)
        case "$complex":
            return complex(float(content[0]), float(content[1]))
        case "$bytes":
            return base64.b64decode(content, validate=True)
        case "$scalar":
            return np.dtype(content[0]).type(_decode(content[1], tensors))
        case "$size":
            return torch.Size(content)
        case "$dtype" if hasattr(torch, content) and isinstance(getattr(torch, content), torch.dtype):
            return getattr(torch, content)
        case "$set":
            return {_decode(item, tensors) for item in content}
        case "$frozenset":
            return frozenset(_decode(item, tensors) for item in content)
    raise ValueError(f"{key} is not a word of this format")
