"""A tensor of any kind as what a safetensors file can hold, and the facts that make it itself again.

In the file lie plain numbers, row-major, under the tensor's own name, so that any safetensors reader can use them. What
they cannot say (a type without a name there, another order in memory, the scale of a quantised tensor) are the *facts*:

    dtype                          the torch type; the file holds the same bits under a type it has a name for:
                                   unsigned integers of the same size; for complex numbers a last axis of two reals
    strides                        steps in memory, in values, where they are not the row-major ones
    scale, zero_point              of a tensor quantised as a whole; the file holds its integers
    scales, zero_points, axis      of one quantised by channel: the names of two more tensors in the file, and the axis

This file knows no disk and no tree.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from holdfast.checkpoints.tensors import DTYPE_NAMES
from holdfast.errors import CheckpointError

# Torch means to remove its quantised types one day; then these are simply absent.
_INTEGERS = {
    getattr(torch, name): integer
    for name, integer in (("quint8", torch.uint8), ("qint8", torch.int8), ("qint32", torch.int32))
    if hasattr(torch, name)
}
_PACKED = {getattr(torch, name, None) for name in ("quint4x2", "quint2x4")}  # several values share a byte
_SAME_SIZE = {1: torch.uint8, 2: torch.uint16, 4: torch.uint32, 8: torch.uint64}
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


@dataclass(frozen=True)
class StoredTensor:
    """What a file holds of one tensor.

    Attributes:
        values: of a dtype in DTYPE_NAMES and of any strides; the tensor's own memory wherever a view of it will do.
        facts: JSON; empty for a row-major tensor of a type that safetensors has a name for.
        beside: fact → tensor, for the facts that are tensors themselves (`scales`, `zero_points`).
    """

    values: Tensor
    facts: dict[str, Any] = field(default_factory=dict)
    beside: dict[str, Tensor] = field(default_factory=dict)


def obstacle(tensor: Tensor) -> str | None:
    """Returns why a tensor cannot be stored and what to do about it; None when it can be."""
    if type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__ or tensor.is_nested:
        name = "nested tensor" if tensor.is_nested else f"{type(tensor).__module__}.{type(tensor).__qualname__}"
        return (
            f"found a {name}, which stands for other tensors; expected one with memory of its own. "
            "Store what it is made of (full_tensor() or to_local() of a DTensor, unbind() of a nested tensor)."
        )
    if is_lazy(tensor):
        return "found a parameter without a shape; expected values. Pass one batch through the model before saving."
    if tensor.layout is not torch.strided:
        return f"found a tensor of layout {tensor.layout}; expected a dense one. Store its parts, or to_dense()."
    if tensor.is_meta:
        return "found a tensor on the meta device; expected values. Give it memory first: to_empty(), then fill it."
    if _carrier(tensor.dtype) is None:
        return f"found a tensor of {tensor.dtype}; expected one value to whole bytes. Convert it in state_dict()."
    return None


def store_tensor(tensor: Tensor) -> StoredTensor:
    """Returns what to write for a tensor that has no `obstacle`.

    Values are copied only where no view shows them: the integers of a quantised tensor, and the conjugate of complex
    numbers that are stored as reals.
    """
    facts: dict[str, Any] = {}
    if tensor.dtype not in DTYPE_NAMES:
        facts["dtype"] = str(tensor.dtype).removeprefix("torch.")
    strides = list(tensor.stride())
    if tensor.numel() and strides != _row_major(tensor.shape) and _is_dense(tensor.shape, strides):
        facts["strides"] = strides
    if tensor.is_quantized:
        return _store_quantized(tensor.detach(), facts)
    if tensor.dtype in DTYPE_NAMES:
        return StoredTensor(tensor, facts)
    if tensor.dtype.is_complex:
        return StoredTensor(_as_reals(tensor.detach()), facts)
    return StoredTensor(tensor.detach().view(_SAME_SIZE[tensor.dtype.itemsize]), facts)


def restore_tensor(values: Tensor, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Tensor:
    """Returns the tensor that `store_tensor` was given; it shares the memory of `values` where strides allow.

    Args:
        values: as the file holds them, row-major.
        facts: as stored, `scales` and `zero_points` by name.
        tensors: name → tensor, for these.

    Raises:
        CheckpointError: it is of a type that this torch does not have.
        ValueError, TypeError, LookupError, RuntimeError: the facts do not fit the values.
    """
    if unknown := facts.keys() - {"dtype", "strides", "scale", "zero_point", "scales", "zero_points", "axis"}:
        raise ValueError(f"{sorted(unknown)} are no facts of a tensor")
    dtype = _dtype(facts["dtype"]) if "dtype" in facts else values.dtype
    if _carrier(dtype) is not values.dtype:
        raise ValueError(f"{dtype} is not stored as {values.dtype}")
    as_reals = dtype.is_complex and not values.dtype.is_complex
    shape = list(values.shape[:-1] if as_reals else values.shape)
    if as_reals and list(values.shape[-1:]) != [2]:
        raise ValueError(f"complex numbers are not stored in the shape {list(values.shape)}")
    strides = facts.get("strides", _row_major(shape))
    if "strides" in facts and not (_are_steps(strides) and _is_dense(shape, strides)):
        raise ValueError(f"strides {strides} are not those of a dense tensor of shape {shape}")
    if dtype in _INTEGERS:
        return _restore_quantized(values, facts, strides, tensors)
    if "strides" in facts:
        values = _in_memory_order(values, [2 * step for step in strides] + [1] if as_reals else strides)
    if as_reals:
        return values.view(dtype).squeeze(-1)
    return values if dtype is values.dtype else values.view(dtype)


def _carrier(dtype: torch.dtype) -> torch.dtype | None:
    """Returns the dtype under which a file holds the bits of another; None when it cannot."""
    if dtype in DTYPE_NAMES:
        return dtype
    if dtype in _INTEGERS:
        return _INTEGERS[dtype]
    if dtype in _PACKED:
        return None
    if dtype.is_complex:
        return dtype.to_real()
    return _SAME_SIZE.get(dtype.itemsize)


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise CheckpointError(
            f"Reading a tensor of torch.{name}: torch {torch.__version__} has no such type. Install the torch that "
            "it was saved with."
        )
    return dtype


def _as_reals(tensor: Tensor) -> Tensor:
    """Returns complex numbers as reals, with a last axis of two: real and imaginary."""
    if not tensor.is_conj():
        return torch.view_as_real(tensor)
    reals = torch.view_as_real(tensor.conj()).clone()
    reals[..., 1].neg_()
    return reals


def _store_quantized(tensor: Tensor, facts: dict[str, Any]) -> StoredTensor:
    values = tensor.int_repr()
    if tensor.qscheme() is torch.per_tensor_affine:
        scale = tensor.q_scale()  # JSON has no word for inf and nan
        facts |= {"scale": scale if math.isfinite(scale) else repr(scale), "zero_point": tensor.q_zero_point()}
        return StoredTensor(values, facts)
    form = _CHANNELS_LAST.get(tensor.ndim)
    if form is None or tensor.is_contiguous() or not tensor.is_contiguous(memory_format=form):
        facts.pop("strides", None)  # torch sets no other strides on what is quantised by channel
    facts["axis"] = tensor.q_per_channel_axis()
    beside = {"scales": tensor.q_per_channel_scales(), "zero_points": tensor.q_per_channel_zero_points()}
    return StoredTensor(values, facts, beside)


def _restore_quantized(
    values: Tensor, facts: Mapping[str, Any], strides: list[int], tensors: Mapping[str, Tensor]
) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that quantised types are deprecated is known to whoever saved one
        if "axis" not in facts:
            scale, zero_point = float(facts["scale"]), facts["zero_point"]
            whole = torch._make_per_tensor_quantized_tensor(_permuted(values, strides), scale, zero_point)
            return whole.as_strided(list(values.shape), strides)
        scales, zero_points = tensors[facts["scales"]].clone(), tensors[facts["zero_points"]].clone()
        by_channel: Tensor = torch._make_per_channel_quantized_tensor(values, scales, zero_points, facts["axis"])
        if "strides" in facts:
            by_channel = by_channel.contiguous(memory_format=_CHANNELS_LAST[values.ndim])
        return by_channel


def _in_memory_order(values: Tensor, strides: list[int]) -> Tensor:
    return _permuted(values, strides).as_strided(list(values.shape), strides)


def _permuted(values: Tensor, strides: list[int]) -> Tensor:
    """Returns the same values, row-major, with the axes in the order in which `strides` lays them into memory."""
    return values.permute(sorted(range(values.ndim), key=lambda axis: -strides[axis])).contiguous()


def _are_steps(strides: Any) -> bool:
    return isinstance(strides, list) and all(type(step) is int and step >= 0 for step in strides)


def _row_major(shape: torch.Size | list[int]) -> list[int]:
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return strides[::-1]


def _is_dense(shape: torch.Size | list[int], strides: list[int]) -> bool:
    """Returns whether every place in memory from the first value to the last holds just one value."""
    if len(strides) != len(shape):
        return False
    expected = 1
    for step, size in sorted((step, size) for step, size in zip(strides, shape, strict=True) if size != 1):
        if step != expected:
            return False
        expected *= size
    return True
