"""What goes along with converted weights into a file of ours: facts, step, and the states of optimizers."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from pathlib import PurePath
from typing import Any

from holdfast.errors import CheckpointError, UnsupportedState, first_of
from holdfast.formats.arrays import InertArray
from holdfast.formats.inert import Global, InertObject, TorchName
from holdfast.formats.lazy_tensor import LazyTensor
from holdfast.formats.opened import OpenedCheckpoint
from holdfast.formats.plain import plain

_STEPS = ("step", "global_step", "iteration", "num_updates")
_CLASSES = ("classes", "class_names")
_RESERVED = ("state", "manifest", "evaluation")  # names of files of a checkpoint
_MAX_PART = 100  # letters
_MAX_VALUES = 1_000_000  # of one optimizer: a file can hold one list in more places than there is memory for
_MAX_LEVELS = 50
_HEADER_LIMIT = 10_000  # letters of one entry


def part_name(name: str, taken: Container[str]) -> str:
    """Returns a name for a part of a checkpoint, safe as a file's: what others call their models may be a path."""
    made = re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:_MAX_PART].lstrip(".-") or "part"
    while made in taken or made in _RESERVED:
        made += "_"
    return made


def carried_facts(opened: OpenedCheckpoint, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a file of ours says beside the weights: of one of ours, all of it; of others, what is certain.

    Args:
        facts: those of a file of ours; empty for others.
    """
    if facts:
        return {k: v for k, v in facts.items() if k != "converted_from"}
    known: dict[str, Any] = {}
    epoch = opened.metadata.get("epoch")
    if type(epoch) is int:
        known["epoch"] = epoch
    for key in _CLASSES:
        classes = opened.metadata.get(key)
        if isinstance(classes, list) and classes and all(type(c) is str for c in classes):
            known["classes"] = classes
            break
    origin = {"file": PurePath(opened.path).name, "kind": opened.kind, "made_by": opened.made_by}
    return {**known, "converted_from": {k: v for k, v in origin.items() if v}}


def step_of(opened: OpenedCheckpoint) -> int:
    """Returns how many optimizer updates a checkpoint says were made; 0 when it does not say."""
    found = (opened.metadata.get(key) for key in _STEPS)
    return next((step for step in found if type(step) is int and 0 <= step < 1 << 53), 0)


def header_of(opened: OpenedCheckpoint) -> dict[str, str]:
    """Returns the text that a safetensors file carries in its header, for another of that kind."""
    if not opened.kind.startswith("safetensors"):
        return {}
    names = {name for state in opened.roles.values() for name in state}
    return {
        key: value
        for key, value in opened.metadata.items()
        if type(value) is str and len(value) <= _HEADER_LIMIT and value not in names
    }


def carried_optimizer(opened: OpenedCheckpoint, name: str, names: Mapping[str, str]) -> Any:
    """Returns the state of an optimizer as plain containers, values and tensors (CPU).

    Args:
        names: `<part>.<parameter>` in the source → in the result, for states that go by names, as ours do.

    Raises:
        UnsupportedState: it holds objects of classes that are not looked up; all of them by path.
        CheckpointError: it holds more than any optimizer.
    """
    problems: list[str] = []
    state = _made(opened.optimizers[name], name, opened.path, problems, [0])
    if problems:
        raise UnsupportedState(
            f"Converting {opened.path}: its optimizer holds {len(problems)} values that are neither tensors nor plain "
            f"values:\n{first_of(problems)}\nLeave the optimizer out (--strip-optimizer)."
        )
    if not isinstance(state.get("state"), dict) or not isinstance(state.get("param_groups"), list):
        return state
    groups = [
        {**group, "params": [names.get(p, p) if isinstance(p, str) else p for p in group["params"]]}
        if isinstance(group.get("params"), list)
        else group
        for group in state["param_groups"]
    ]
    slots = {names.get(key, key) if isinstance(key, str) else key: value for key, value in state["state"].items()}
    return {**state, "state": slots, "param_groups": groups}


def _made(value: Any, path: str, where: str, problems: list[str], spent: list[int], level: int = 0) -> Any:
    spent[0] += 1
    if spent[0] > _MAX_VALUES or level > _MAX_LEVELS:
        raise CheckpointError(
            f"Converting {where}: its optimizer holds more than {_MAX_VALUES:,} values or {_MAX_LEVELS} levels; no "
            "optimizer does. Leave it out (--strip-optimizer)."
        )
    rest = where, problems, spent, level + 1
    if isinstance(value, LazyTensor):
        return value.to_torch()
    if isinstance(value, dict):
        return {key: _made(item, f"{path}.{key}", *rest) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [_made(item, f"{path}.{number}", *rest) for number, item in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, InertArray):
        number = value.item() if not value.shape else None
        return value.to_numpy() if number is None else number
    if isinstance(value, (InertObject, TorchName, Global)):
        simple = plain(value, where)
        if isinstance(simple, (InertObject, Global)):
            problems.append(f"{path}: {value!r}")
            return None
        return _made(simple, path, *rest)
    return value
