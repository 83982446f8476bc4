"""What the parameters of an optimizer are called, and how they differ from those that were saved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from holdfast.checkpoints.module_names import named_parameters

# Slots that have the parameter's own shape. Others may have any: Adafactor's factors, the flat vectors of L-BFGS.
_SLOTS_OF_ITS_SHAPE = frozenset(
    {"acc_delta", "ax", "exp_avg", "exp_avg_sq", "exp_inf", "grad_avg", "max_exp_avg_sq", "momentum_buffer"}
    | {"prev", "square_avg", "step_size", "sum"}
)
# Written into the groups by schedulers; a group has them or not, whatever kind of optimizer it belongs to.
_OPTIONS_OF_SCHEDULERS = frozenset({"base_momentum", "initial_lr", "max_lr", "max_momentum", "min_lr", "swa_lr"})


class ParameterNames:
    """The names that the parameters of all modules among the parts have, in the plain models.

    A parameter has several when it is tied within a model or shared by several parts. The first is the one it is
    stored under; any of them finds it again, so that the order in which layers and parts stand does not matter.
    """

    def __init__(self, parts: Mapping[str, Any]) -> None:
        self._first: dict[int, str] = {}
        self._owner: dict[str, int] = {}
        for part, module in parts.items():
            if isinstance(module, nn.Module):
                for name, parameter in named_parameters(module):
                    self._first.setdefault(id(parameter), f"{part}.{name}")
                    self._owner[f"{part}.{name}"] = id(parameter)

    def of(self, optimizer: Optimizer) -> list[str]:
        """Returns the name of each parameter, in the optimizer's order; `#<number>` where no part owns it."""
        return [self._first.get(id(p), f"#{i}") for i, p in enumerate(parameters_of(optimizer))]

    def positions(self, optimizer: Optimizer) -> dict[str, int]:
        """Returns where in the optimizer's order a parameter stands, by each of its names."""
        places = {id(p): i for i, p in enumerate(parameters_of(optimizer))}
        positions = {name: i for i, name in enumerate(self.of(optimizer))}
        return positions | {name: places[owner] for name, owner in self._owner.items() if owner in places}


def parameters_of(optimizer: Optimizer) -> list[Tensor]:
    """Returns the optimizer's parameters in its own order, group after group."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def optimizer_differences(
    part: str, optimizer: Optimizer, trees: Mapping[str, Any], names: ParameterNames
) -> list[str]:
    """Returns the differences in parameters, slots and kind, one a line; groups are not looked at.

    Args:
        trees: part → what was saved; the shapes of parameters are looked up in the models among them.
    """
    return [
        *_strangers(part, optimizer, trees, names),
        *_slot_differences(part, optimizer, trees[part], names.positions(optimizer)),
        *_option_differences(part, optimizer, trees[part]),
    ]


def _strangers(part: str, optimizer: Optimizer, trees: Mapping[str, Any], names: ParameterNames) -> list[str]:
    """Returns the parameters that only one side has, with their shapes, and those that were saved several times."""
    positions, ordered = names.positions(optimizer), names.of(optimizer)
    saved = [name for group in trees[part]["param_groups"] for name in group["params"]]
    known = {positions[name] for name in saved if name in positions}
    own = [
        f"{part}: {ordered[i]} {list(p.shape)} is in the optimizer and was not saved with it"
        + (" (no part owns it: give its model too)" if ordered[i].startswith("#") else "")
        for i, p in enumerate(parameters_of(optimizer))
        if i not in known
    ]
    gone = [
        f"{part}: {name}{_saved_shape(name, part, trees)} was saved, and the optimizer does not have it"
        + (" (no part owned it)" if name.startswith("#") else "")
        for name in saved
        if name not in positions
    ]
    counts = Counter(positions[name] for name in saved if name in positions)
    tied = [
        f"{part}: {ordered[i]} was saved as {n} parameters, which are one (tied) now"
        for i, n in counts.items()
        if n > 1
    ]
    return own + gone + tied


def _saved_shape(name: str, part: str, trees: Mapping[str, Any]) -> str:
    """Returns the shape a parameter was saved with, where a model that was saved or a slot tells it."""
    for owner, tree in trees.items():
        if isinstance(tree, dict) and name.startswith(f"{owner}."):
            tensor = tree.get(name.removeprefix(f"{owner}."))
            if isinstance(tensor, Tensor):
                return f" {list(tensor.shape)}"
    slots = trees[part]["state"].get(name, {})
    shapes = [list(v.shape) for k, v in slots.items() if k in _SLOTS_OF_ITS_SHAPE and isinstance(v, Tensor)]
    return f" {shapes[0]}" if shapes else ""


def _slot_differences(part: str, optimizer: Optimizer, tree: dict[str, Any], positions: dict[str, int]) -> list[str]:
    parameters = list(parameters_of(optimizer))
    return [
        f"{part}: {name}.{slot} has shape {list(value.shape)}, the parameter {list(parameters[positions[name]].shape)}"
        for name, slots in tree["state"].items()
        if name in positions and isinstance(slots, dict)
        for slot, value in slots.items()
        if slot in _SLOTS_OF_ITS_SHAPE
        and isinstance(value, Tensor)
        and value.ndim == parameters[positions[name]].ndim
        and value.shape != parameters[positions[name]].shape
    ]


def _option_differences(part: str, optimizer: Optimizer, tree: dict[str, Any]) -> list[str]:
    """Returns a line if the saved groups are those of another kind of optimizer."""
    if not optimizer.param_groups or not tree["param_groups"]:
        return []
    own, saved = set(optimizer.param_groups[0]), set(tree["param_groups"][0])
    # One side alone may have more: a newer torch adds options, a scheduler writes some of its own.
    missing = own & set(optimizer.defaults) - saved
    surplus = saved - own - _OPTIONS_OF_SCHEDULERS
    if not missing or not surplus:
        return []
    found = f"{part}: was saved with the options {', '.join(sorted(surplus))}, and {type(optimizer).__name__} has "
    return [found + f"{', '.join(sorted(missing))} instead: it was another kind of optimizer"]
