"""Which reader a kind of file has: from the bytes to the tree that was saved, inert and lazy.

What the parts of a tree are for is told elsewhere (`roles.py`); only layouts that say it themselves (TorchScript,
torch.export, safetensors) are taken at their word in `opened.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from holdfast.errors import CheckpointError
from holdfast.formats.byte_file import ByteFile, Bytes
from holdfast.formats.limits import Limits
from holdfast.formats.nested_file import read_plain_pickle
from holdfast.formats.roles import find_roles
from holdfast.formats.safetensors_file import read_safetensors
from holdfast.formats.sniff import Sniffed, a, sniff
from holdfast.formats.torch_legacy import read_torch_legacy
from holdfast.formats.torch_zip import read_torch_zip
from holdfast.formats.zip_archive import ZipArchive

_UNPACK = "Open it by itself, or unpack it and open the checkpoint that is in it."
_LIGHTNING = "meta.pt"  # what Lightning puts beside the pieces: everything that is neither weights nor optimizers


def read_tree(file: Bytes, kind: str, limits: Limits, archive: ZipArchive | None = None) -> Any:
    """Returns the tree of one file. Raises CheckpointError, and CheckpointCorrupt when it is damaged.

    Args:
        kind: what `sniff` says it is.
        archive: the file as an archive, when it has been opened as one.
    """
    if kind == "torch zip":
        return read_torch_zip(file, limits, archive).tree
    return _READERS[kind](file, limits)


def read_place(path: str, limits: Limits) -> Any:
    """Returns the tree of a file or of a directory of torch.distributed.checkpoint. Raises as `read_tree`.

    A folder of several parts is none: parts are looked for in one level only.
    """
    found = sniff(path, limits)
    if found.kind == "DCP directory":
        return read_directory(path, limits)
    if found.kind == "unpacked torch zip":
        from holdfast.formats.unpacked_zip import read_unpacked

        return read_unpacked(path, limits)
    if found.kind == "safetensors index":
        return read_index(ByteFile(path), limits)[0]
    if found.kind not in _READERS:
        raise no_weights(path, found)
    return read_tree(ByteFile(path), found.kind, limits)


def read_directory(path: str, limits: Limits) -> dict[str, Any]:
    """Returns the tree of a directory of torch.distributed.checkpoint, with what Lightning keeps beside it."""
    from holdfast.formats.dcp import read_dcp

    tree, beside = read_dcp(path, limits), f"{path}/{_LIGHTNING}"
    if os.path.isfile(beside):  # noqa: PTH113  # see sniff
        more = read_place(beside, limits)
        tree = {**more, **tree} if isinstance(more, dict) else tree
    return tree


def read_index(index: ByteFile, limits: Limits) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the tensors of all shards by name, and the index's metadata. Raises as `read_tree`."""
    from holdfast.formats.shards import read_shards

    def open_shard(path: str) -> dict[str, Any]:
        found = sniff(path, limits)
        if found.kind not in _READERS:  # an index of indexes could lead in circles
            raise no_weights(path, found)
        tree = read_tree(ByteFile(path), found.kind, limits)
        return tree if found.kind == "safetensors" else find_roles(tree, path).weights.get("model", {})

    return read_shards(index, open_shard)


def has_reader(kind: str) -> bool:
    """Returns whether a file of this kind is read by `read_tree`."""
    return kind in _READERS


def no_weights(where: str, found: Sniffed) -> CheckpointError:
    """Returns the error that says what a file is instead of a checkpoint, and what to do."""
    return CheckpointError(
        f"Opening {where}: it is {a(found.kind)}; expected a checkpoint. {found.advice or _UNPACK}".strip()
    )


# Those that are seldom needed are imported when they are: importing all of them takes as long as a look into a file.
def _torch_tar(file: Bytes, limits: Limits) -> Any:
    from holdfast.formats.torch_tar import read_torch_tar

    return read_torch_tar(file, limits).tree


def _torchscript(file: Bytes, limits: Limits) -> Any:
    from holdfast.formats.torchscript import read_torchscript

    return read_torchscript(file, limits)


def _torch_export(file: Bytes, limits: Limits) -> Any:
    from holdfast.formats.torch_export import read_torch_export

    return read_torch_export(file, limits)


def _npz(file: Bytes, limits: Limits) -> Any:
    from holdfast.formats.numpy_file import read_npz

    return read_npz(file, limits)


def _npy(file: Bytes, limits: Limits) -> Any:
    from holdfast.formats.numpy_file import read_npy

    return read_npy(file, limits)


_READERS: dict[str, Callable[[Bytes, Limits], Any]] = {
    "torch zip": lambda file, limits: read_torch_zip(file, limits).tree,
    "torch legacy": lambda file, limits: read_torch_legacy(file, limits).tree,
    "torch tar": _torch_tar,
    "TorchScript": _torchscript,
    "torch.export program": _torch_export,
    "pickle": read_plain_pickle,
    "safetensors": lambda file, _: read_safetensors(file).tensors,
    "npz": _npz,
    "npy": _npy,
}
