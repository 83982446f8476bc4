"""Which names stand for one tensor: the same view of the same memory (tied weights)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from holdfast.formats.lazy_tensor import ITEM_BYTES, LazyTensor


def tie_key(tensor: LazyTensor) -> Hashable:
    """Returns what is equal for two tensors just when they show the same values of the same memory."""
    if not tensor.num_values:
        return id(tensor)  # without values there is nothing to share
    start = tensor.storage.start + tensor.offset * ITEM_BYTES[tensor.dtype]
    # A step along an axis of one value is never taken; files differ in what they write for it.
    strides = tuple(step for step, size in zip(tensor.strides, tensor.shape, strict=True) if size > 1)
    return id(tensor.storage.data), start, tensor.dtype, tensor.shape, strides, tensor.flags


def ties_of(tensors: Mapping[str, LazyTensor]) -> dict[str, str]:
    """Returns name → the first name that stands for the same tensor, for every name that is not the first."""
    first: dict[Hashable, str] = {}
    return {
        name: known for name, tensor in tensors.items() if (known := first.setdefault(tie_key(tensor), name)) != name
    }
