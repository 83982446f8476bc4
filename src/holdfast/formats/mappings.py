"""Mappings that are not written as `{name: tensor}`, brought to that form: what a program's own classes and keys mean.

Bytes as names (Python 2, or pickles read with `encoding="bytes"`), the words of a name as a tuple (Flax), arrays in
pairs with a second name (Paddle), and the trees of TensorDict.
"""

from __future__ import annotations

from typing import Any

from holdfast.formats.arrays import InertArray
from holdfast.formats.inert import InertObject

_MAX_LEVELS = 64  # of TensorDicts within each other
_MAX_NODES = 100_000  # of one tree of them, each as often as it is found
_MAX_NAME = 4000  # letters


def by_text(value: dict[Any, Any]) -> dict[Any, Any]:
    """Returns a mapping with text for its keys and arrays for its values, where they say plainly what is meant.

    Keys of bytes become the text that they are, keys that are tuples of words become names with dots, and Paddle's
    pairs of a second name and an array become the array. It is the mapping itself where there is nothing to change.
    """
    if any(type(k) is not str for k in value):
        keys = [_text(k) for k in value]
        if all(key is not None for key in keys) and len(set(keys)) == len(keys):
            value = dict(zip(keys, value.values(), strict=True))
    if any(_is_named_array(v) for v in value.values()):
        value = {k: v[1] if _is_named_array(v) else v for k, v in value.items()}
    return value


def _text(key: Any) -> str | None:
    if type(key) is str:
        return key
    if type(key) is bytes and len(key) <= _MAX_NAME:
        try:
            return key.decode()
        except UnicodeDecodeError:
            return None
    words = key if type(key) is tuple and all(type(word) is str for word in key) else ()
    return ".".join(words) if words and sum(map(len, words)) <= _MAX_NAME else None


def _is_named_array(value: Any) -> bool:
    return type(value) is tuple and len(value) == 2 and type(value[0]) is str and isinstance(value[1], InertArray)


def tensor_dict(value: InertObject) -> dict[str, Any] | None:
    """Returns the contents of a pickled TensorDict by names with dots, None for any other object.

    It is pickled as a call with its class and its attributes, or as an object that has these. A tree that is larger or
    deeper than any is left to whoever walks through objects.
    """
    if value.module.split(".")[0] != "tensordict":
        return None
    found: dict[str, Any] = {}
    waiting: list[tuple[str, int, Any]] = [("", 0, value)]
    spent = 0
    while waiting:
        prefix, level, node = waiting.pop()
        inner = _held(node)
        if inner is None:
            found[prefix.removesuffix(".")] = node
            continue
        spent += 1 + len(inner)
        longest = max((len(name) for name in inner if type(name) is str), default=0)
        if level > _MAX_LEVELS or spent > _MAX_NODES or len(prefix) + longest > _MAX_NAME:
            return None
        waiting += [
            (f"{prefix}{name}.", level + 1, held) for name, held in reversed(inner.items()) if type(name) is str
        ]
    return found if "" not in found else None


def _held(value: Any) -> dict[Any, Any] | None:
    if not isinstance(value, InertObject) or value.module.split(".")[0] != "tensordict":
        return None
    last = value.args[-1] if type(value.args) is tuple and value.args else None
    for attributes in (value.attributes, last):
        inner = attributes.get("_tensordict") if isinstance(attributes, dict) else None
        if isinstance(inner, dict):
            return inner
    return None
