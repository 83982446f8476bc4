"""Files within pickles: bytes that are a whole `torch.save` or a pickle, as skorch keeps what lies on a device."""

from __future__ import annotations

from typing import Any

from holdfast.errors import CheckpointCorrupt, CheckpointError
from holdfast.formats.byte_file import Bytes, MemoryFile
from holdfast.formats.limits import LIMITS, Limits
from holdfast.formats.pickle_machine import read_pickle
from holdfast.formats.sniff import sniff_bytes
from holdfast.formats.torch_legacy import read_torch_legacy
from holdfast.formats.torch_zip import read_torch_zip


def _quarter(limits: Limits) -> Limits:
    """Returns limits for one of several: four of them may cost about as much as a file that stands alone."""
    return limits._replace(
        opcodes=limits.opcodes // 4,
        memory=limits.memory // 4,
        memo=limits.memo // 4,
        pickle_bytes=limits.pickle_bytes // 4,
    )


_LIMITS = _quarter(LIMITS)
_LEAST = 200  # bytes; no file with a tensor is smaller
_MAX_PICKLES = 8  # one behind another in one file
_STARTS = (b"PK\3\4", b"\x80\2", b"\x80\3", b"\x80\4", b"\x80\5")


def read_nested(data: bytes, where: str, limits: Limits = _LIMITS) -> Any:
    """Returns the tree of a file that is a value in another file; None when the bytes are no such file.

    Args:
        data: the bytes.
        where: the file they stand in, for messages.
        limits: what reading may cost.

    Raises:
        CheckpointCorrupt: they begin as a file of torch and are damaged.
        CheckpointError: they ask for more than the limits allow.
    """
    if len(data) < _LEAST or not data.startswith(_STARTS):
        return None
    file = MemoryFile(f"{where} (a file within it)", data)
    kind = sniff_bytes(file, limits).kind
    if kind == "torch zip":
        return read_torch_zip(file, limits).tree
    if kind == "TorchScript":
        from holdfast.formats.torchscript import read_torchscript

        return read_torchscript(file, limits)
    if kind == "torch legacy":
        return read_torch_legacy(file, limits).tree
    try:
        return read_plain_pickle(file, limits) if kind == "pickle" else None
    except CheckpointCorrupt:  # bytes may begin like a pickle by chance
        return None


def read_plain_pickle(file: Bytes, limits: Limits) -> Any:
    """Returns what `pickle.dump` wrote; torch puts each storage into it as a whole old file of its own.

    Several calls of it on one open file put their pickles one behind another: they are a list then.
    """

    def storage(data: bytes) -> Any:
        return read_torch_legacy(MemoryFile(file.where, data), limits).tree

    data = file.whole()
    value, end = read_pickle(data, file.where, nested=storage, raw_arrays=True, limits=limits)
    found = [value]
    while data[end : end + 2] in _STARTS:
        if len(found) == _MAX_PICKLES:
            raise CheckpointError(
                f"Reading {file.where}: it holds more than {_MAX_PICKLES} pickles one behind another; expected a "
                "checkpoint in a few. Is it the right file, and no log or data set?"
            )
        value, end = read_pickle(data, file.where, start=end, nested=storage, raw_arrays=True, limits=_quarter(limits))
        found.append(value)
    return found if len(found) > 1 else found[0]
