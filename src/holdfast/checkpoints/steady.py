"""Which tensors of a state stand still between two steps of its optimizers.

These are the optimizers' parameters and slots. Everything else may change at any moment: buffers in a forward pass, an
average of the weights when its owner likes, frozen parameters too (a momentum encoder is one that follows another net).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


def steady_storages(parts: Mapping[str, Any]) -> set[int]:
    """Returns the data pointers of the tensors that only an optimizer among `parts` changes, and only in its step."""
    optimizers = optimizers_of(parts)
    # A frozen one has no gradient: no step changes it, and something else may (MoCo hands all of both nets over).
    tensors: list[Tensor] = [
        p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"] if p.requires_grad
    ]
    for optimizer in optimizers:
        tensors += [slot for slots in optimizer.state.values() for slot in slots.values() if isinstance(slot, Tensor)]
    return {t.data_ptr() for t in tensors if t.layout is torch.strided and not t.is_meta} - {0}


def optimizers_of(parts: Mapping[str, Any]) -> list[Optimizer]:
    """Returns the optimizers among the parts, and those that they keep inside (Lookahead steps another one)."""
    outer = [value for value in parts.values() if isinstance(value, Optimizer)]
    inner = [value for one in outer for value in vars(one).values() if isinstance(value, Optimizer)]
    # A wrapper that is no whole optimizer has no hooks: nobody would wait, and its tensors are copied at once.
    return [one for one in outer + inner if hasattr(one, "_optimizer_step_pre_hooks")]


def is_steady(tensor: Tensor, steady: set[int]) -> bool:
    """Whether an ordinary tensor is one of those that `steady_storages` found, and counts its changes."""
    return not tensor.is_inference() and tensor.data_ptr() in steady


def version_of(tensor: Tensor) -> int:
    """Returns how often the tensor was changed in place; -1 for one that does not count (made in inference mode)."""
    return -1 if tensor.is_inference() else tensor._version
