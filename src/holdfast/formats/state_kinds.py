"""What a mapping or a list in a file is: weights, an optimizer, a schedule. Told by structure, not by its name."""

from __future__ import annotations

import re
from typing import Any

from holdfast.formats.arrays import InertArray
from holdfast.formats.inert import InertObject
from holdfast.formats.lazy_tensor import LazyTensor
from holdfast.formats.module_tree import is_tensor

State = dict[str, Any]


def is_optimizer(value: State) -> bool:
    """Returns whether a mapping is the state of an optimizer, as torch or fastai writes it."""
    groups, state = as_list(value.get("param_groups", value.get("hypers"))), value.get("state")
    return (
        isinstance(groups, list) and isinstance(state, (dict, list)) and all(isinstance(g, dict) for g in groups[:100])
    )


def as_list(value: Any) -> Any:
    """Returns the list that a record holds as its `items`, as fastai's lists do; anything else as it is."""
    items = value.attributes.get("items") if isinstance(value, InertObject) else None
    return items if isinstance(items, list) else value


def is_schedule(value: State) -> bool:
    """Returns whether a mapping is the state of a learning-rate schedule, as torch or timm writes it."""
    of_torch = "last_epoch" in value and bool({"_step_count", "base_lrs", "_last_lr"} & value.keys())
    return of_torch or {"base_values", "param_group_field"} <= value.keys()


def is_state_dict(value: State) -> bool:
    """Returns whether a mapping is weights: names to tensors, and not mere figures that happen to be tensors."""
    tensors = [(k, v) for k, v in value.items() if is_tensor(v)]
    others = (k for k, v in value.items() if not is_tensor(v))
    if not tensors or not all(type(k) is str for k in value):
        return False
    if not all(k.endswith("_extra_state") for k in others):
        return False
    return any("." in k or has_axes(v) for k, v in tensors)


def by_name(tree: Any) -> Any:
    """Returns a file's whole tree; what is a tensor, or a row of them without names, under names of our own."""
    if is_tensor(tree):
        return {"tensor": tree}
    if isinstance(tree, (list, tuple)) and tree and all(is_tensor(value) for value in tree):
        return {str(number): tensor for number, tensor in enumerate(tree)}
    return tree


def arrays_as_tensors(value: State) -> State:
    """Returns a mapping whose NumPy arrays are tensors, if they are weights: if a dotted name is one with extents."""
    arrays = {k: v for k, v in value.items() if isinstance(v, InertArray) and type(k) is str}
    if not any(("." in name or "/" in name) and array.shape for name, array in arrays.items()):
        return value
    made = {name: array.as_tensor() for name, array in arrays.items()}
    return {k: v if made.get(k) is None else made[k] for k, v in value.items()}


def halves_of(value: State) -> State | None:
    """Returns the weights of a mapping that keeps parameters and buffers apart; None for any other."""
    if len(value) != 2:
        return None
    kinds = [next((kind for kind in ("param", "buffer") if kind in str(key).lower()), "") for key in value]
    inner = list(value.values())
    if sorted(kinds) != ["buffer", "param"] or not all(isinstance(v, dict) and is_state_dict(v) for v in inner):
        return None
    parameters, buffers = inner if kinds[0] == "param" else inner[::-1]
    return None if parameters.keys() & buffers.keys() else {**parameters, **buffers}


def has_axes(tensor: Any) -> bool:
    """Returns whether a tensor is more than a single figure."""
    return not isinstance(tensor, LazyTensor) or bool(tensor.shape)


def is_random_state(value: State, path: tuple[str, ...]) -> bool:
    """Returns whether tensors by name are the states of random generators: called so, or all of them rows of bytes."""
    if path and re.search(r"rng|random|generator_state", path[-1]):
        return True
    return all(isinstance(v, LazyTensor) and v.dtype == "uint8" and len(v.shape) == 1 for v in value.values())
