"""The slots of an optimizer: what they tell of their parameter's shape, and how they are put beside a live parameter.

Slots are what an optimizer keeps for each parameter: moments, counts, averages.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from holdfast.errors import CheckpointError
from holdfast.fitting.param_order import Shape
from holdfast.formats.inert import TorchName
from holdfast.formats.lazy_tensor import LazyTensor

Slots = Mapping[str, Any]

# Slots that have their parameter's shape in every optimizer that uses the name (a scalar in a few, which is seen).
_OF_ITS_SHAPE = frozenset(
    {"acc_delta", "ax", "exp_avg", "exp_avg_sq", "exp_inf", "grad_avg", "max_exp_avg_sq", "momentum_buffer", "prev"}
    | {"square_avg", "step_size", "sum", "variance", "sqr_avg", "exp_avg_diff", "exp_avg_var", "max_exp_avg_var"}
    | {"exp_hessian_diag_sq", "grad_sum_sq", "last_grad", "lookahead_slow_buff", "momentum", "neg_pre_grad", "s", "x0"}
)
# Two factors of a matrix of moments, each with one of the two axes shrunk to 1 (Adafactor of torch and of timm).
_FACTORS = (("row_var", "col_var"), ("exp_avg_sq_r", "exp_avg_sq_c"))


def shape_from_slots(slots: Any) -> Shape | None:
    """Returns the shape that the slots of a parameter say it has; None when they do not tell."""
    if not isinstance(slots, Mapping):
        return None
    shapes = {tuple(tensor.shape) for _, tensor in _of_its_shape(slots)}
    if len(shapes) > 1:
        shapes.discard(())  # NovoGrad keeps one number for a whole tensor where Adam keeps one for each value
    if len(shapes) == 1:
        return shapes.pop()
    for first, second in _FACTORS:
        row, column = (slot if is_tensor(slot) else None for slot in (slots.get(first), slots.get(second)))
        if row is not None and column is not None and len(row.shape) == len(column.shape):
            return tuple(max(pair) for pair in zip(row.shape, column.shape, strict=True))
    return None


def dtype_from_slots(slots: Slots) -> str | None:
    """Returns the type of the slots that have their parameter's shape ("float32"); None unless all agree."""
    found = {str(tensor.dtype).removeprefix("torch.") for _, tensor in _of_its_shape(slots) if len(tensor.shape)}
    found |= {str(tensor.dtype).removeprefix("torch.") for _, tensor in _of_its_shape(slots)} if not found else set()
    return found.pop() if len(found) == 1 else None


def filled(slots: Any) -> dict[str, Any]:
    """Returns the slots that hold something: SGD without momentum, and older ones before the first step, hold None."""
    return {k: v for k, v in slots.items() if v is not None} if isinstance(slots, Mapping) else {}


def is_tensor(value: Any) -> bool:
    """Returns whether a value is a tensor, of a file or live."""
    return isinstance(value, (LazyTensor, Tensor))


def slots_for(parameter: Tensor, slots: Slots, group: Mapping[str, Any], saved_dtype: str | None) -> dict[str, Any]:
    """Returns slots as the live parameter's optimizer wants them, read and copied: they share no memory with anything.

    Tensors come to the parameter's device; those of its shape get its strides and, if it is spread over processes, its
    placement. Types are as torch's own loading makes them: floating point takes the parameter's, `step` stays as it is
    (float32 beside the parameter for capturable and fused steps). Where the weight was saved in the type it has now,
    nothing is to be cast, and moments that were kept in another type on purpose stay so; integers are never cast.

    Args:
        parameter: the live parameter.
        slots: name → tensor, lazy or not, number, or nested lists and dicts of these.
        group: the live options of its group.
        saved_dtype: the type its weight was saved in ("bfloat16"); None when unknown.

    Raises:
        CheckpointError: a value is nothing that a slot can be.
        CheckpointCorrupt: the bytes of a tensor are not all there.
    """
    cast = saved_dtype is None or saved_dtype != str(parameter.dtype).removeprefix("torch.")
    return {key: _made(parameter, value, group, cast, key) for key, value in slots.items()}


def values_in(slots: Any) -> Iterator[Any]:
    """Yields every value in nested slots that is no container."""
    if isinstance(slots, Mapping):
        slots = list(slots.values())
    if isinstance(slots, (list, tuple)):
        for value in slots:
            yield from values_in(value)
    else:
        yield slots


def number_of(value: Any) -> Any:
    """Returns a figure as a Python number: from a tensor or array of one value; any other value as it is."""
    if isinstance(value, LazyTensor):
        value = value.to_torch() if not value.shape else value
    item = getattr(value, "item", None)
    return item() if item is not None and tuple(getattr(value, "shape", (0,))) == () else value


def _of_its_shape(slots: Slots) -> Iterable[tuple[str, Any]]:
    return ((name, value) for name, value in slots.items() if name in _OF_ITS_SHAPE and is_tensor(value))


def _made(parameter: Tensor, value: Any, group: Mapping[str, Any], cast: bool, key: Any = None) -> Any:
    if isinstance(value, LazyTensor):
        value = value.to_torch()
    if isinstance(value, Tensor):
        return _beside(parameter, value.detach(), group, cast, key)
    if isinstance(value, Mapping):
        return {k: _made(parameter, v, group, cast, k) for k, v in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_made(parameter, v, group, cast) for v in value)
    value = number_of(value)
    if isinstance(value, TorchName) and value.kind == "dtype":
        return getattr(torch, value.name, None)
    if value is None or isinstance(value, (bool, int, float, complex, str, torch.dtype)):
        return value
    raise CheckpointError(
        f"Reading the slots of an optimizer: {key!r} is {value!r}; expected tensors and numbers. Leave the optimizer "
        "out: the weights can be loaded alone."
    )


def _beside(parameter: Tensor, value: Tensor, group: Mapping[str, Any], cast: bool, key: Any) -> Tensor:
    dtype, device = value.dtype, parameter.device
    if key == "step":
        if not (group.get("capturable") or group.get("fused")):
            return value.clone()
        dtype = torch.float32
    elif cast and parameter.is_floating_point() and value.is_floating_point():
        dtype = parameter.dtype
    if value.shape != parameter.shape or not value.ndim:
        return value.to(device=device, dtype=dtype, copy=True)
    distributed = sys.modules.get("torch.distributed.tensor")  # not imported, not in use
    if distributed is not None and isinstance(parameter, distributed.DTensor):
        if isinstance(value, distributed.DTensor):
            value = value.full_tensor()
        whole = value.to(device=device, dtype=dtype, copy=True)
        # Every process has read the whole of it and keeps its share: nothing is sent.
        shared: Tensor = distributed.distribute_tensor(
            whole, parameter.device_mesh, parameter.placements, src_data_rank=None
        )
        return shared
    # The strides of the parameter: what an uninterrupted run's slots have, for kernels that walk both at once.
    return torch.empty_like(parameter, dtype=dtype).copy_(value)
