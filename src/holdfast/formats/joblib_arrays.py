"""Arrays that joblib writes into the stream of its pickles: a record of what comes, and then the bytes themselves.

Python's unpickler would take these bytes for opcodes. They follow the state (BUILD) of a `NumpyArrayWrapper`, behind a
byte that says how many more to pass over.

Source: `NumpyArrayWrapper.write_array` and `read_array` of joblib's numpy_pickle.
"""

from __future__ import annotations

import math
from typing import Any, TypeGuard

from holdfast.formats.arrays import ArrayType, InertArray
from holdfast.formats.inert import Damage, InertObject
from holdfast.formats.lazy_tensor import is_count
from holdfast.formats.pickle_literals import PickleStream

_ALIGNMENT = "numpy_array_alignment_bytes"  # of joblib since 1.2; before, nothing stands between


def is_wrapper(value: Any) -> TypeGuard[InertObject]:
    """Returns whether a record is one behind which the bytes of an array follow."""
    return (
        type(value) is InertObject
        and value.name in ("NumpyArrayWrapper", "ZNumpyArrayWrapper")
        and value.module.startswith("joblib.")
    )


def read_array(stream: PickleStream, wrapper: InertObject) -> InertArray:
    """Returns the array whose bytes come next. Raises Damage when they do not fit what the record says."""
    said = wrapper.attributes
    dtype, shape = said.get("dtype"), said.get("shape")
    if not isinstance(dtype, ArrayType) or type(shape) is not tuple or not all(map(is_count, shape)):
        raise Damage("an array of joblib without a type or a shape")
    if not dtype.plain:
        raise Damage(f"an array of joblib of the type {dtype!r}; only numbers and texts are read. Save these alone")
    if said.get(_ALIGNMENT) is not None:
        stream.take(stream.number(1))
    data = stream.take(math.prod(shape) * dtype.item_bytes)
    return InertArray().fill(dtype, shape, data, column_major=said.get("order") == "F")
