"""Why a live object cannot take the state that was saved under its name. Nothing is changed here."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.optim import lr_scheduler

from holdfast.checkpoints.random_state import GENERATOR_TYPES

# Where a module's `get_extra_state()` goes; what fits there only its `set_extra_state` knows.
_EXTRA_STATE = "_extra_state"


def module_differences(part: str, own: dict[str, Any], tree: Any) -> list[str]:
    """Returns what keeps a module from being restored exactly.

    Args:
        part: its name.
        own: the live module's state under plain names.
        tree: what was saved. A saved tensor of another type is a difference, for loading would round it.
    """
    if not isinstance(tree, dict):
        return [f"{part}: what was saved is a {type(tree).__name__}, not the state of a module"]
    problems = [f"{part}: {name} is missing in the checkpoint" for name in own if name not in tree]
    problems += [f"{part}: {name} is in the checkpoint and not in the model" for name in tree if name not in own]
    for name, value in own.items():
        if name not in tree or name.rpartition(".")[2] == _EXTRA_STATE or not isinstance(value, Tensor):
            continue
        if line := _tensor_difference(value, tree[name], "the model"):
            problems.append(f"{part}: {name} {line}")
    return problems


def scheduler_differences(part: str, scheduler: lr_scheduler.LRScheduler, tree: Any) -> list[str]:
    """Returns why a learning-rate schedule cannot take `tree`: torch's own would take that of any other class."""
    if not isinstance(tree, dict):
        return [f"{part}: what was saved is a {type(tree).__name__}, not the state of a schedule"]
    own = {name for name in scheduler.state_dict() if not name.startswith("_")}
    saved = {name for name in tree if not str(name).startswith("_")}
    # A class of the user's own may come by a value only later; torch's have all of theirs from the beginning.
    surplus = saved - own if type(scheduler).__module__ == lr_scheduler.__name__ else set()
    if own <= saved and not surplus:
        return []
    found = f"{part}: was saved by another kind of schedule than {type(scheduler).__name__}"
    return [found + _listed(", which lacks", own - saved) + _listed(", and has", surplus)]


def place_differences(part: str, value: Any, tree: Any) -> list[str]:
    """Returns why a plain value that is filled in place cannot take `tree`."""
    if isinstance(value, Tensor):
        line = _tensor_difference(value, tree, "the tensor")
        return [f"{part}: {line}"] if line else []
    if isinstance(value, np.ndarray):
        if isinstance(tree, np.ndarray) and (tree.shape, tree.dtype) == (value.shape, value.dtype):
            return [] if value.flags.writeable else [f"{part}: the array is read-only; give a copy of it"]
        found = f"{tree.dtype} {list(tree.shape)}" if isinstance(tree, np.ndarray) else f"a {type(tree).__name__}"
        return [f"{part}: was saved as {found}, the array is {value.dtype} {list(value.shape)}"]
    if isinstance(value, GENERATOR_TYPES):
        return [f"{part}: {wrap_generator(part, value)}"]
    for kind in (dict, list, set, deque):
        if isinstance(value, kind):
            fits = isinstance(tree, kind)
            return [] if fits else [f"{part}: was saved as a {type(tree).__name__}, and is a {kind.__name__} now"]
    if value is None and tree is None:
        return []  # a part that is optional, and was not there either
    if value is None or tree is None:
        return [f"{part}: was saved as {_called(tree)}, and is {_called(value)} now"]
    return [f"{part}: {_called(value)} cannot be restored in place; put it into a dict"]


def wrap_generator(part: str, value: Any) -> str:
    """Returns what to do with a random generator that was given as a part."""
    return (
        f"found a {type(value).__module__}.{type(value).__qualname__}, which has no state_dict(); expected an object "
        f'that hands out its state. Wrap it: {{"{part}": holdfast.RandomState({part}=...)}}.'
    )


def _tensor_difference(own: Tensor, saved: Any, whose: str) -> str | None:
    if is_lazy(own):
        return f"has no shape yet in {whose} (a lazy module); run one batch through it first"
    if own.is_meta:
        return f"is on the meta device in {whose}, which holds no values; give it memory first (to_empty)"
    if not isinstance(saved, Tensor):
        return f"was saved as {_called(saved)}, {whose} has shape {list(own.shape)}"
    if saved.shape != own.shape:
        return f"was saved with shape {list(saved.shape)}, {whose} has {list(own.shape)}"
    if saved.dtype != own.dtype:
        return f"was saved as {_dtype(saved)}, {whose} has {_dtype(own)}; convert one of the two first"
    return None


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _called(value: Any) -> str:
    return "None" if value is None else f"a value of type {type(value).__name__}"


def _listed(words: str, names: set[str]) -> str:
    return f"{words} {', '.join(sorted(names))}" if names else ""
