"""A pickled module's tensors by the names its `state_dict()` would give them, without its class.

A module is recognised by what nn.Module keeps in every object: `_parameters`, `_buffers`, `_modules`.
"""

from __future__ import annotations

from typing import Any

from holdfast.errors import CheckpointError
from holdfast.formats.inert import InertObject
from holdfast.formats.lazy_tensor import LazyTensor

_MAX_STEPS = 1_000_000  # modules and their tensors and names in one file, each as often as it is found
_MAX_LEVELS = 200
_MAX_NAME = 4000  # letters
_COMPILED = "torch._dynamo.eval_frame.OptimizedModule"
_TENSOR_CALLS = ("torch._utils._rebuild_", "torch.nn.parameter.", "torch._tensor._rebuild_")


def module_attributes(value: Any) -> dict[str, Any] | None:
    """Returns the attributes of a pickled module; None for what is none."""
    if not isinstance(value, InertObject):
        return None
    first = value.args[0] if type(value.args) is tuple and value.args else None
    if value.full_name == _COMPILED and isinstance(first, InertObject):
        return {"_parameters": {}, "_modules": {"_orig_mod": first}}  # it is pickled as a call with its module
    for found in (value.attributes, first):  # a traced graph's attributes are its constructor's argument
        if isinstance(found, dict) and all(isinstance(found.get(k), dict) for k in ("_parameters", "_modules")):
            return found
    return None


def is_tensor(value: Any) -> bool:
    """Returns whether a value is a tensor: one we can make, or the record of a quantised, sparse or wrapped one."""
    return isinstance(value, LazyTensor) or (
        isinstance(value, InertObject) and value.full_name.startswith(_TENSOR_CALLS)
    )


def module_state(module: InertObject, where: str, spent: list[int] | None = None) -> dict[str, Any]:
    """Returns name → tensor of a pickled module and all within it, in the order of its `state_dict()`.

    Buffers that were registered as not persistent are left out, as there.

    Args:
        where: the file, for messages.
        spent: one number, the steps that other modules of the file have taken; counted on.

    Raises:
        CheckpointError: the modules contain themselves, or there are too many.
    """
    spent = [0] if spent is None else spent
    found: dict[str, Any] = {}
    waiting: list[tuple[str, int, Any]] = [("", 0, module)]
    while waiting:
        prefix, level, value = waiting.pop()
        attributes = module_attributes(value) or {}
        inside = attributes.get("_modules") or {}
        tensors = [attributes.get(kind) for kind in ("_parameters", "_buffers")]
        spent[0] += 1 + sum(len(held) for held in (inside, *tensors) if isinstance(held, dict))
        if spent[0] > _MAX_STEPS or (inside and level >= _MAX_LEVELS):
            raise CheckpointError(
                f"Reading {where}: its modules contain each other more than {_MAX_LEVELS} levels deep or in "
                f"{_MAX_STEPS:,} places; no network does. Is it the right file?"
            )
        volatile = attributes.get("_non_persistent_buffers_set")
        for held in tensors:
            for name, tensor in (held if isinstance(held, dict) else {}).items():
                hidden = held is tensors[1] and isinstance(volatile, (set, frozenset)) and name in volatile
                if type(name) is str and is_tensor(tensor) and not hidden:
                    found[prefix + name] = tensor
        for name, child in reversed(inside.items()):
            if type(name) is str and len(prefix) + len(name) < _MAX_NAME:
                waiting.append((f"{prefix}{name}.", level + 1, child))
    return found
