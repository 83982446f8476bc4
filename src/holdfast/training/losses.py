"""Losses by name, or the user's own."""

from __future__ import annotations

import importlib
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from holdfast.errors import ConfigError
from holdfast.training.state import Loss


def cross_entropy(label_smoothing: float = 0.0) -> Loss:
    """Returns softmax cross-entropy: logits `[B, K]` and class indices `[B]` → `[]`."""

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets, label_smoothing=label_smoothing)

    return loss


def nll(outputs: Tensor, targets: Tensor) -> Tensor:
    """Negative log-likelihood, for models that end in log_softmax: log-probabilities `[B, K]`, indices `[B]` → `[]`."""
    return F.nll_loss(outputs, targets)


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error. Class indices `[B]` against scores `[B, K]` are compared as one-hot rows."""
    if targets.ndim == 1 and outputs.ndim == 2 and not targets.is_floating_point():
        targets = F.one_hot(targets, outputs.shape[1]).to(outputs.dtype)
    return F.mse_loss(outputs, targets)


def build_loss(name: str, label_smoothing: float = 0.0) -> Loss:
    """Returns a loss.

    Args:
        name: "cross-entropy", "nll", "mse", or your own as `package.module:name`: a function of (outputs, targets),
            or a class that is made without arguments.
        label_smoothing: in [0, 1), for cross-entropy.

    Raises:
        ConfigError: no such loss.
    """
    known: dict[str, Loss] = {"cross-entropy": cross_entropy(label_smoothing), "nll": nll, "mse": mse}
    if name in known:
        return known[name]
    if ":" not in name:
        raise ConfigError(f"There is no loss {name!r}. Choose one of: {', '.join(known)}, or package.module:function.")
    module_name, _, attribute = name.partition(":")
    try:
        found: Any = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"Importing the loss {name!r}: {error}.") from error
    loss: Loss = found() if isinstance(found, type) else found
    return loss
