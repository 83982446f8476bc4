"""What stands beside the weights (counters, arguments, settings) as JSON and as lines: bounded, whatever a file says.

A value that a file holds in many places may stand for more text than any disk has; after so many values the rest is
left out, and said.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from holdfast.formats.arrays import InertArray
from holdfast.formats.inert import Global, InertObject
from holdfast.formats.lazy_tensor import LazyTensor
from holdfast.toolbox.text import cut, printable

_MAX_VALUES = 200_000  # of one report; the longest histories of real checkpoints have some thousands
_MAX_LINES = 400
_MAX_TEXT = 10_000  # letters of one value
_MAX_LEVELS = 100  # as `formats/plain.py` gives them at most
_MAX_ARGUMENTS = 4  # of one call
_MAX_ARGUMENT = 60  # letters
_LEFT_OUT = "… (left out: too many values)"


def json_of(value: Any, spent: list[int] | None = None, level: int = 0) -> Any:
    """Returns a value of an opened checkpoint as JSON: tensors and arrays become their type and shape, records a name.

    Args:
        spent: one number, the values that were described already; counted on.
        level: of containers around it.
    """
    spent = [0] if spent is None else spent
    spent[0] += 1
    if spent[0] > _MAX_VALUES or level > _MAX_LEVELS:
        return _LEFT_OUT
    if isinstance(value, dict):
        table: dict[str, Any] = {}
        for key, item in value.items():
            if spent[0] > _MAX_VALUES:
                table["…"] = _LEFT_OUT
                break
            table[str(key)] = json_of(item, spent, level + 1)
        return table
    if isinstance(value, (list, tuple, set, frozenset)):
        items = []
        for item in value:
            items.append(json_of(item, spent, level + 1))
            if spent[0] > _MAX_VALUES:
                break
        return items
    return _json_leaf(value)


def _json_leaf(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < 1 << 63 else f"{value:#x}"  # readers of JSON differ on larger ones
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, str):
        return value if len(value) <= _MAX_TEXT else f"{value[:_MAX_TEXT]} … ({len(value):,} letters)"
    if isinstance(value, (bytes, bytearray)):
        return f"<{len(value):,} bytes>"
    if isinstance(value, LazyTensor):
        return {"tensor": value.dtype, "shape": list(value.shape)}
    if isinstance(value, InertArray) and value.dtype is not None:
        return {"array": value.dtype.code, "shape": list(value.shape)}
    if isinstance(value, InertObject):
        return _call(value) if value.args or value.kwargs else f"<{value.full_name[:200]}>"
    return repr(value)[:200]


def _call(value: InertObject) -> str:
    """Returns what a file wanted to be called, with what: `posix.system('rm x')  (a call, not made)`."""
    args = value.args if type(value.args) is tuple else (value.args,)
    words = [_argument(item) for item in args[:_MAX_ARGUMENTS]]
    words += [f"{key!s:.40}={_argument(item)}" for key, item in list(value.kwargs.items())[:_MAX_ARGUMENTS]]
    more = ", …" if len(args) > _MAX_ARGUMENTS or len(value.kwargs) > _MAX_ARGUMENTS else ""
    return f"{value.full_name[:100]}({', '.join(words)}{more})  (a call, not made)"


def _argument(value: Any, level: int = 0) -> str:
    """Returns a plain argument, cut; of others the type: a file may nest them as it likes."""
    if isinstance(value, (list, tuple)) and not level:
        inner = ", ".join(_argument(item, 1) for item in value[:_MAX_ARGUMENTS])
        return f"[{inner}{', …' if len(value) > _MAX_ARGUMENTS else ''}]"
    if isinstance(value, (str, bytes)):
        return repr(value if len(value) <= _MAX_ARGUMENT else value[:_MAX_ARGUMENT]) + (
            "…" if len(value) > _MAX_ARGUMENT else ""
        )
    if isinstance(value, (InertObject, Global)):
        return f"<{value.full_name[:_MAX_ARGUMENT]}>"
    return str(_json_leaf(value)) if value is None or isinstance(value, (bool, int, float)) else type(value).__name__


def short(value: Any, limit: int = 100) -> str:
    """Returns a JSON value on one line of at most `limit` letters (and an ellipsis).

    Args:
        value: JSON; in our own skeletons an object of one key with a `$` is a tuple, bytes …, and shown as these.
    """
    if isinstance(value, float):
        text = f"{value:.6g}"
    elif isinstance(value, dict) and len(value) == 1 and str(next(iter(value))).startswith("$"):
        return short(next(iter(value.values())), limit)
    elif isinstance(value, dict) and value.keys() in ({"tensor", "shape"}, {"array", "shape"}):
        text = f"{value.get('tensor') or value.get('array')} {value['shape']}"
    elif isinstance(value, dict):
        text = ", ".join(f"{k} {short(v, 40)}" for k, v in list(value.items())[:limit] if v not in ({}, [], None))
    elif isinstance(value, list):
        text = ", ".join(short(v, 40) for v in value[:limit])
    else:
        text = str(value)
    return printable(text if len(text) <= limit else f"{text[:limit]} …")


def lines_of(value: dict[str, Any], width: int | None, indent: int = 2) -> Iterator[str]:
    """Yields a JSON object as an outline: a line a value, objects within objects indented.

    Args:
        width: columns there are; None for any number.
        indent: columns before the first level.
    """
    for number, line in enumerate(_outline(value, indent)):
        if number == _MAX_LINES:
            yield f"{' ' * indent}… (more than {_MAX_LINES} lines; --json has them)"
            return
        yield cut(line, width)


def _outline(value: dict[str, Any], indent: int) -> Iterator[str]:
    margin = " " * indent
    for key, item in value.items():
        name = printable(str(key))
        if isinstance(item, dict) and _is_table(item):
            yield f"{margin}{name}:"
            yield from _outline(item, indent + 2)
        elif isinstance(item, list) and any(isinstance(i, dict) and len(i) > 1 for i in item):
            yield f"{margin}{name}: {len(item):,} items"
            yield from _outline({str(number): inner for number, inner in enumerate(item)}, indent + 2)
        else:
            yield f"{margin}{name}: {short(item, 200)}"


def _is_table(value: dict[str, Any]) -> bool:
    """Returns whether a value is worth lines of its own: not what stands for a tensor, a tuple or one setting."""
    if value.keys() & {"tensor", "array"} or any(str(key).startswith("$") for key in value):
        return False
    return len(value) > 1 or any(isinstance(item, dict) for item in value.values())
