"""Whether a file of tensors is the one that was written.

The file's own digest covers every byte, but one digest takes one core. The digests of its tensors take all of them,
and cover the rest too when its header is, byte by byte, the one that follows from what the manifest says of them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from holdfast.checkpoints.digest import digest_of
from holdfast.checkpoints.tensors import PLAIN, TensorEntry, TensorFile, header_bytes

_READERS = min(4, os.cpu_count() or 1)  # more would wait for the memory
_WORTH_A_THREAD = 1 << 20  # bytes; fewer are hashed sooner than a thread begins


def is_proven(file: TensorFile, entries: Mapping[str, TensorEntry], digest: str) -> bool:
    """Returns whether every byte of a file is the one that was written.

    Args:
        file: it has the size that the manifest says.
        entries: what the manifest says of its tensors, in the file's order.
        digest: what the manifest says of the whole file.
    """
    kinds = {name: (entry.dtype, entry.shape) for name, entry in entries.items()}
    is_ours = file.header_data() == header_bytes(kinds, PLAIN)  # another version may write another header
    return not damaged_tensors(file, entries) and (is_ours or digest_of(file.data()) == digest)


def damaged_tensors(file: TensorFile, entries: Mapping[str, TensorEntry]) -> list[str]:
    """Returns the names of the tensors that are not there or do not match their digests, in the file's order."""
    shares = _shares(file, list(entries)) if file.num_bytes >= _WORTH_A_THREAD else [list(entries)]

    def damaged(names: list[str]) -> list[str]:
        return [
            name
            for name in names
            if name not in file.entries or digest_of(file.tensor_data(name)) != entries[name].digest
        ]

    if len(shares) == 1:
        return damaged(shares[0])
    with ThreadPoolExecutor(len(shares), "holdfast-verify") as readers:
        return [name for found in readers.map(damaged, shares) for name in found]


def _shares(file: TensorFile, names: list[str]) -> list[list[str]]:
    """Divides names into runs of about as many bytes each: a disk reads on, and no thread waits for another."""
    shares: list[list[str]] = [[] for _ in range(_READERS)]
    taken = 0
    for name in names:
        shares[min(taken * _READERS // file.num_bytes, _READERS - 1)].append(name)
        if name in file.entries:
            start, stop = file.entries[name]["data_offsets"]
            taken += stop - start
    return [share for share in shares if share]
