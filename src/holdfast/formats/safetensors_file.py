"""A safetensors file's header as lazy tensors, read without torch. `checkpoints/tensors.py` reads those we write.

Source: the safetensors project's "Format" page.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

from holdfast.errors import CheckpointCorrupt
from holdfast.formats.byte_file import Bytes, Look
from holdfast.formats.inert import Damage
from holdfast.formats.lazy_tensor import ITEM_BYTES, LazyTensor, Storage, StoredBytes, is_count

_MAX_HEADER = 32 << 20  # bytes; a third of a million tensors. As JSON, hostile ones take twenty times their size
DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "C64": "complex64", "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz", "F8_E8M0": "float8_e8m0fnu",
    "F4": "float4_e2m1fn_x2",
}  # fmt: skip


class Safetensors(NamedTuple):
    """The tensors of a file by name, and the text → text of its header."""

    tensors: dict[str, LazyTensor]
    metadata: dict[str, str]


class Extent(NamedTuple):
    """Where a tensor's bytes lie in a file that has nothing to prove them by; `ReadInto` for its storage."""

    file: Bytes
    begin: int
    num_bytes: int

    def __call__(self, target: memoryview | None, start: int = 0, *, proven: bool = False) -> None:  # noqa: ARG002
        """Fills memory with the bytes from `start`. Raises CheckpointCorrupt when they are not there."""
        self.read(target, start)

    def read(self, target: memoryview | None, start: int = 0, look: Look | None = None) -> None:
        """Does the same, and lets each piece be looked at; None keeps none. Raises CheckpointCorrupt."""
        if target is None:
            self.file.look_through(self.begin, self.num_bytes, look)
        else:
            self.file.read_into(self.begin + start, target, look)


def read_safetensors(file: Bytes) -> Safetensors:
    """Reads the header of a safetensors file; tensors stay in the file.

    Raises:
        CheckpointCorrupt: the header is damaged, or contradicts the size of the file.
    """
    length = int.from_bytes(file.read(0, 8), "little")
    if not 2 <= length <= min(_MAX_HEADER, file.num_bytes - 8):
        raise _corrupt(file, f"a header of {length:,} bytes in a file of {file.num_bytes:,}")
    try:
        header = json.loads(file.read(8, length), object_pairs_hook=_table)
    except (ValueError, RecursionError) as error:
        raise _corrupt(file, f"a header that is no JSON ({error})") from error
    metadata = header.pop("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(entry, dict) for entry in header.values()):
        raise _corrupt(file, "a header that is no table of tensors")
    found = {name: _describe(file, name, entry, 8 + length) for name, entry in header.items()}
    end = 0
    for start, stop, name in sorted((*entry["data_offsets"], name) for name, entry in header.items()):
        if start != end:
            raise _corrupt(file, f"tensor {name!r} from byte {start:,}, where the one before ends at {end:,}")
        end = stop
    if 8 + length + end != file.num_bytes:
        raise _corrupt(file, f"{file.num_bytes:,} bytes where its header promises {8 + length + end:,}")
    return Safetensors(found, {str(k): v for k, v in metadata.items() if isinstance(v, str)})


def noted_aliases(tensors: Mapping[str, LazyTensor], metadata: Mapping[str, Any]) -> dict[str, LazyTensor]:
    """Returns the tensors that a file leaves out because they are tied to others, as its header or index notes.

    Source: `save_model` of the safetensors library, which notes name → the name that is kept.
    """
    kept = {name: value for name, value in metadata.items() if isinstance(value, str) and name not in tensors}
    return {name: tensors[value] for name, value in kept.items() if value in tensors and name != "format"}


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns a table of the header. Raises ValueError when a name is there twice: readers would differ over it."""
    table = dict(pairs)
    if len(table) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"two entries called {twice[:200]!r}")
    return table


def _describe(file: Bytes, name: str, entry: dict[str, Any], base: int) -> LazyTensor:
    kind, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(shape, list) or not isinstance(offsets, list) or len(offsets) != 2:
        raise _corrupt(file, f"an entry of {name!r} without shape or place")
    if not isinstance(kind, str) or kind not in DTYPES or not all(map(is_count, [*shape, *offsets])):
        raise _corrupt(file, f"tensor {name!r} of the type {kind!r} and shape {shape}, which we do not know")
    if kind == "F4" and shape:  # the file counts values of half a byte, torch the bytes
        shape = [*shape[:-1], shape[-1] / 2 if shape[-1] % 2 else shape[-1] // 2]
    dtype, num_values = DTYPES[kind], math.prod(shape)
    start, num_bytes = offsets[0], offsets[1] - offsets[0]
    if num_bytes != num_values * ITEM_BYTES[dtype]:
        raise _corrupt(file, f"tensor {name!r} of {kind} {shape} in {num_bytes:,} bytes")
    data = StoredBytes(file.where, name, num_bytes)
    data.fetch = partial(file.buffer, base + start, num_bytes)
    data.read_into = Extent(file, base + start, num_bytes)
    try:
        return LazyTensor(Storage(data, dtype, num_values), dtype, 0, tuple(shape), row_major(shape))
    except Damage as damage:
        raise _corrupt(file, str(damage)) from None


def row_major(shape: list[int] | tuple[int, ...]) -> tuple[int, ...]:
    """Returns the strides of values that lie one after another, the last axis running fastest."""
    strides, step = [], 1
    for extent in reversed(shape):
        strides.append(step)
        step *= max(extent, 1)
    return tuple(reversed(strides))


def _corrupt(file: Bytes, what: str) -> CheckpointCorrupt:
    return CheckpointCorrupt(
        f"Reading {file.where}: it is a safetensors file with {what}. It was cut or is damaged; take another copy."
    )
