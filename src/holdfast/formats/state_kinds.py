"""What a mapping or a list in a file is: weights, an optimizer, a schedule. Told by structure, not by its name."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from holdfast.formats.arrays import InertArray
from holdfast.formats.inert import InertObject
from holdfast.formats.lazy_tensor import LazyTensor
from holdfast.formats.module_tree import is_tensor

State = dict[str, Any]

_RANDOM = re.compile(r"rng|random|generator_state")
_MAX_LAYERS = 12  # of mappings within each other
# What the arrays of a layer are called.
_LEAVES = {
    "weight", "weights", "bias", "biases", "kernel", "scale", "offset", "embedding", "gamma", "beta", "mean", "var",
    "variance", "moving_mean", "moving_variance", "w", "b",
}  # fmt: skip
# What a single number is called that is no parameter.
_FIGURE = re.compile(
    r"(?i)(^|[_.\-/])(loss(es)?|acc\w*|top\d|best|epochs?|iter\w*|steps?|num|count|metric|score|error|err|lr|time|"
    r"val|valid|train|test|psnr|ssim|fid|m?ap|m?iou|dice|f1|auc|precision|recall)($|[_.\-/\d])"
)


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


def is_state_dict(value: State, *, expected: bool = False) -> bool:
    """Returns whether a mapping is weights: names to tensors, and not mere figures that happen to be tensors.

    Args:
        expected: whether weights are what should be there, the place being called so. Single figures are weights then
            if all are fractions and some name is none of a figure's.
    """
    tensors = [(k, v) for k, v in value.items() if is_tensor(v)]
    others = [k for k, v in value.items() if not is_tensor(v)]
    if not tensors or not all(type(k) is str for k in value):
        return False
    if not all(k.endswith("_extra_state") for k in others):
        return False
    if any("." in k or has_axes(v) for k, v in tensors):
        return True
    return (
        expected
        and not others
        and all(_is_fraction(v) for _, v in tensors)
        and not all(_FIGURE.search(k) for k in value)
    )


def _is_fraction(tensor: Any) -> bool:
    return isinstance(tensor, LazyTensor) and tensor.dtype.startswith(("float", "bfloat", "complex"))


def tensors_among(value: State, *, alone: bool = False) -> State:
    """Returns the weights of a mapping that holds counters, settings or other parts among them; none if it has none.

    A single fraction (`logit_scale`) is one of the weights unless its name is a figure's (`loss`, `best_acc`).

    Args:
        alone: whether the mapping is the whole file; then names without dots are weights too, where nothing beside them
            is a container.
    """
    found = {k: v for k, v in value.items() if is_tensor(v) and type(k) is str and ("." in k or not _RANDOM.search(k))}
    alone = alone and not any(_may_hold_parts(v) for k, v in value.items() if k not in found)
    if not any(("." in k or alone) and has_axes(v) for k, v in found.items()) or is_random_state(found, ()):
        return {}
    return {k: v for k, v in found.items() if "." in k or has_axes(v) or (_is_fraction(v) and not _FIGURE.search(k))}


def _may_hold_parts(value: Any) -> bool:
    while isinstance(value, (list, tuple)) and value:
        value = value[0]
    return isinstance(value, (dict, InertObject)) and not is_tensor(value)


def by_name(value: Any, *, expected: bool) -> Any:
    """Returns a value as it is; tensors that a file keeps otherwise than by name in a mapping, as such a mapping.

    Pairs of names and tensors are taken anywhere; a row of tensors, a mapping from numbers to them, and one tensor
    alone only where weights are expected: they get names of our own, "0", "1" … and "tensor".
    """
    if isinstance(value, (list, tuple)) and value and all(type(v) is tuple and len(v) == 2 for v in value):
        names, tensors = zip(*value, strict=True)
        if all(type(n) is str for n in names) and len(set(names)) == len(names) and _has_tensors_alone(tensors):
            return {name: _as_tensor(tensor) for name, tensor in value}
    if not expected:
        return value
    if is_tensor(_as_tensor(value)):
        return {"tensor": _as_tensor(value)}
    if isinstance(value, dict) and all(type(k) is int for k in value) and _has_tensors_alone(value.values()):
        return {str(number): _as_tensor(tensor) for number, tensor in value.items()}
    if isinstance(value, (list, tuple)) and _has_tensors_alone(value):
        return {str(number): _as_tensor(tensor) for number, tensor in enumerate(value)}
    return value


def _as_tensor(value: Any) -> Any:
    return (value.as_tensor() or value) if isinstance(value, InertArray) else value


def _has_tensors_alone(values: Collection[Any]) -> bool:
    return (
        bool(values)
        and all(is_tensor(v) or isinstance(v, InertArray) for v in values)
        and all(is_tensor(_as_tensor(v)) for v in values)
    )


def keyed_items(value: InertObject) -> State | None:
    """Returns the contents of an object that is a mapping of its own class, by name; None for any other object."""
    pairs = value.items
    if not pairs or not all(type(p) is tuple and len(p) == 2 and type(p[0]) is str for p in pairs):
        return None
    return dict(pairs)


def arrays_as_tensors(value: State, *, expected: bool = False) -> State:
    """Returns a mapping whose NumPy arrays are tensors, if they are weights: if a dotted name is one with extents.

    Args:
        expected: whether weights are what should be there; names need no dots then, if there is nothing but arrays.
    """
    arrays = {k: v for k, v in value.items() if isinstance(v, InertArray) and type(k) is str}
    bare = expected and len(arrays) == len(value)
    if not any((bare or "." in name or "/" in name) and array.shape for name, array in arrays.items()):
        return value
    made = {name: array.as_tensor() for name, array in arrays.items()}
    return {k: v if made.get(k) is None else made[k] for k, v in value.items()}


def nested_arrays(value: State, name: str = "", level: int = 0) -> State | None:
    """Returns arrays that a file keeps in a mapping for each layer, by names with dots; None for any other mapping.

    Converters from Caffe and TensorFlow and programs of JAX keep them so. It is told by the names of the arrays.
    """
    found: State = {}
    for key, held in value.items():
        if type(key) is not str or level > _MAX_LAYERS:
            return None
        inner = f"{name}.{key}" if name else key
        if isinstance(held, dict):
            below = nested_arrays(held, inner, level + 1)
            if below is None:
                return None
            found |= below
        elif isinstance(held, InertArray) and level and key.lower() in _LEAVES and held.as_tensor() is not None:
            found[inner] = held.as_tensor()
        else:
            return None
    return found


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
    if path and _RANDOM.search(path[-1]):
        return True
    return all(isinstance(v, LazyTensor) and v.dtype == "uint8" and len(v.shape) == 1 for v in value.values())
