"""Tensors of devices without storages of their own kind (XLA, MPS in old versions, Habana …), as pickles keep them.

torch cannot hand out such a device's memory, so it copies the values: into a tensor on the CPU, or into a NumPy array,
which stands in the file with the type and the device that it was of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from holdfast.formats.arrays import ArrayType, InertArray
from holdfast.formats.inert import TorchName
from holdfast.formats.lazy_tensor import LazyTensor

# What torch called the functions that make them, in all its versions.
FROM_ARRAY = ("_rebuild_device_tensor_from_numpy", "_rebuild_xla_tensor", "_rebuild_mlc_tensor", "_rebuild_hpu_tensor")
FROM_TENSOR = ("_rebuild_device_tensor_from_cpu_tensor",)


def of_other_device(args: tuple[Any, ...], copied: Callable[[int], None]) -> Any:
    """Returns the tensor of (values, type, device, requires_grad).

    Args:
        args: as torch writes them. The values are a tensor on the CPU or an array.
        copied: takes the number of bytes that are about to be copied.

    Returns:
        NotImplemented for other arguments, and where torch would have to round the values to that type.
    """
    if len(args) != 4 or not isinstance(args[1], TorchName):
        return NotImplemented
    values, dtype = args[0], args[1].name
    if isinstance(values, InertArray):
        values = _as_bfloat16(values, copied) if dtype == "bfloat16" else values.as_tensor()
    if not isinstance(values, LazyTensor) or values.dtype != dtype:
        return NotImplemented
    place = (values.storage, dtype, values.offset, values.shape, values.strides)
    return LazyTensor(*place, requires_grad=args[3] is True, flags=values.flags)


def _as_bfloat16(values: InertArray, copied: Callable[[int], None]) -> LazyTensor | None:
    """Returns the upper halves of float32 values: NumPy has no bfloat16, and torch writes float32 in its place."""
    if values.dtype is None or values.dtype.code != "f4" or values.dtype.order == ">" or isinstance(values.data, list):
        return None
    copied(2 * len(values.data))
    wide = bytes(values.data)
    if wide[0::4].strip(b"\0") or wide[1::4].strip(b"\0"):
        return None
    narrow = bytearray(len(wide) // 2)
    narrow[0::2], narrow[1::2] = wide[2::4], wide[3::4]
    made = InertArray().fill(ArrayType("u2"), values.shape, narrow, column_major=values.column_major).as_tensor()
    if made is None:
        return None
    return LazyTensor(made.storage, "bfloat16", 0, made.shape, made.strides)
