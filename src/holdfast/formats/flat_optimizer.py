"""Optimizers that a flat table of names stands for, as torch has them: {"state": …, "param_groups": […]}.

torch.distributed writes them as `state.<parameter>.<slot>` and `param_groups.<parameter>.<option>`, drops containers
that are empty, and turns numbers that are keys into text. Here that is undone.
"""

from __future__ import annotations

from typing import Any

_STATE, _GROUPS = "state.", "param_groups."
_PLAIN = (str, int, float, bool, type(None))
_MAX_OPTION = 16  # values of one option, as betas has two


def as_optimizer(node: dict[Any, Any]) -> dict[Any, Any]:
    """Returns an optimizer in torch's form; anything else as it was."""
    if node and all(type(key) is str and key.startswith((_STATE, _GROUPS)) for key in node):
        return _unflattened(node)
    groups = node.get("param_groups")
    if not isinstance(groups, list) or not groups or not all(isinstance(group, dict) for group in groups):
        return node
    state = node.get("state", {})  # one that has not stepped has none, and none was written
    if not isinstance(state, dict):
        return node
    numbered = all(isinstance(g.get("params"), list) and all(type(p) is int for p in g["params"]) for g in groups)
    if numbered and all(type(key) is str and key.isdecimal() and len(key) < 10 for key in state):
        state = {int(key): slots for key, slots in state.items()}
    return {**node, "state": state}


def _unflattened(node: dict[str, Any]) -> dict[str, Any]:
    """Parameters with the same options, one after another or not, become one group."""
    options: dict[str, dict[str, Any]] = {}
    for key, value in node.items():
        if key.startswith(_GROUPS):
            parameter, _, option = key.removeprefix(_GROUPS).rpartition(".")
            options.setdefault(parameter, {})[option] = value
    state: dict[str, dict[str, Any]] = {}
    for key, value in node.items():
        if key.startswith(_STATE):
            parameter, slot = _split(key.removeprefix(_STATE), options)
            state.setdefault(parameter, {})[slot] = value
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for parameter, held in options.items():
        same = tuple(sorted((name, _identity(value)) for name, value in held.items()))
        groups.setdefault(same, {"params": [], **held})["params"].append(parameter)
    return {"state": state, "param_groups": list(groups.values())}


def _split(name: str, parameters: dict[str, Any]) -> tuple[str, str]:
    """Returns the parameter and the slot that a name consists of; a slot within a slot has dots of its own."""
    at = name.rfind(".")
    while at > 0:
        if name[:at] in parameters:
            return name[:at], name[at + 1 :]
        at = name.rfind(".", 0, at)
    parameter, _, slot = name.rpartition(".")
    return parameter, slot


def _identity(value: Any) -> str:
    """Returns what is equal for equal options. What a file chose to nest is not compared, only told apart."""
    if type(value) in _PLAIN:
        return repr(value)
    if type(value) in (list, tuple) and len(value) <= _MAX_OPTION and all(type(v) in _PLAIN for v in value):
        return repr(value)
    return f"<{id(value)}>"
