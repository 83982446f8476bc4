"""The forms in which programs write the state of an optimizer, brought to one: groups of places, slots by place.

torch numbers the parameters group after group (very old files: by their addresses) and may add their names; Holdfast,
torch.distributed.checkpoint and FSDP go by names, the second also in one flat table; a pickled optimizer holds the
parameters themselves; fastai has one list of slots in the order of the model.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple, TypeGuard

from holdfast.errors import CheckpointMismatch

# What fastai says of a parameter among its slots.
_FLAGS_OF_FASTAI = {"do_wd", "force_train"}


class RecordedGroup(NamedTuple):
    """One group as it stands in a file.

    Attributes:
        keys: of its parameters in their order: numbers, names, or tensors.
        names: the parameters' names where they were recorded beside the numbers; None otherwise.
        settings: learning rate and all the other options, and counters of some optimizers.
    """

    keys: list[Hashable]
    names: list[str] | None
    settings: dict[str, Any]


class RecordedState(NamedTuple):
    """The state of an optimizer as it stands in a file.

    Attributes:
        groups: in the file's order.
        slots: key of a parameter → its slots.
        shared: what belongs to no parameter, by the optimizer's own names for it.
        beside: what stands beside `state` and `param_groups`: Kron's random state.
    """

    groups: list[RecordedGroup]
    slots: dict[Hashable, Any]
    shared: dict[str, Any]
    beside: dict[str, Any]


def recorded_state(state: Any, source: str) -> RecordedState:
    """Returns an optimizer's state of any of the known forms in one form.

    Args:
        state: as the file has it; values may be lazy.
        source: the file, for messages.

    Raises:
        CheckpointMismatch: it has none of the forms.
    """
    if not isinstance(state, Mapping):
        raise _unknown(source, f"a {type(state).__name__}")
    if isinstance(state.get("hypers"), list) and isinstance(state.get("state"), (list, tuple)):
        return _of_fastai(state)
    if "param_groups" not in state and any(isinstance(k, str) and k.startswith("state.") for k in state):
        state = _unflattened(state)
    groups, slots = state.get("param_groups"), state.get("state")
    if not isinstance(groups, (list, tuple)) or not isinstance(slots, Mapping):
        raise _unknown(source, f"the entries {', '.join(map(str, list(state)[:5])) or 'of an empty table'}")
    found = [_group(group, number, source) for number, group in enumerate(groups)]
    keys = [key for group in found for key in group.keys]
    if len(set(keys)) < len(keys):
        raise _unknown(source, "a parameter that stands in its groups twice")
    members = set(keys)
    shared = {k: v for k, v in slots.items() if k not in members and isinstance(k, str)}
    beside = {k: v for k, v in state.items() if isinstance(k, str) and k not in ("state", "param_groups")}
    return RecordedState(found, {k: v for k, v in slots.items() if k in members}, shared, beside)


def _group(group: Any, number: int, source: str) -> RecordedGroup:
    keys = group.get("params") if isinstance(group, Mapping) else None
    if not isinstance(keys, (list, tuple)) or not all(map(_is_key, keys)):
        raise _unknown(source, f"a group {number} that does not list its parameters")
    names = group.get("param_names")
    listed = isinstance(names, (list, tuple)) and len(names) == len(keys) and all(isinstance(n, str) for n in names)
    if all(isinstance(key, str) for key in keys):
        names, listed = list(keys), True
    settings = {k: v for k, v in group.items() if k not in ("params", "param_names")}
    return RecordedGroup(list(keys), list(names) if listed and names is not None else None, settings)


def _is_key(key: Any) -> TypeGuard[Hashable]:
    return isinstance(key, (int, str)) or (hasattr(key, "shape") and hasattr(key, "dtype"))


def _of_fastai(state: Mapping[str, Any]) -> RecordedState:
    """Takes fastai's list: all parameters, group after group, and its groups are consecutive stretches of the model."""
    settings = {"num_groups": len(state["hypers"])}
    if state["hypers"] and isinstance(state["hypers"][0], Mapping):
        common = [h for h in state["hypers"] if isinstance(h, Mapping)]
        settings |= {k: v for k, v in common[0].items() if all(h.get(k) == v for h in common)}
    slots = {
        number: {k: v for k, v in held.items() if k not in _FLAGS_OF_FASTAI}
        for number, held in enumerate(state["state"])
        if isinstance(held, Mapping)
    }
    keys: list[Hashable] = list(range(len(state["state"])))
    return RecordedState([RecordedGroup(keys, None, settings)], {k: v for k, v in slots.items() if v}, {}, {})


def _unflattened(state: Mapping[str, Any]) -> dict[str, Any]:
    """Takes apart the flat table of torch.distributed.checkpoint: `state.<name>.<slot>` and so on."""
    slots: dict[str, dict[str, Any]] = {}
    options: dict[str, dict[str, Any]] = {}
    for key, value in state.items():
        for word, table in (("state.", slots), ("param_groups.", options)):
            if isinstance(key, str) and key.startswith(word):
                name, _, last = key.removeprefix(word).rpartition(".")
                table.setdefault(name, {})[last] = value
    groups: list[dict[str, Any]] = []
    for name in options or slots:
        settings = options.get(name, {})
        alike = next((g for g in groups if {k: v for k, v in g.items() if k != "params"} == settings), None)
        if alike is None:
            groups.append({**settings, "params": [name]})
        else:
            alike["params"].append(name)
    return {"state": slots, "param_groups": groups}


def _unknown(source: str, found: str) -> CheckpointMismatch:
    return CheckpointMismatch(
        f"Reading the optimizer in {source}: it is {found}; expected `state` and `param_groups` as torch, "
        "torch.distributed.checkpoint or Holdfast write them, or fastai's `state` and `hypers`. Load the weights alone."
    )
