"""What `torch.save` wrote from 0.1.10 to 1.5, and writes when asked: pickles in a row, then the storages' bytes.

The pickles: a magic number, the protocol, facts about the machine, the object, the keys of the storages. Then for each
key the number of its values (8 bytes) and the values, little-endian whatever the machine was. Nothing in it is
protected by a checksum.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from holdfast.errors import CheckpointCorrupt
from holdfast.formats.byte_file import Buffer, Bytes
from holdfast.formats.inert import Damage, Global
from holdfast.formats.lazy_tensor import ITEM_BYTES, Storage, StoredBytes, is_count, swapped
from holdfast.formats.limits import LIMITS, Limits
from holdfast.formats.pickle_machine import read_pickle
from holdfast.formats.torch_file import TorchFile
from holdfast.formats.torch_zip import storage_reference

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
# References as text, compiled at first use: nobody writes them but protocol 0.
_MODULE = r"\('module', <class '([\w.]{1,200})'>, "
_STORAGE = (
    r"\('storage', <class '(torch[\w.]{1,100})'>, '([^']{1,100})', '([^']{1,100})', (\d{1,18}), "
    r"(None|\('([^']{1,100})', (\d{1,18}), (\d{1,18})\))\)"
)


def read_torch_legacy(file: Bytes, limits: Limits = LIMITS) -> TorchFile:
    """Reads the tree of a torch file of before 1.6; tensors stay in the file.

    Raises:
        CheckpointCorrupt: it is damaged or was cut.
        CheckpointError: it asks for more than the limits allow.
    """
    data, at, header = file.whole(), 0, []
    for _ in range(3):
        value, at = read_pickle(data, file.where, start=at, limits=limits)
        header.append(value)
    if header[0] != MAGIC_NUMBER or header[1] != _PROTOCOL or not isinstance(header[2], dict):
        raise CheckpointCorrupt(
            f"Reading {file.where}: its first three pickles are not torch's magic number, protocol {_PROTOCOL} and the "
            "machine it was written on; expected a file of torch.save before 1.6. Is it the right file?"
        )
    storages = _Storages(file.where)
    tree, at = read_pickle(data, file.where, start=at, persistent=storages.refer, limits=limits)
    keys, at = read_pickle(data, file.where, start=at, limits=limits)
    _place(file, storages, keys, at)
    return TorchFile("torch legacy", tree, {"byte_order": "little"})


def _place(file: Bytes, storages: _Storages, keys: Any, at: int) -> None:
    """Finds where the bytes of each storage lie, from `at` on."""
    named = [str(key) if type(key) is int else key for key in keys] if isinstance(keys, list) else []
    if not isinstance(keys, list) or not all(type(key) is str for key in named) or set(named) != set(storages.known):
        raise CheckpointCorrupt(
            f"Reading {file.where}: its list of storages is not that of its tensors. It is damaged; take another copy."
        )
    for key in named:
        storage = storages.known[key]
        count = int.from_bytes(file.read(at, 8), "little")
        at += 8
        if count * storages.item_bytes[key] != storage.num_bytes or at + storage.num_bytes > file.num_bytes:
            raise CheckpointCorrupt(
                f"Reading {file.where}: storage {key[:100]!r} has {count:,} values at byte {at:,} of "
                f"{file.num_bytes:,}; its pickle says {storage.num_bytes:,} bytes. The file was cut or is damaged; "
                "take another copy of it."
            )
        storage.fetch = _fetch(file, at, storage.num_bytes)
        at += storage.num_bytes


def _as_written(reference: str) -> Any:
    """Returns a reference that protocol 0 has written as text, as `str` wrote it; None for any other text.

    torch itself does not read these.
    """
    if hit := re.match(_MODULE, reference):
        return "module", Global("", hit[1]), None, None
    hit = re.fullmatch(_STORAGE, reference)
    if hit is None:
        return None
    module, _, name = hit[1].rpartition(".")
    view = (hit[6], int(hit[7]), int(hit[8])) if hit[6] else None
    return "storage", Global(module, name), hit[2], hit[3], int(hit[4]), view


def _fetch(file: Bytes, start: int, num_bytes: int) -> Callable[[], Buffer]:
    return lambda: file.buffer(start, num_bytes)


class _Storages:
    """The storages that one file's pickle refers to; where they lie shows only behind it."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.known: dict[str, StoredBytes] = {}
        self.item_bytes: dict[str, int] = {}

    def refer(self, reference: Any) -> Any:
        """Returns what ("storage", ...) or ("module", its class, its source) stands for."""
        if type(reference) is str:
            reference = _as_written(reference)
        if type(reference) is tuple and len(reference) == 4 and reference[0] in ("module", b"module"):
            if not isinstance(reference[1], Global):
                raise Damage("a module without a class")
            return reference[1]  # the source code that follows is not looked at
        kind, key, location, num_values = storage_reference(reference, 6)
        num_bytes = num_values * ITEM_BYTES[kind]
        data = self.known.get(key)
        if data is None:
            data = StoredBytes(self.where, key, num_bytes, location, swapped("little", kind))
            self.known[key], self.item_bytes[key] = data, ITEM_BYTES[kind]
        elif data.num_bytes != num_bytes:
            raise Damage(f"storage {key[:100]!r} of {num_bytes:,} bytes here and {data.num_bytes:,} before")
        view = reference[5]
        if view is None:
            return Storage(data, kind, num_values)
        if type(view) is not tuple or len(view) != 3 or not (is_count(view[1]) and is_count(view[2])):
            raise Damage("a part of a storage without a place")
        if view[1] + view[2] > num_values:
            raise Damage(f"a part of a storage that reaches to value {view[1] + view[2]:,} of {num_values:,}")
        return Storage(data, kind, view[2], view[1] * ITEM_BYTES[kind])
