"""Losses by name, or the user's own.

Those of numbers and points take targets with NaN for what is missing: a missing value counts for nothing, in the mean
too.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from holdfast.errors import ConfigError
from holdfast.training.state import Loss

# Wing loss on points in [-1, 1]: the authors' w = 10 and epsilon = 2 pixels of an input of 64 pixels.
_WING_WIDTH, _WING_CURVATURE = 10 / 32, 2 / 32


def cross_entropy(label_smoothing: float = 0.0) -> Loss:
    """Returns softmax cross-entropy: logits `[B, K]` and class indices `[B]` → `[]`."""

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets, label_smoothing=label_smoothing)

    return loss


def nll(outputs: Tensor, targets: Tensor) -> Tensor:
    """Negative log-likelihood, for models that end in log_softmax: log-probabilities `[B, K]`, indices `[B]` → `[]`."""
    return F.nll_loss(outputs, targets)


def bce(outputs: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy of every label by itself: logits `[B, K]` and 0 or 1 `[B, K]` → `[]`."""
    return F.binary_cross_entropy_with_logits(outputs, targets)


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error of the known. Class indices `[B]` against scores `[B, K]` are compared as one-hot rows."""
    if targets.ndim == 1 and outputs.ndim == 2 and not targets.is_floating_point():
        return F.mse_loss(outputs, F.one_hot(targets, outputs.shape[1]).to(outputs.dtype))
    return _mean_of_known(outputs, targets, lambda error: error.square())


def l1(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute error of the known."""
    return _mean_of_known(outputs, targets, torch.abs)


def smooth_l1(outputs: Tensor, targets: Tensor) -> Tensor:
    """Huber's loss, square below an error of 1 and linear above, of the known."""
    return _mean_of_known(outputs, targets, lambda e: F.smooth_l1_loss(e, torch.zeros_like(e), reduction="none"))


def wing(outputs: Tensor, targets: Tensor) -> Tensor:
    """Wing loss, for points in [-1, 1]: logarithmic near 0, so that small errors count too; linear above.

    Source: Z.-H. Feng et al., Wing Loss for Robust Facial Landmark Localisation, CVPR 2018, equation 5.
    """
    constant = _WING_WIDTH - _WING_WIDTH * math.log(1 + _WING_WIDTH / _WING_CURVATURE)

    def of(error: Tensor) -> Tensor:
        size = error.abs()
        near = _WING_WIDTH * torch.log1p(size / _WING_CURVATURE)
        return torch.where(size < _WING_WIDTH, near, size - constant)

    return _mean_of_known(outputs, targets, of)


def standardised(loss: Loss, mean: Sequence[float], std: Sequence[float]) -> Loss:
    """Returns `loss` of outputs `[B, K]` that are in units of `std` from `mean`, and targets `[B, K]` as they are."""

    def of(outputs: Tensor, targets: Tensor) -> Tensor:
        # Subtracted in float64 where there is such a thing: a year of birth varies by little beside its size.
        wide = targets if targets.device.type == "mps" else targets.double()
        scaled = (wide - wide.new_tensor(mean)) / wide.new_tensor(std)
        return loss(outputs, scaled.to(torch.float32))

    return of


def rescaled(loss: Loss, mean: Sequence[float], std: Sequence[float]) -> Loss:
    """Returns `loss` of outputs `[B, K]` times `std` plus `mean`: an untrained network then says about the mean."""

    def of(outputs: Tensor, targets: Tensor) -> Tensor:
        outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        return loss(outputs * outputs.new_tensor(std) + outputs.new_tensor(mean), targets)

    return of


def _mean_of_known(outputs: Tensor, targets: Tensor, of: Callable[[Tensor], Tensor]) -> Tensor:
    """Returns the mean of `of(error)` over targets that are no NaN; 0 when all are. Targets may be `[B, P, 2]`."""
    targets = targets.reshape(outputs.shape) if targets.ndim > outputs.ndim else targets
    outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))  # under autocast they are bf16
    known = ~torch.isnan(targets)
    # Masked before the difference: NaN times 0 is NaN, and its gradient too.
    error = outputs - torch.where(known, targets, outputs.detach().to(targets.dtype)).to(outputs.dtype)
    return (of(error) * known).sum() / known.sum().clamp_min(1)


_LOSSES: dict[str, Loss] = {"nll": nll, "bce": bce, "mse": mse, "l1": l1, "smooth-l1": smooth_l1, "wing": wing}
LOSSES = ("cross-entropy", *_LOSSES)


def build_loss(name: str, label_smoothing: float = 0.0) -> Loss:
    """Returns a loss.

    Args:
        name: one of LOSSES, or your own as `package.module:name`: a function of (outputs, targets),
            or a class that is made without arguments.
        label_smoothing: in [0, 1), for cross-entropy.

    Raises:
        ConfigError: no such loss.
    """
    if name == "cross-entropy":
        return cross_entropy(label_smoothing)
    if name in _LOSSES:
        return _LOSSES[name]
    if ":" not in name:
        raise ConfigError(f"There is no loss {name!r}. Choose one of: {', '.join(LOSSES)}, or package.module:function.")
    module_name, _, attribute = name.partition(":")
    try:
        found: Any = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"Importing the loss {name!r}: {error}.") from error
    loss: Loss = found() if isinstance(found, type) else found
    return loss
