"""Parts whose state is taken apart later, beside the training, since all that matters at once is small.

Taking a state apart costs some ten microseconds a tensor, and an image model's state has a thousand tensors. For
modules and optimizers nearly all of it can wait for the copy thread: their names do not change between two steps. What
may change at any moment (buffers, a learning rate that is a tensor) is copied at once, and the containers are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from holdfast.checkpoints.flatten import FlatState, flatten
from holdfast.checkpoints.steady import is_steady

_PLAIN = (type(None), bool, int, float, str, torch.dtype, torch.device)
_PLAIN_TENSORS = (Tensor, nn.Parameter)


class Deferred:
    """The state of one part, held so that it can be taken apart later.

    Args:
        tree: of the part's own dicts, lists and tuples.
        part: its name.
        moving: the tensors in it that may change at any moment, each once.
        standing: the others, live.
    """

    def __init__(self, tree: Any, part: str, moving: list[Tensor], standing: list[Tensor]) -> None:
        self._tree = tree
        self._part = part
        self.moving = moving
        self.standing = standing

    def flatten(self) -> FlatState:
        """Takes the state apart. Raises UnsupportedState."""
        return flatten(self._tree, self._part)

    def hold(self, copies: Mapping[tuple[Any, ...], Tensor]) -> None:
        """Puts copies in the place of moving tensors, and makes the containers its own."""
        self._tree = _held(self._tree, copies)
        self.moving = []


def defer(value: Any, tree: Any, part: str, steady: set[int]) -> Deferred | None:
    """Returns the part's state to be taken apart later; None when it has to be done at once.

    Args:
        value: the part: only modules and optimizers can wait.
        tree: its state, by name.
        steady: see `steady_storages`.
    """
    if not isinstance(value, nn.Module | Optimizer):
        return None
    leaves: list[Tensor] = []
    try:
        if not _gather(tree, leaves):
            return None
    except RecursionError:  # very deep, or within itself: `flatten` can do the first, and has words for the second
        return None
    moving: dict[tuple[Any, ...], Tensor] = {}
    standing = []
    for tensor in leaves:
        if is_steady(tensor, steady) or not tensor.numel():
            standing.append(tensor)
        elif _is_ordinary(tensor):
            moving[_identity(tensor)] = tensor
        else:
            return None
    return Deferred(tree, part, list(moving.values()), standing)


def copies_by_identity(moving: list[Tensor], copies: list[Tensor]) -> dict[tuple[Any, ...], Tensor]:
    """Returns what `Deferred.hold` wants: each tensor's copy, found by the memory that the tensor shows."""
    return {_identity(source): copy for source, copy in zip(moving, copies, strict=True)}


def _identity(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.device


def _is_ordinary(tensor: Tensor) -> bool:
    """Whether a row-major copy of the values is all there is to know of it."""
    if not tensor.is_contiguous() or tensor.is_quantized or tensor.is_conj() or tensor.is_neg():
        return False
    # Where an axis has one value, "contiguous" says nothing of its step, and steps are stored.
    return 1 not in tensor.shape or tensor.stride() == torch.empty(tensor.shape, device="meta").stride()


def _gather(tree: Any, leaves: list[Tensor]) -> bool:
    """Adds the tensors of the tree to `leaves`; returns whether it holds only these, plain values and containers."""
    if type(tree) in _PLAIN_TENSORS:
        leaves.append(tree)
        return tree.layout is torch.strided and not tree.is_meta
    if isinstance(tree, dict):
        return all(_gather(value, leaves) for value in tree.values())
    if type(tree) in (list, tuple):
        return all(_gather(value, leaves) for value in tree)
    return isinstance(tree, _PLAIN)


def _held(tree: Any, copies: Mapping[tuple[Any, ...], Tensor]) -> Any:
    if isinstance(tree, Tensor):
        return copies.get(_identity(tree), tree) if tree.numel() else tree
    if isinstance(tree, dict):
        return {key: _held(value, copies) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(_held(value, copies) for value in tree)
    return tree
