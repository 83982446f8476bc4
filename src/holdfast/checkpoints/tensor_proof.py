"""Whether a file of tensors is the one that was written.

The file's own digest covers every byte, but one digest takes one core. The digests of its tensors take all of them,
and cover the rest too when its header is, byte by byte, the one that follows from what the manifest says of them.
"""

from __future__ import annotations

from collections.abc import Mapping

from holdfast.checkpoints.readers import digests_of
from holdfast.checkpoints.tensors import PLAIN, TensorEntry, TensorFile, header_bytes


def is_proven(file: TensorFile, entries: Mapping[str, TensorEntry], digest: str) -> bool:
    """Returns whether every byte of a file is the one that was written. Raises OSError when it cannot be read.

    Args:
        file: it has the size that the manifest says.
        entries: what the manifest says of its tensors, in the file's order.
        digest: what the manifest says of the whole file.
    """
    kinds = {name: (entry.dtype, entry.shape) for name, entry in entries.items()}
    is_ours = file.header_data() == header_bytes(kinds, PLAIN)  # another version may write another header
    if damaged_tensors(file, entries):
        return False
    return is_ours or digests_of(file.path, [(0, file.num_bytes)]) == [digest]


def damaged_tensors(file: TensorFile, entries: Mapping[str, TensorEntry]) -> list[str]:
    """Returns the names of the tensors that are not there or do not match their digests, in the order of `entries`.

    Raises OSError when the file cannot be read.
    """
    present = [name for name in entries if name in file.entries]
    found = dict(zip(present, digests_of(file.path, [file.span(name) for name in present]), strict=True))
    return [name for name, entry in entries.items() if found.get(name) != entry.digest]
