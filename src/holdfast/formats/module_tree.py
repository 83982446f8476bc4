"""A pickled module's tensors by the names its `state_dict()` would give them, without its class.

A module is recognised by what nn.Module keeps in every object: `_parameters`, `_buffers`, `_modules`.
"""

from __future__ import annotations

from typing import Any

from holdfast.errors import CheckpointError
from holdfast.formats.inert import InertObject
from holdfast.formats.lazy_tensor import LazyTensor

_MAX_MODULES = 200_000
_MAX_LEVELS = 200
_TENSOR_CALLS = ("torch._utils._rebuild_", "torch.nn.parameter.", "torch._tensor._rebuild_")


def module_attributes(value: Any) -> dict[str, Any] | None:
    """Returns the attributes of a pickled module; None for what is none."""
    if not isinstance(value, InertObject):
        return None
    first = value.args[0] if type(value.args) is tuple and value.args else None
    for found in (value.attributes, first):  # a traced graph's attributes are its constructor's argument
        if isinstance(found, dict) and all(isinstance(found.get(k), dict) for k in ("_parameters", "_modules")):
            return found
    return None


def is_tensor(value: Any) -> bool:
    """Returns whether a value is a tensor: one we can make, or the record of a quantised, sparse or wrapped one."""
    return isinstance(value, LazyTensor) or (
        isinstance(value, InertObject) and value.full_name.startswith(_TENSOR_CALLS)
    )


def module_state(module: InertObject, where: str) -> dict[str, Any]:
    """Returns name → tensor of a pickled module and all within it, in the order of its `state_dict()`.

    Buffers that were registered as not persistent are left out, as there.

    Args:
        where: the file, for messages.

    Raises:
        CheckpointError: the modules contain themselves, or there are too many.
    """
    found: dict[str, Any] = {}
    waiting: list[tuple[str, int, Any]] = [("", 0, module)]
    for _ in range(_MAX_MODULES):
        if not waiting:
            return found
        prefix, level, value = waiting.pop()
        attributes = module_attributes(value) or {}
        volatile = attributes.get("_non_persistent_buffers_set")
        for kind in ("_parameters", "_buffers"):
            held = attributes.get(kind)
            for name, tensor in (held if isinstance(held, dict) else {}).items():
                kept = kind == "_parameters" or not (isinstance(volatile, (set, frozenset, list)) and name in volatile)
                if type(name) is str and is_tensor(tensor) and kept:
                    found[prefix + name] = tensor
        inside = attributes.get("_modules") or {}
        if level < _MAX_LEVELS:
            for name, child in reversed(inside.items()):
                if type(name) is str and len(prefix) < 10_000:
                    waiting.append((f"{prefix}{name}.", level + 1, child))
        elif inside:
            break
    raise CheckpointError(
        f"Reading {where}: its modules contain each other more than {_MAX_LEVELS} levels deep or {_MAX_MODULES:,} "
        "times; no network does. Is it the right file?"
    )
