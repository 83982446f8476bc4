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
    groups = _group(model, weight_decay, lr_scales or {})
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


def _group(
    model: nn.Module, weight_decay: float, lr_scales: Mapping[str, float]
) -> dict[tuple[float, float], list[nn.Parameter]]:
    """Returns (factor of the learning rate, decay) → parameters, in the model's order."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    unused = set(lr_scales)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        pattern = next((pattern for pattern in lr_scales if matches(pattern, name)), None)
        unused.discard(pattern or "")
        scale = 1.0 if pattern is None else lr_scales[pattern]
        groups.setdefault((scale, weight_decay if parameter.ndim > 1 else 0.0), []).append(parameter)
    if unused:
        raise ConfigError(
            f"No parameter to train is called {' or '.join(sorted(unused))}; `holdfast models --show NAME` "
            "lists the names."
        )
    return groups


def matches(pattern: str, name: str) -> bool:
    """Returns whether `pattern` names `name`: the same, a module above it, or a regular expression for all of it.

    Raises:
        ConfigError: it is no name and no regular expression.
    """
    try:
        return name == pattern or name.startswith(f"{pattern}.") or re.fullmatch(pattern, name) is not None
    except re.error as error:
        raise ConfigError(
            f"{pattern!r} is neither a name nor a regular expression ({error}); for a wildcard write "
            f"{pattern.replace('*', '.*')!r}."
        ) from error
