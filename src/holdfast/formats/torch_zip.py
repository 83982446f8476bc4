"""What `torch.save` has written since 1.6: a zip archive with a pickle (`data.pkl`) and an entry for each storage."""

from __future__ import annotations

from functools import partial
from typing import Any

from holdfast.errors import CheckpointCorrupt
from holdfast.formats.byte_file import Bytes
from holdfast.formats.inert import Damage, Global
from holdfast.formats.lazy_tensor import (
    ITEM_BYTES,
    STORAGE_TYPES,
    Storage,
    StoredBytes,
    is_count,
    swapped,
)
from holdfast.formats.limits import LIMITS, Limits
from holdfast.formats.pickle_machine import read_pickle
from holdfast.formats.torch_file import TorchFile
from holdfast.formats.zip_archive import ZipArchive

_SMALL = 4096  # bytes; the entries beside the pickle hold a word


def find_pickle(archive: ZipArchive) -> str | None:
    """Returns the name of the archive's pickle, `<folder>/data.pkl`; None when there is none."""
    found = [name for name in archive.entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    return found[0] if len(found) == 1 else "data.pkl" if not found and "data.pkl" in archive.entries else None


def read_torch_zip(file: Bytes, limits: Limits = LIMITS, archive: ZipArchive | None = None) -> TorchFile:
    """Reads the tree of a torch archive; tensors stay in the file.

    Raises:
        CheckpointCorrupt: it is damaged, or its tensors do not lie where its pickle says.
        CheckpointError: it is of another kind, or asks for more than the limits allow.
    """
    archive = archive or ZipArchive(file, limits)
    pickle = find_pickle(archive)
    if pickle is None:
        raise CheckpointCorrupt(
            f"Reading {file.where}: it is a zip archive without one folder that holds data.pkl; expected what "
            "torch.save writes. Is it the right file?"
        )
    folder = pickle.removesuffix("data.pkl")
    words = {
        name: archive.read(folder + name, _SMALL).decode("ascii", "replace").strip()
        for name in ("byteorder", "version", ".data/serialization_id", ".format_version")
        if folder + name in archive.entries
    }
    byte_order = words.get("byteorder", "little")
    if byte_order not in ("little", "big"):
        raise CheckpointCorrupt(f"Reading {file.where}: its byte order is {byte_order[:40]!r}; expected little or big.")
    storages = _Storages(archive, folder, byte_order)
    tree = read_pickle(
        archive.read(pickle, limits.pickle_bytes), file.where, persistent=storages.refer, limits=limits
    ).value
    return TorchFile("torch zip", tree, {"byte_order": byte_order, **words})


class _Storages:
    """The storages of one archive, by what its pickle calls them."""

    def __init__(self, archive: ZipArchive, folder: str, byte_order: str) -> None:
        self.archive, self.folder, self.byte_order = archive, folder, byte_order
        self.known: dict[str, StoredBytes] = {}

    def refer(self, reference: Any) -> Storage:
        """Returns what ("storage", its type, its key, device, number of values) stands for."""
        kind, key, location, num_values = storage_reference(reference, 5)
        num_bytes = num_values * ITEM_BYTES[kind]
        data = self.known.get(key)
        if data is None or (data.num_bytes != num_bytes and not (data.num_bytes and num_bytes)):
            entry = self.archive.entries.get(f"{self.folder}data/{key}")
            there = entry.num_bytes if entry else 0
            if there != num_bytes:
                raise Damage(f"storage {key[:100]!r} of {num_bytes:,} bytes, whose entry has {there:,}")
            data = StoredBytes(self.archive.file.where, key, num_bytes, location, swapped(self.byte_order, kind))
            data.fetch = partial(self.archive.buffer, f"{self.folder}data/{key}")
            data.read_into = partial(self.archive.read_into, f"{self.folder}data/{key}")
            self.known[key] = data
        elif data.num_bytes != num_bytes:
            raise Damage(f"storage {key[:100]!r} of {num_bytes:,} bytes here and {data.num_bytes:,} before")
        return Storage(data, kind, num_values)


def storage_reference(reference: Any, length: int) -> tuple[str, str, str, int]:
    """Takes apart what a pickle says of a storage elsewhere. Raises Damage when it does not say that.

    Args:
        reference: ("storage", its type, its key, device, number of values, ...).
        length: how many items that has.

    Returns:
        dtype, key, device, number of values.
    """
    if type(reference) is not tuple or len(reference) != length or reference[0] not in ("storage", b"storage"):
        raise Damage("a reference that is none to a storage")
    kind, key, location, num_values = reference[1:5]
    if isinstance(location, bytes):
        location = location.decode("ascii", "replace")
    if isinstance(key, int):
        key = str(key)
    if not isinstance(kind, Global) or kind.name not in STORAGE_TYPES or kind.module.split(".")[0] != "torch":
        raise Damage("a storage of a type that torch does not have")
    if type(key) is not str or type(location) is not str or not is_count(num_values):
        raise Damage("a storage without a key, a device or a size")
    return STORAGE_TYPES[kind.name], key, location, num_values
