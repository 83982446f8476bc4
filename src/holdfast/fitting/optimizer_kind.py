"""Whether slots belong to an optimizer: those of another kind, or of the same kind set up otherwise, are refused.

Adam's moments in SGD would lie about unused; Adam's without `amsgrad` in one with it end the next step with a KeyError.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from holdfast.fitting.optimizer_slots import filled, number_of

# Options that decide which slots there are.
_DECIDING = ("amsgrad", "centered", "momentum", "beta1")
# Written into the groups by schedulers and training scripts, whatever kind of optimizer a group belongs to.
_OF_OTHERS = frozenset(
    {"base_momentum", "initial_lr", "max_lr", "max_momentum", "min_lr", "swa_lr", "lr_scale", "name", "fix_lr"}
)
# Counters that some optimizers keep in their groups, where others keep them beside each parameter.
COUNTERS = frozenset({"step", "k", "lookahead_step", "weight_sum", "d", "d_max", "d_numerator", "d_denom"})


def option_differences(optimizer: Optimizer, groups: Iterable[Mapping[str, Any]]) -> list[str]:
    """Returns a line for each way in which the options of saved groups are those of another kind of optimizer.

    Args:
        groups: the saved groups' options.
    """
    saved = list(groups)
    own = optimizer.param_groups
    if not saved or not own:
        return []
    lines: list[str] = []
    for option in _DECIDING:
        theirs = {bool(number_of(group[option])) for group in saved if option in group}
        ours = {bool(number_of(group[option])) for group in own if option in group}
        if len(theirs) == len(ours) == 1 and theirs != ours:
            lines.append(f"it was saved with {option}={_first(saved, option)!r}, now it is {_first(own, option)!r}")
    if "num_groups" in saved[0]:  # fastai has its own words for the options
        return lines
    missing = set(optimizer.defaults) - set(saved[0])
    surplus = set(saved[0]) - set(own[0]) - _OF_OTHERS - COUNTERS
    if missing and surplus:
        lines.append(
            f"it was saved with the options {', '.join(sorted(surplus))}, and {type(optimizer).__name__} has "
            f"{', '.join(sorted(missing))} instead"
        )
    return lines


def slot_differences(optimizer: Optimizer, kept: Iterable[tuple[str, Tensor, int, Mapping[str, Any]]]) -> list[str]:
    """Returns a line for each parameter whose slots the live optimizer does not have, or that lacks one it has.

    Args:
        kept: (name, live parameter, number of its group, its saved slots).
    """
    expected: dict[tuple[int, int], frozenset[str] | None] = {}
    lines: list[str] = []
    for name, parameter, group, slots in kept:
        key = (group, parameter.ndim)
        if key not in expected:
            expected[key] = slots_made(optimizer, group, parameter.ndim)
        own = expected[key]
        if own is None:
            own = frozenset(filled(optimizer.state[parameter])) if parameter in optimizer.state else frozenset()
        if own and own != slots.keys():
            was, now = (", ".join(sorted(words)) or "nothing" for words in (slots.keys() - own, own - slots.keys()))
            lines.append(
                f"{name} has the slots {was}, and {type(optimizer).__name__} as it is set up has {now} instead"
            )
    return lines


def slots_made(optimizer: Optimizer, group: int, ndim: int) -> frozenset[str] | None:
    """Returns the names of the slots that an optimizer of torch makes at its first step; None for any other optimizer.

    They are seen, not looked up: a stand-in of its class steps once with its options, on a parameter of its own.

    Args:
        group: the number of the group whose options count.
        ndim: number of axes of the parameter.
    """
    kind = type(optimizer)
    if not f"{kind.__module__}.".startswith("torch.optim."):
        return None
    parameter = nn.Parameter(torch.zeros((2,) * ndim))
    parameter.grad = torch.zeros_like(parameter)
    plain = {"lr": 0.01, "capturable": False, "fused": False, "foreach": False, "differentiable": False}
    options = optimizer.param_groups[group]
    stand_in = object.__new__(kind)
    # Not a copy by way of the constructor, whose arguments are not known; not its own `step`, which schedulers wrap.
    stand_in.__dict__ |= vars(optimizer) | {
        "state": defaultdict(dict),
        "param_groups": [{**options, **{k: v for k, v in plain.items() if k in options}, "params": [parameter]}],
    }
    try:
        with torch.no_grad():  # and below the wrapper that runs everybody's hooks
            getattr(kind.step, "__wrapped__", kind.step)(stand_in)
    except (RuntimeError, TypeError, ValueError, AttributeError, KeyError):
        return None  # it wants a closure, sparse gradients, matrices only
    return frozenset(filled(stand_in.state.get(parameter, {})))


def _first(groups: list[Any], option: str) -> Any:
    return next(number_of(group[option]) for group in groups if option in group)
