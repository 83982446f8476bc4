"""The state of optimizers, by the names of their parameters, never by index.

An optimizer numbers its parameters in the order they were handed over; a model whose layers are re-ordered then gets
the wrong moments without a word. Here the number is replaced by `<part>.<parameter>` on the way out, and looked up
again on the way in. This file knows no disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from holdfast.checkpoints.optimizer_differences import ParameterNames, optimizer_differences
from holdfast.checkpoints.random_state import (
    GENERATOR_TYPES,
    Generator,
    generator_difference,
    generator_state,
    set_generator,
)
from holdfast.errors import UnsupportedState

# Where the generators are kept that an optimizer draws from and does not hand out (AdaHessian of timm).
_GENERATORS = "holdfast:generators"


def optimizer_state(part: str, optimizer: Optimizer, names: ParameterNames, parts: Mapping[str, Any]) -> Any:
    """Returns the optimizer's state with names for numbers; what else its `state_dict()` holds is kept as it is.

    Raises:
        UnsupportedState: it drives another optimizer whose state it does not hand out.
    """
    state = optimizer.state_dict()
    if not _is_usual(state):
        return state
    _refuse_hidden(part, optimizer, state, parts)
    ordered = names.of(optimizer)
    groups = [
        {**{k: v for k, v in group.items() if k != "param_names"}, "params": [ordered[i] for i in group["params"]]}
        for group in state["param_groups"]
    ]
    numbers = range(len(ordered))
    # A key that is no number is the optimizer's own, for what belongs to no parameter.
    slots = {ordered[key] if key in numbers else key: value for key, value in state["state"].items()}
    generators = {name: generator_state(generator) for name, generator in _generators_in(optimizer).items()}
    return {**state, "state": slots, "param_groups": groups} | ({_GENERATORS: generators} if generators else {})


def fit_optimizer(
    part: str, optimizer: Optimizer, trees: Mapping[str, Any], names: ParameterNames, problems: list[str]
) -> Any:
    """Returns what was saved with numbers for names, groups in the optimizer's own order.

    Args:
        trees: part → what was saved; the shapes of parameters are looked up in the models among them.
        problems: every difference is added to it, by name; then what is returned is of no use.
    """
    tree = trees[part]
    if not _is_usual(optimizer.state_dict()):
        return tree
    if not _is_usual(tree):
        problems.append(f"{part}: what was saved is not the state of an optimizer")
        return {}
    positions = names.positions(optimizer)
    found = optimizer_differences(part, optimizer, trees, names)
    groups = _groups_in_order(part, optimizer, tree, names, found)
    for name, generator in _generators_in(optimizer).items():
        line = generator_difference(f"{part}.{name}", generator, tree.get(_GENERATORS, {}).get(name))
        found += [line] if line else []
    problems += found
    saved_names = {name for group in tree["param_groups"] for name in group["params"]}
    state = {
        positions[key] if key in saved_names and key in positions else key: value
        for key, value in tree["state"].items()
    }
    return {**tree, "state": state, "param_groups": groups}


def load_optimizer(optimizer: Optimizer, tree: Any) -> None:
    """Hands over what `fit_optimizer` returned, and puts back what torch changes on the way."""
    if not _is_usual(tree):
        optimizer.load_state_dict(tree)
        return
    optimizer.load_state_dict({key: value for key, value in tree.items() if key != _GENERATORS})
    for name, generator in _generators_in(optimizer).items():
        set_generator(generator, tree[_GENERATORS][name])
    # torch casts every slot to the type of its parameter. Moments kept in float32 for bfloat16 weights, and the
    # bytes of 8-bit optimizers, must come back as they were.
    live = optimizer.state_dict().get("state", {})
    for key, slots in tree["state"].items():
        if isinstance(slots, dict) and isinstance(live.get(key), dict):
            for slot, value in slots.items():
                if slot in live[key]:
                    live[key][slot] = _of_saved_type(live[key][slot], value)


def _is_usual(state: Any) -> bool:
    return isinstance(state, dict) and {"state", "param_groups"} <= state.keys()


def _generators_in(optimizer: Optimizer) -> dict[str, Generator]:
    """Returns the generators an optimizer keeps, and those of the optimizers it drives, by attribute."""
    found: dict[str, Generator] = {}
    for attribute, value in vars(optimizer).items():
        if isinstance(value, GENERATOR_TYPES):
            found[attribute] = value
        elif isinstance(value, Optimizer):
            found |= {f"{attribute}.{name}": generator for name, generator in _generators_in(value).items()}
    return found


def _of_saved_type(live: Any, saved: Any) -> Any:
    if isinstance(live, Tensor) and isinstance(saved, Tensor):
        return live if live.dtype == saved.dtype else saved.to(live.device, copy=True)
    if isinstance(live, dict) and isinstance(saved, dict):
        return {key: _of_saved_type(value, saved.get(key)) for key, value in live.items()}
    if type(live) in (list, tuple) and isinstance(saved, (list, tuple)) and len(live) == len(saved):
        return type(live)(_of_saved_type(*pair) for pair in zip(live, saved, strict=True))
    return live


def _refuse_hidden(part: str, optimizer: Optimizer, state: dict[str, Any], parts: Mapping[str, Any]) -> None:
    """Refuses an optimizer that drives another one and leaves the moments of that one out of its state."""
    handed_out = set(_tensor_ids(state["state"]))
    for attribute, inner in vars(optimizer).items():
        if not isinstance(inner, Optimizer) or any(inner is value for value in parts.values()):
            continue
        if not set(_tensor_ids(dict(inner.state))) <= handed_out:
            raise UnsupportedState(
                f"Saving {part}: its .{attribute} is an optimizer ({type(inner).__name__}) whose state is missing in "
                f"the state_dict() of {type(optimizer).__name__}; expected all state to be handed out. Give that one "
                f'as a part too: {{"{part}": optimizer, "{part}_inner": optimizer.{attribute}}}.'
            )


def _tensor_ids(tree: Any) -> Iterator[int]:
    if isinstance(tree, Tensor):
        yield id(tree)
    elif isinstance(tree, (dict, list, tuple)):
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from _tensor_ids(value)


def _groups_in_order(
    part: str, optimizer: Optimizer, tree: dict[str, Any], names: ParameterNames, problems: list[str]
) -> list[dict[str, Any]]:
    """Returns the saved groups in the optimizer's own order; adds to `problems` those that match none."""
    ordered, positions = names.of(optimizer), names.positions(optimizer)
    waiting = [({positions.get(name, -1) for name in group["params"]}, group) for group in tree["param_groups"]]
    groups: list[dict[str, Any]] = []
    start = 0
    unmatched: list[str] = []
    for own in optimizer.param_groups:
        members = range(start, start + len(own["params"]))
        start += len(members)
        match = next((i for i, (held, _) in enumerate(waiting) if held == set(members)), None)
        if match is None:
            unmatched.append(f"{part}: no saved group holds just the {_some([ordered[i] for i in members])}")
        else:
            groups.append({**waiting.pop(match)[1], "params": list(members)})
    if (unmatched or waiting) and not problems:  # with other parameters the groups cannot match: that says it all
        for _, group in waiting:
            unmatched.append(f"{part}: no group of this optimizer holds just the saved {_some(group['params'])}")
        problems += unmatched
    if isinstance(optimizer, torch.optim.LBFGS) and not problems:
        saved_order = [positions[name] for group in tree["param_groups"] for name in group["params"]]
        if saved_order != sorted(saved_order):
            first = next(i for i, position in enumerate(saved_order) if i != position)
            problems.append(
                f"{part}: L-BFGS keeps vectors over all parameters in their order, and parameter {first} was "
                f"{ordered[saved_order[first]]}, is {ordered[first]}; hand them over in the saved order"
            )
    return groups


def _some(names: list[str]) -> str:
    return f"{len(names)} parameters" + (f" {names[0]} … {names[-1]}" if names else "")
