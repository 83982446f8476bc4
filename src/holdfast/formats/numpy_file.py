"""`.npz` and `.npy` as lazy tensors, without NumPy and without the pickles that they may hold.

Source: NumPy's "NPY format".
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from holdfast.errors import CheckpointCorrupt, CheckpointError
from holdfast.formats.arrays import TORCH_TYPES
from holdfast.formats.byte_file import Buffer, Bytes
from holdfast.formats.inert import Damage
from holdfast.formats.lazy_tensor import ITEM_BYTES, LazyTensor, Storage, StoredBytes, swapped
from holdfast.formats.limits import LIMITS, Limits
from holdfast.formats.safetensors_file import row_major
from holdfast.formats.zip_archive import ZipArchive

_MAGIC = b"\x93NUMPY"
_HEADER = (  # compiled at first use: most files are no arrays
    rb"\{\s*'descr':\s*'([<>|=]?)([?a-zA-Z])(\d{0,3})',\s*'fortran_order':\s*(True|False),"
    rb"\s*'shape':\s*\(([\d, ]*)\),?\s*\}\s*"
)
_MAX_HEADER = 1 << 16


def read_npz(file: Bytes, limits: Limits = LIMITS) -> dict[str, LazyTensor]:
    """Returns the arrays of an `.npz` by name; values stay in the file.

    Raises:
        CheckpointCorrupt: it is damaged or was cut.
        CheckpointError: an array is of a type that is no tensor's: text, structures, pickled objects.
    """
    archive = ZipArchive(file, limits)
    return {name.removesuffix(".npy"): _entry(archive, name) for name in archive.entries}


def read_npy(file: Bytes) -> LazyTensor:
    """Returns the array of an `.npy`; its values stay in the file. Raises as `read_npz`."""
    head = file.read(0, _MAX_HEADER)
    return _describe(file.where, "array", head, file.num_bytes, lambda start, n: lambda: file.buffer(start, n))


def _entry(archive: ZipArchive, name: str) -> LazyTensor:
    entry = archive.entries[name]

    def fetch(start: int, num_bytes: int) -> Callable[[], Buffer]:
        def part() -> Buffer:
            whole = archive.buffer(name)
            return Buffer(whole.memory, whole.start + start, num_bytes)

        return part

    return _describe(f"{archive.file.where} ({name})", name, archive.head(name, _MAX_HEADER), entry.num_bytes, fetch)


def _describe(
    where: str, key: str, head: bytes, num_bytes: int, fetch: Callable[[int, int], Callable[[], Buffer]]
) -> LazyTensor:
    width = {1: 2, 2: 4, 3: 4}.get(head[6] if len(head) > 8 else 0)
    if not head.startswith(_MAGIC) or width is None:
        raise CheckpointCorrupt(f"Reading {where}: it is no array as NumPy writes them. Take another copy of it.")
    start = 8 + width + int.from_bytes(head[8 : 8 + width], "little")
    header = head[8 + width : start]
    if b"|O" in header or b"[(" in header:
        raise CheckpointError(
            f"Reading {where}: it holds Python objects or structures; expected numbers. Save numbers alone."
        )
    found = re.fullmatch(_HEADER, header)
    if found is None:
        raise CheckpointCorrupt(f"Reading {where}: its header is {header[:200]!r}. It is damaged; take another copy.")
    order, letter, size, column_major, extents = found.groups()
    dtype = TORCH_TYPES.get((letter + size).decode())
    if dtype is None:
        raise CheckpointError(
            f"Reading {where}: its values are {(letter + size).decode()!r}; expected numbers of a type that torch has."
        )
    shape = tuple(int(extent) for extent in extents.split(b",") if extent.strip())
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
