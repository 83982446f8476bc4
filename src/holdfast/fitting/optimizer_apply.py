"""Putting slots and options into a live optimizer: all of them, or, when it refuses, none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from holdfast.errors import CheckpointMismatch
from holdfast.fitting.optimizer_kind import COUNTERS
from holdfast.fitting.optimizer_members import Member
from holdfast.fitting.optimizer_names import NamedGroup, NamedOptimizerState
from holdfast.fitting.optimizer_slots import number_of, slots_for

# How a step is carried out, not what it does: these stay the live optimizer's in any case.
_EXECUTION = frozenset({"foreach", "fused", "capturable", "differentiable", "params", "param_names", "name"})


def options_taken(
    optimizer: Optimizer, members: Sequence[Member], named: NamedOptimizerState, settings: bool
) -> tuple[list[dict[str, Any]], list[str]]:
    """Returns what each live group takes from the saved groups that its parameters come from, and what contradicts.

    Counters are always taken; with `settings`, so is every option on which those groups agree, but not how a step is
    carried out.
    """
    group_of = {name: group for group in named.groups for name in group.names if name is not None}
    taken: list[dict[str, Any]] = []
    problems: list[str] = []
    for number, own in enumerate(optimizer.param_groups):
        sources: list[NamedGroup] = []
        for member in members:
            group = group_of.get(member.source or "") if member.group == number else None
            if group is not None and not any(group is other for other in sources):
                sources.append(group)
        options: dict[str, Any] = {}
        for key, value in sources[0].settings.items() if sources else ():
            values = [number_of(group.settings.get(key)) for group in sources]
            if any(other != values[0] for other in values):
                if key in COUNTERS:
                    problems.append(f"group {number} takes parameters of groups whose {key} is {_some(values)}")
            elif key in COUNTERS or (settings and key not in _EXECUTION and (key in own or key == "initial_lr")):
                options[key] = _like(own.get(key), value)
        taken.append(options)
    return taken, problems


def put_slots(
    optimizer: Optimizer, members: Sequence[Member], slots: dict[int, dict[str, Any]],
    named: NamedOptimizerState, options: list[dict[str, Any]], source: str,
) -> Callable[[], None]:  # fmt: skip
    """Hands slots to the optimizer's own `load_state_dict`, which knows how older versions of it kept them.

    Returns what makes the optimizer as it was before; to be called before its next step.

    Args:
        members: the optimizer's parameters.
        slots: position among them → slots, made for it; the others keep what they have.
        named: what was saved, for what belongs to no single parameter.
        options: for each group, what changes.
        source: the file, for messages.

    Raises:
        CheckpointMismatch: it refused them; it is as it was.
    """
    own = optimizer.state_dict()
    figure = torch.zeros(0)  # stands for the parameter that these have not
    shared = slots_for(figure, named.shared, {}, "float32")
    beside = slots_for(figure, {key: value for key, value in named.beside.items() if key in own}, {}, "float32")
    before = {key: dict(held) if isinstance(held, dict) else held for key, held in optimizer.state.items()}
    groups = [dict(group) for group in optimizer.param_groups]
    merged = [{**group, **new} for group, new in zip(own["param_groups"], options, strict=True)]

    def undo() -> None:
        optimizer.state.clear()
        optimizer.state.update(before)
        for group, old in zip(optimizer.param_groups, groups, strict=False):
            group.clear()
            group.update(old)

    try:
        optimizer.load_state_dict(
            {**own, **beside, "state": {**own["state"], **shared, **slots}, "param_groups": merged}
        )
        live = optimizer.state_dict()["state"]
        for number, held in slots.items():
            live[number].update(_recast(members[number].parameter, live[number], held))
    except Exception as error:
        undo()
        raise CheckpointMismatch(
            f"Loading the optimizer of {source}: {type(optimizer).__name__} refused the slots ({type(error).__name__}: "
            f"{error}); expected it to take them by load_state_dict. It is as it was; load the weights alone."
        ) from error
    for group, old, new in zip(optimizer.param_groups, groups, options, strict=True):
        # The very objects: a rate that is a tensor may be in use by a compiled step or a schedule.
        group.update({key: value for key, value in old.items() if key not in new})
    return undo


def _like(live: Any, saved: Any) -> Any:
    """Returns a saved option as the live one is: a tensor where that is one, else a number, a tuple, text."""
    if isinstance(live, Tensor):
        return torch.as_tensor(number_of(saved), dtype=live.dtype, device=live.device).clone()
    (made,) = slots_for(torch.zeros(0), {"step": saved}, {}, None).values()  # "step": a figure of no cast type
    return tuple(made) if isinstance(live, tuple) and isinstance(made, list) else made


def _some(values: list[Any]) -> str:
    return " and ".join(map(str, dict.fromkeys(values)))


def _recast(parameter: Tensor, live: Mapping[str, Any], held: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the slots that torch has cast to their parameter's type although they were to stay as they are."""
    return {
        key: value
        for key, value in held.items()
        if isinstance(value, Tensor)
        and isinstance(live.get(key), Tensor)
        and live[key].dtype == parameter.dtype != value.dtype
    }
