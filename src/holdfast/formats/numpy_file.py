"""`.npz` and `.npy` as lazy tensors, without NumPy; the pickles that they may hold are read inertly.

Source: NumPy's "NPY format".
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from holdfast.errors import CheckpointCorrupt, CheckpointError
from holdfast.formats.arrays import TORCH_TYPES, ArrayType, InertArray
from holdfast.formats.byte_file import Buffer, Bytes
from holdfast.formats.inert import Damage
from holdfast.formats.lazy_tensor import ITEM_BYTES, LazyTensor, Storage, StoredBytes, swapped
from holdfast.formats.limits import LIMITS, Limits
from holdfast.formats.pickle_machine import read_pickle
from holdfast.formats.safetensors_file import row_major
from holdfast.formats.zip_archive import ZipArchive

_MAGIC = b"\x93NUMPY"
_HEADER = (  # compiled at first use: most files are no arrays
    rb"\{\s*'descr':\s*'([<>|=]?)([?a-zA-Z])(\d{0,3})',\s*'fortran_order':\s*(True|False),"
    rb"\s*'shape':\s*\(([\d, ]*)\),?\s*\}\s*"
)
_MAX_HEADER = 1 << 16
_MAX_TEXT = 16 << 20  # bytes of one array of text; names of classes have a few thousand


def read_npz(file: Bytes, limits: Limits = LIMITS) -> dict[str, Any]:
    """Returns the arrays of an `.npz` by name: lazy tensors, whose values stay in the file, and texts as plain values.

    Raises:
        CheckpointCorrupt: it is damaged or was cut.
        CheckpointError: an array is of a type that is no tensor's and no text: structures, pickled objects.
    """
    archive = ZipArchive(file, limits)
    made = {name: _entry(archive, name, limits) for name in archive.entries}
    texts = [name for name, value in made.items() if not isinstance(value, (LazyTensor, _Objects))]
    if made and len(texts) == len(made):
        first = texts[0]
        raise _no_numbers(f"{file.where} ({first})", archive.head(first, _MAX_HEADER))
    plain = {name: value.value if isinstance(value, _Objects) else value for name, value in made.items()}
    return {name.removesuffix(".npy"): value for name, value in plain.items()}


def read_npy(file: Bytes, limits: Limits = LIMITS) -> Any:
    """Returns {"array": a lazy tensor} of an `.npy`; of one of Python objects, these. Raises as `read_npz`."""
    head = file.read(0, _MAX_HEADER)
    if _holds_objects(file.where, head):
        return _objects(file.where, file.read(0, file.num_bytes), limits).value
    return {
        "array": _describe(file.where, "array", head, file.num_bytes, lambda start, n: lambda: file.buffer(start, n))
    }


def _holds_objects(where: str, head: bytes) -> bool:
    return re.match(rb"\{\s*'descr':\s*'\|O'", _header(where, head)[1]) is not None


class _Objects(NamedTuple):
    """What an array of Python objects holds."""

    value: Any


def _objects(where: str, data: bytes, limits: Limits) -> _Objects:
    """Returns the Python objects of an array, read inertly: the one of an array without axes, a list of others."""
    value = read_pickle(data, where, start=_header(where, data[:_MAX_HEADER])[0], limits=limits).value
    if not isinstance(value, InertArray) or not isinstance(value.data, list):
        raise CheckpointCorrupt(f"Reading {where}: its Python objects are no array. Take another copy of it.")
    return _Objects(value.data[0] if not value.shape and len(value.data) == 1 else value.data)


def _entry(archive: ZipArchive, name: str, limits: Limits) -> Any:
    entry = archive.entries[name]
    where, head = f"{archive.file.where} ({name})", archive.head(name, _MAX_HEADER)
    start, header = _header(where, head)
    if _holds_objects(where, head):
        return _objects(where, archive.read(name, limits.pickle_bytes), limits)
    found = re.fullmatch(_HEADER, header)
    if found is not None and found[2] in (b"U", b"S"):
        return _text(where, archive.read(name, _MAX_TEXT)[start:], found)

    def fetch(start: int, num_bytes: int) -> Callable[[], Buffer]:
        def part() -> Buffer:
            whole = archive.buffer(name)
            return Buffer(whole.memory, whole.start + start, num_bytes)

        return part

    return _describe(where, name, head, entry.num_bytes, fetch)


def _no_numbers(where: str, head: bytes) -> CheckpointError:
    """Returns the error for an array of a type that torch has not."""
    found = re.fullmatch(_HEADER, _header(where, head)[1])
    kind = (found[2] + found[3]).decode() if found is not None else "?"
    hint = "NumPy writes bfloat16 so, if it was that: save it as float32." if kind == "V2" else "Save these alone."
    return CheckpointError(
        f"Reading {where}: its values are {kind!r}; expected numbers of a type that torch has. {hint}"
    )


def _text(where: str, data: bytes, found: re.Match[bytes]) -> Any:
    """Returns an array of text as plain values."""
    order, letter, size, column_major, extents = found.groups()
    if column_major == b"True" and extents.count(b",") > 1:
        raise CheckpointError(
            f"Reading {where}: its texts lie in columns; expected rows. Save them as a list of texts."
        )
    try:
        dtype = ArrayType((order + letter + size).decode())
        return InertArray().fill(dtype, _shape(extents), data).text()
    except Damage as damage:
        raise CheckpointCorrupt(f"Reading {where}: found {damage}. It was cut; take another copy.") from None


def _shape(extents: bytes) -> tuple[int, ...]:
    return tuple(int(extent) for extent in extents.split(b",") if extent.strip())


def _header(where: str, head: bytes) -> tuple[int, bytes]:
    """Returns where the values of an array begin, and what its header says. Raises CheckpointCorrupt without one."""
    width = {1: 2, 2: 4, 3: 4}.get(head[6] if len(head) > 8 else 0)
    if not head.startswith(_MAGIC) or width is None:
        raise CheckpointCorrupt(f"Reading {where}: it is no array as NumPy writes them. Take another copy of it.")
    start = 8 + width + int.from_bytes(head[8 : 8 + width], "little")
    return start, head[8 + width : start]


def _describe(
    where: str, key: str, head: bytes, num_bytes: int, fetch: Callable[[int, int], Callable[[], Buffer]]
) -> LazyTensor:
    start, header = _header(where, head)
    if b"[(" in header:
        raise CheckpointError(f"Reading {where}: it holds structures; expected numbers. Save numbers alone.")
    found = re.fullmatch(_HEADER, header)
    if found is None:
        raise CheckpointCorrupt(f"Reading {where}: its header is {header[:200]!r}. It is damaged; take another copy.")
    order, letter, size, column_major, extents = found.groups()
    dtype = TORCH_TYPES.get((letter + size).decode())
    if dtype is None:
        raise _no_numbers(where, head)
    shape = _shape(extents)
    num_values = math.prod(shape)
    if start + num_values * ITEM_BYTES[dtype] != num_bytes:
        raise CheckpointCorrupt(f"Reading {where}: {num_bytes:,} bytes for {dtype} {list(shape)}. It was cut.")
    data = StoredBytes(where, key, num_values * ITEM_BYTES[dtype])
    data.swap_bytes = swapped("big" if order == b">" else "little", dtype)
    data.fetch = fetch(start, data.num_bytes)
    strides = row_major(shape[::-1])[::-1] if column_major == b"True" else row_major(shape)
    try:
        return LazyTensor(Storage(data, dtype, num_values), dtype, 0, shape, strides)
    except Damage as damage:
        raise CheckpointCorrupt(f"Reading {where}: found {damage}.") from None
