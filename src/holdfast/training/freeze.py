"""Frozen layers stay as they are: parameters, and the statistics of batch norms among them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from holdfast.errors import ConfigError
from holdfast.training.optim import matches


def freeze(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Takes the gradient away from every parameter that a pattern names; returns their names.

    Args:
        patterns: as `lr_scales` of `build_optimizer`: a dotted name, its beginning, or a regular expression.

    Raises:
        ConfigError: a pattern that names nothing.
    """
    frozen: list[str] = []
    for pattern in patterns:
        names = [name for name, _ in model.named_parameters() if matches(pattern, name)]
        if not names:
            raise ConfigError(
                f"Freezing {pattern!r}: no parameter of the model is called so; `holdfast models --show NAME` "
                "lists them."
            )
        frozen += names
    for name, parameter in model.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    return list(dict.fromkeys(frozen))


def train_mode(model: nn.Module) -> None:
    """Puts the model into training mode, except norms with running statistics whose own parameters are all frozen.

    `model.train()` would let the statistics of a frozen batch norm drift away from the weights they belong to.
    Sub-modules that the caller put into eval mode by hand stay there while the model itself is in training mode.
    """
    if not model.training:
        model.train()
    for module in model.modules():
        if module.training and "running_mean" in module._buffers and _is_frozen(module):
            module.eval()


def _is_frozen(module: nn.Module) -> bool:
    own = list(module.parameters(recurse=False))
    return bool(own) and not any(parameter.requires_grad for parameter in own)
