"""Counters, arguments and settings of a file as plain values: what stands beside the weights."""

from __future__ import annotations

import sys
from typing import Any

from holdfast.errors import CheckpointError
from holdfast.formats.arrays import InertArray
from holdfast.formats.inert import InertObject, TorchName

_MAX_LEVELS = 100
# Of Python's own modules only these have classes that a record stands for with nothing left out.
_PLAIN_MODULES = {"decimal", "fractions", "datetime", "pathlib", "uuid", "enum", "__main__"}


def plain(value: Any, where: str, memo: dict[int, Any] | None = None, level: int = 0) -> Any:
    """Returns a value with records replaced by what they say: a Namespace by a dict, a NumPy scalar by its number.

    Containers become dicts and lists; what stood in two places is one object again, and what contains itself does not.
    Tensors, arrays and records that say nothing plain are left as they are.

    Args:
        where: the file, for messages.

    Raises:
        CheckpointError: it is nested beyond belief.
    """
    memo = {} if memo is None else memo
    if level > _MAX_LEVELS:
        raise CheckpointError(f"Reading {where}: its values are nested more than {_MAX_LEVELS} levels deep.")
    if isinstance(value, InertArray):
        number = value.item() if not value.shape else None
        return value if number is None else number
    if isinstance(value, TorchName):
        return value.name if value.kind == "device" else f"torch.{value.name}"
    if not isinstance(value, (dict, list, tuple, set, frozenset, InertObject)):
        return value
    if id(value) in memo:
        return memo[id(value)]
    memo[id(value)] = "<contains itself>"
    memo[id(value)] = made = _container(value, where, memo, level + 1)
    return made


def _container(value: Any, where: str, memo: dict[int, Any], level: int) -> Any:
    if isinstance(value, InertObject):
        return _record(value, where, memo, level)
    if isinstance(value, dict):
        return {k if type(k) in (str, int) else _key(k): plain(v, where, memo, level) for k, v in value.items()}
    return [plain(v, where, memo, level) for v in value]


def _key(key: Any) -> str:
    return str(key) if isinstance(key, (float, bool, bytes, type(None), TorchName)) else f"<{type(key).__name__}>"


def _record(value: InertObject, where: str, memo: dict[int, Any], level: int) -> Any:
    args = value.args if type(value.args) is tuple else ()
    simple = all(type(a) in (str, int, float, bool) for a in args)
    if value.module == "pathlib" and value.name.endswith("Path") and all(type(a) is str for a in args):
        return "/".join(args).replace("//", "/", 1)
    if value.full_name == "datetime.datetime" and args and type(args[0]) is bytes and len(args[0]) == 10:
        return _moment(args[0])
    if args and _is_of_python(value.module):
        return value  # a call of Python itself, such as posix.system: whatever is shown must show its name
    if value.attributes and not value.items:
        held = value.attributes
        return plain(held, where, memo, level) if held is value.state else _container(held, where, memo, level)
    if value.items and all(type(i) is tuple and len(i) == 2 and type(i[0]) is str for i in value.items):
        return {k: plain(v, where, memo, level) for k, v in value.items}
    if len(args) == 1 and simple and value.state is None and not value.items and _is_class(value.name):
        return args[0]  # a member of an enumeration, a decimal number, a version
    return value


def _is_of_python(module: str) -> bool:
    """Returns whether a module is Python's own, or was, and not one of those whose records are values."""
    top = module.partition(".")[0]
    return (top in sys.stdlib_module_names or top in ("__builtin__", "commands")) and top not in _PLAIN_MODULES


def _is_class(name: str) -> bool:
    """Returns whether a name is written as a class's is: `Mode`, `Outer.Mode`. What a function takes is no value."""
    return all(word[:1].isupper() for word in name.split("."))


def _moment(raw: bytes) -> str:
    """Returns a date and time in ISO's form. Source: datetime's own pickled form, two bytes for the year."""
    year = raw[0] * 256 + raw[1]
    day, time = f"{year:04d}-{raw[2] & 127:02d}-{raw[3]:02d}", f"{raw[4]:02d}:{raw[5]:02d}:{raw[6]:02d}"
    fraction = int.from_bytes(raw[7:10], "big")
    return f"{day}T{time}" + (f".{fraction:06d}" if fraction else "")
