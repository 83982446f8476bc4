"""What torch wrote before 0.1.10: a tar archive of three members, `storages`, `tensors` and `pickle`.

`storages` is a pickled count; for each (key, device, type) pickled, the number of values (8 bytes) and the values; then
a pickled list of views (key, key of the whole, first value, number of values). `tensors` is a pickled count; for each
(key, storage, type) pickled, the number of axes (4 bytes, 4 more unused), extents, strides and offset (8 bytes each).
`pickle` is the object, which refers to tensors and storages by key.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from holdfast.errors import CheckpointCorrupt
from holdfast.formats.byte_file import Buffer, Bytes
from holdfast.formats.inert import Damage, Global
from holdfast.formats.lazy_tensor import ITEM_BYTES, STORAGE_TYPES, LazyTensor, Storage, StoredBytes, is_count
from holdfast.formats.limits import LIMITS, Limits
from holdfast.formats.pickle_machine import read_pickle
from holdfast.formats.torch_file import TorchFile

MEMBERS = ("storages", "tensors", "pickle")
_BLOCK = 512
_MAX_MEMBERS = 10_000


def tar_members(file: Bytes) -> dict[str, tuple[int, int]]:
    """Returns name → (first byte, number of bytes) of a tar archive's plain files.

    Raises:
        CheckpointCorrupt: it is damaged or was cut.
    """
    found: dict[str, tuple[int, int]] = {}
    at = 0
    for _ in range(_MAX_MEMBERS):
        header = file.read(at, _BLOCK)
        if len(header) < _BLOCK or not header.strip(b"\0"):
            return found
        name = header[:100].rstrip(b"\0").decode("utf-8", "replace")
        size = _octal(header[124:136])
        if size is None or not is_tar_header(header) or at + _BLOCK + size > file.num_bytes:
            raise CheckpointCorrupt(
                f"Reading {file.where}: it is a tar archive whose header at byte {at:,} is damaged or promises more "
                "than there is. Take another copy of it."
            )
        if header[156:157] in (b"0", b"\0"):
            name = name.removeprefix("./")
            if name in found:
                raise CheckpointCorrupt(f"Reading {file.where}: it is a tar archive with two members {name[:100]!r}.")
            found[name] = (at + _BLOCK, size)
        at += _BLOCK + size + -size % _BLOCK
    raise CheckpointCorrupt(f"Reading {file.where}: it is a tar archive of more than {_MAX_MEMBERS:,} members.")


def is_tar_header(header: bytes) -> bool:
    """Returns whether 512 bytes are the header of a member: whether they match their own checksum."""
    written = _octal(header[148:156])
    return len(header) == _BLOCK and written == sum(header[:148]) + 8 * 32 + sum(header[156:])


def _octal(field: bytes) -> int | None:
    try:
        return int(field.strip(b"\0 ") or b"0", 8)
    except ValueError:
        return None


def read_torch_tar(file: Bytes, limits: Limits = LIMITS) -> TorchFile:
    """Reads the tree of a torch file of before 0.1.10; tensors stay in the file.

    Raises:
        CheckpointCorrupt: it is damaged or was cut.
        CheckpointError: it asks for more than the limits allow.
    """
    members = tar_members(file)
    if missing := [name for name in MEMBERS if name not in members]:
        raise CheckpointCorrupt(f"Reading {file.where}: it is a tar archive without {', '.join(missing)}.")
    reader = _Members(file, limits)
    try:
        reader.read_storages(*members["storages"])
        reader.read_tensors(*members["tensors"])
    except (Damage, struct.error) as damage:
        raise CheckpointCorrupt(
            f"Reading {file.where}: it is an old torch archive with {damage}. It is damaged; take another copy of it."
        ) from damage
    tree = read_pickle(reader.data, file.where, start=members["pickle"][0], persistent=reader.refer, limits=limits)
    return TorchFile("torch tar", tree.value, {"byte_order": "little"})


class _Members:
    """What the members of one archive hold, by key."""

    def __init__(self, file: Bytes, limits: Limits) -> None:
        self.file, self.limits, self.data = file, limits, file.whole()
        self.storages: dict[int, Storage] = {}
        self.tensors: dict[int, LazyTensor] = {}

    def read_storages(self, at: int, size: int) -> None:
        """Reads the table of storages."""
        stop = at + size
        count, at = self._pickle(at)
        for _ in range(_count(count)):
            entry, at = self._pickle(at)
            key, location, kind = _triple(entry)
            if not isinstance(kind, Global) or kind.name not in STORAGE_TYPES:
                raise Damage("a storage of a type that torch does not have")
            dtype = STORAGE_TYPES[kind.name]
            num_values = _count(struct.unpack("<q", self.file.read(at, 8))[0])
            num_bytes, at = num_values * ITEM_BYTES[dtype], at + 8
            if at + num_bytes > stop:
                raise Damage(f"a storage of {num_bytes:,} bytes where {stop - at:,} are left")
            data = StoredBytes(self.file.where, str(key), num_bytes, str(location)[:100])
            data.fetch = _fetch(self.file, at, num_bytes)
            self.storages[_count(key)] = Storage(data, dtype, num_values)
            at += num_bytes
        views, at = self._pickle(at)
        for view in views if isinstance(views, (list, tuple)) else [views]:
            if type(view) is not tuple or len(view) != 4 or view[1] not in self.storages:
                raise Damage("a view of a storage that is not there")
            key, root, first, num_values = *view[:1], self.storages[view[1]], *map(_count, view[2:])
            if first + num_values > root.num_values:
                raise Damage("a view that reaches beyond its storage")
            self.storages[_count(key)] = Storage(root.data, root.dtype, num_values, first * ITEM_BYTES[root.dtype])

    def read_tensors(self, at: int, size: int) -> None:
        """Reads the table of tensors."""
        stop = at + size
        count, at = self._pickle(at)
        for _ in range(_count(count)):
            entry, at = self._pickle(at)
            key, storage, _ = _triple(entry)
            (num_axes,) = struct.unpack("<i", self.file.read(at, 4))
            if not 0 <= num_axes <= 64 or storage not in self.storages:
                raise Damage("a tensor without axes or storage")
            numbers = struct.unpack(f"<{2 * num_axes + 1}q", self.file.read(at + 8, 8 * (2 * num_axes + 1)))
            at += 8 + 8 * (2 * num_axes + 1)
            if at > stop:
                raise Damage("a tensor that reaches beyond the table")
            shape, strides, offset = numbers[:num_axes], numbers[num_axes : 2 * num_axes], numbers[-1]
            found = self.storages[storage]
            self.tensors[_count(key)] = LazyTensor(found, found.dtype, offset, shape, strides)

    def refer(self, reference: Any) -> Any:
        """Returns the tensor or storage of a key, or the class of (class, its source)."""
        if type(reference) is tuple and reference and isinstance(reference[0], Global):
            return reference[0]
        try:
            key = int(reference)
        except (TypeError, ValueError) as error:
            raise Damage("a reference that is no key") from error
        found = self.tensors.get(key) or self.storages.get(key)
        if found is None:
            raise Damage(f"a reference to {key}, which is neither a tensor nor a storage")
        return found

    def _pickle(self, at: int) -> tuple[Any, int]:
        return read_pickle(self.data, self.file.where, start=at, limits=self.limits)


def _fetch(file: Bytes, start: int, num_bytes: int) -> Callable[[], Buffer]:
    return lambda: file.buffer(start, num_bytes)


def _count(value: Any) -> int:
    if not is_count(value):
        raise Damage("a key or a size that is no count")
    return int(value)


def _triple(value: Any) -> tuple[Any, Any, Any]:
    if type(value) is not tuple or len(value) != 3:
        raise Damage("an entry that is not of three parts")
    return value[0], value[1], value[2]
