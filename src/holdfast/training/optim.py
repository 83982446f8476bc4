"""torch's optimizers, with parameter groups that make sense by themselves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from holdfast.errors import ConfigError

OPTIMIZERS = ("sgd", "adamw", "adam")


def build_optimizer(
    model: nn.Module,
    name: str,
    lr: float,
    *,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    lr_scales: Mapping[str, float] | None = None,
    **args: Any,
) -> torch.optim.Optimizer:
    """Builds an optimizer over the parameters that are not frozen.

    Biases and the scales of norms (parameters of fewer than two dimensions) are not decayed. `lr_scales` gives groups
    of parameters their own learning rate, such as `{"fc": 10.0}` for a fresh head on a trained backbone.

    Args:
        name: "sgd" (with Nesterov momentum), "adamw" or "adam".
        lr: above 0; a schedule sets it anew at every step.
        weight_decay: 0 or more.
        momentum: in [0, 1), for sgd.
        lr_scales: pattern → factor. A pattern is a module's or parameter's dotted name, its beginning, or a regular
            expression that matches the whole name; the first that fits decides.
        args: passed on to torch.

    Returns:
        torch's own optimizer. Its groups carry `lr_scale`.

    Raises:
        ConfigError: no such optimizer, an argument it does not take, a pattern that fits nothing, or nothing to train.
    """
    kinds: dict[str, type[torch.optim.Optimizer]] = {
        "sgd": torch.optim.SGD,
        "adamw": torch.optim.AdamW,
        "adam": torch.optim.Adam,
    }
    if name not in kinds:
        raise ConfigError(f"There is no optimizer {name!r}. Choose one of: {', '.join(OPTIMIZERS)}.")
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    unused = set(lr_scales or {})
    for parameter_name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        scale = 1.0
        for pattern, factor in (lr_scales or {}).items():
            if matches(pattern, parameter_name):
                scale = factor
                unused.discard(pattern)
                break
        groups.setdefault((scale, weight_decay if parameter.ndim > 1 else 0.0), []).append(parameter)
    if unused:
        raise ConfigError(
            f"No parameter to train is called {' or '.join(sorted(unused))}; `holdfast models --show NAME` "
            "lists the names."
        )
    if not groups:
        raise ConfigError("Every parameter of the model is frozen; there is nothing to train.")
    param_groups = [
        {"params": parameters, "weight_decay": decay, "lr_scale": scale, "lr": lr * scale}
        for (scale, decay), parameters in groups.items()
    ]
    if name == "sgd":
        args = {"momentum": momentum, "nesterov": momentum > 0, **args}
    try:
        return kinds[name](param_groups, **{"lr": lr, **args})
    except (TypeError, ValueError) as error:
        raise ConfigError(f"Building the optimizer {name} with {args}: {error}.") from error


def matches(pattern: str, name: str) -> bool:
    """Returns whether `pattern` names `name`: the same, a module above it, or a regular expression for all of it."""
    return name == pattern or name.startswith(f"{pattern}.") or re.fullmatch(pattern, name) is not None
