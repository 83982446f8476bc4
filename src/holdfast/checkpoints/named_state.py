"""The state of live objects, by name: modules by parameter name, optimizers by parameter name too, never by index.

An optimizer numbers its parameters in the order they were handed over; a model whose layers are re-ordered then gets
the wrong moments without a word. Here the number is replaced by `<part>.<parameter>` on the way out, and looked up
again on the way in. This file knows no disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from holdfast.errors import CheckpointMismatch, first_of
from holdfast.stateful import Stateful

Parts = Mapping[str, Any]

# Slots that have the parameter's own shape. Others may have any: Adafactor's factors, the flat vectors of L-BFGS.
_SLOTS_OF_ITS_SHAPE = frozenset(
    {"acc_delta", "ax", "exp_avg", "exp_avg_sq", "exp_inf", "grad_avg", "max_exp_avg_sq", "momentum_buffer"}
    | {"prev", "square_avg", "step_size", "sum"}
)


def state_of(parts: Parts) -> dict[str, Any]:
    """Returns the state tree of every part; parts without `state_dict` are taken as the tree itself."""
    names = _parameter_names(parts)
    trees: dict[str, Any] = {}
    for part, value in parts.items():
        if isinstance(value, torch.optim.Optimizer):
            trees[part] = _by_name(value, names)
        elif isinstance(value, nn.Module):
            trees[part] = dict(value.state_dict())
        else:
            trees[part] = value.state_dict() if isinstance(value, Stateful) else value
    return trees


def load_into(parts: Parts, trees: Mapping[str, Any], source: str) -> None:
    """Puts every part into the state `trees` holds for it, after checking that all of them fit.

    Dicts and lists are filled in place. Nothing is changed when anything does not fit.

    Args:
        source: the checkpoint, for errors.

    Raises:
        CheckpointMismatch: a part was not saved, or names or shapes differ; all differences at once.
    """
    problems = [f"part {part!r} was not saved" for part in parts if part not in trees]
    names = _parameter_names(parts)
    prepared: dict[str, Any] = {}
    for part, value in parts.items():
        if part not in trees:
            continue
        if isinstance(value, nn.Module):
            problems += _module_differences(part, value, trees[part])
        elif isinstance(value, torch.optim.Optimizer):
            prepared[part] = _by_index(part, value, trees[part], names, problems)
        else:
            problems += _place_differences(part, value, trees[part])
    if problems:
        raise CheckpointMismatch(
            f"Loading {source}: {len(problems)} differences from what was saved:\n{first_of(problems)}\n"
            "Build the same model and optimizer as when it was saved."
        )
    # What checks itself while it loads (a data loader) goes first: if it refuses, no weight has been touched.
    for part, value in sorted(parts.items(), key=lambda item: isinstance(item[1], nn.Module | torch.optim.Optimizer)):
        _load_one(value, prepared.get(part, trees[part]))


def _load_one(value: Any, tree: Any) -> None:
    if isinstance(value, Stateful):
        value.load_state_dict(tree)
    elif isinstance(value, dict):
        value.clear()
        value.update(tree)
    elif isinstance(value, list):
        value[:] = tree
    else:
        with torch.no_grad():
            value.copy_(tree)


def _parameter_names(parts: Parts) -> dict[int, str]:
    return {
        id(parameter): f"{part}.{name}"
        for part, module in parts.items()
        if isinstance(module, nn.Module)
        for name, parameter in module.named_parameters()
    }


def _ordered_names(optimizer: torch.optim.Optimizer, names: dict[int, str]) -> list[str]:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    # A parameter of no part we know keeps its number, marked so that it cannot be mistaken for a name.
    return [names.get(id(p), f"#{i}") for i, p in enumerate(parameters)]


def _by_name(optimizer: torch.optim.Optimizer, names: dict[int, str]) -> dict[str, Any]:
    ordered = _ordered_names(optimizer, names)
    state = optimizer.state_dict()
    return {
        "state": {ordered[index]: slots for index, slots in state["state"].items()},
        "param_groups": [
            {**{k: v for k, v in group.items() if k != "param_names"}, "params": [ordered[i] for i in group["params"]]}
            for group in state["param_groups"]
        ],
    }


def _by_index(
    part: str, optimizer: torch.optim.Optimizer, tree: Any, names: dict[int, str], problems: list[str]
) -> dict[str, Any]:
    """Returns `tree` with numbers for names, groups in the optimizer's own order; adds to `problems`."""
    if not isinstance(tree, dict) or not {"state", "param_groups"} <= tree.keys():
        problems.append(f"{part}: what was saved is not the state of an optimizer")
        return {}
    ordered = _ordered_names(optimizer, names)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    index = {name: i for i, name in enumerate(ordered)}
    saved_groups = {frozenset(group["params"]): group for group in tree["param_groups"]}
    groups: list[dict[str, Any]] = []
    start = 0
    for own in optimizer.param_groups:
        members = ordered[start : start + len(own["params"])]
        saved = saved_groups.get(frozenset(members))
        if saved is None:
            which = f" {members[0]} … {members[-1]}" if members else ""
            problems.append(f"{part}: no saved group holds just the {len(members)} parameters{which}")
        else:
            groups.append({**saved, "params": list(range(start, start + len(members)))})
        start += len(members)
    state: dict[int, Any] = {}
    for name, slots in tree["state"].items():
        if name not in index:
            problems.append(f"{part}: saved slots for {name}, which the optimizer does not have")
            continue
        wanted = parameters[index[name]].shape
        for slot, value in slots.items():
            if slot not in _SLOTS_OF_ITS_SHAPE or not isinstance(value, Tensor) or value.ndim != len(wanted):
                continue
            if value.shape != wanted:
                problems.append(f"{part}: {name}.{slot} has shape {list(value.shape)}, the parameter {list(wanted)}")
        state[index[name]] = slots
    return {"state": state, "param_groups": groups}


def _module_differences(part: str, module: nn.Module, tree: Any) -> list[str]:
    own = module.state_dict()
    if not isinstance(tree, dict):
        return [f"{part}: what was saved is a {type(tree).__name__}, not the state of a module"]
    problems = [f"{part}: {name} is missing in the checkpoint" for name in own if name not in tree]
    problems += [f"{part}: {name} is in the checkpoint and not in the model" for name in tree if name not in own]
    problems += [
        f"{part}: {name} was saved with shape {list(tree[name].shape)}, the model has {list(value.shape)}"
        for name, value in own.items()
        if isinstance(value, Tensor) and isinstance(tree.get(name), Tensor) and tree[name].shape != value.shape
    ]
    return problems


def _place_differences(part: str, value: Any, tree: Any) -> list[str]:
    """Returns why a part that is filled in place cannot take `tree`."""
    if isinstance(value, Stateful):
        return []  # its own load_state_dict decides
    if isinstance(value, Tensor):
        if isinstance(tree, Tensor) and tree.shape == value.shape:
            return []
        found = f"shape {list(tree.shape)}" if isinstance(tree, Tensor) else f"a {type(tree).__name__}"
        return [f"{part}: was saved with {found}, the tensor has shape {list(value.shape)}"]
    if not isinstance(value, (dict, list)):
        return [f"{part}: a {type(value).__name__} cannot be restored in place; put it into a dict"]
    if not isinstance(tree, type(value)):
        return [f"{part}: was saved as a {type(tree).__name__}, and is a {type(value).__name__} now"]
    return []
