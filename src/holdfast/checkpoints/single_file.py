"""One safetensors file to hand on: weights, and in its header all that is needed to use them.

Any safetensors reader gets the plain weights. Ours also reads the header's `holdfast` entry: JSON with what the model
is, its classes and preprocessing, and a digest for every tensor and for itself.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from holdfast.checkpoints import files
from holdfast.checkpoints.digest import digest_of
from holdfast.checkpoints.tensors import DTYPE_NAMES, TensorFile, tensor_bytes, write_tensors
from holdfast.errors import CheckpointCorrupt, CheckpointError

_KEY = "holdfast"
_VERSION = 1


@dataclass(frozen=True)
class SingleFile:
    """Weights by name (CPU, mapped), and the metadata they were written with."""

    path: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, Any]


def write_single_file(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, Any]) -> None:
    """Writes or replaces `path` in one step: readers see the old file or the new one.

    Tied tensors are written once under each name, so that any reader finds every name.

    Raises:
        CheckpointError: the disk refused; an older file is unharmed.
    """
    table = {
        "version": _VERSION,
        **metadata,
        "tensors": {
            name: [DTYPE_NAMES[t.dtype], list(t.shape), digest_of(tensor_bytes(t))] for name, t in tensors.items()
        },
    }
    table["digest"] = digest_of(_canonical(table).encode())
    aside = path.with_name(f"{files.HIDDEN_PREFIX}{path.name}")
    try:
        aside.unlink(missing_ok=True)
        write_tensors(aside, tensors, {"format": "pt", _KEY: _canonical(table)})
        files.rename(aside, path)
        files.sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        raise CheckpointError(
            f"Writing {path}: {error.strerror or error}. What was there before is unharmed."
        ) from error


def is_single_file(path: Path) -> bool:
    """Returns whether a safetensors file has our metadata in its header. Raises CheckpointCorrupt if it has none."""
    return _KEY in TensorFile(path).metadata


def read_single_file(path: Path, *, header_only: bool = False) -> SingleFile:
    """Opens a file that `write_single_file` wrote and proves it.

    Args:
        header_only: read the metadata and leave the tensors out, unread and unproved.

    Raises:
        CheckpointCorrupt: it is damaged.
        CheckpointError: it is a safetensors file of someone else's, or of a newer Holdfast.
    """
    file = TensorFile(path)
    if _KEY not in file.metadata:
        raise CheckpointError(
            f"{path} is a safetensors file without Holdfast's metadata: weights only, no classes, no preprocessing."
        )
    try:
        table = json.loads(file.metadata[_KEY])
        digest = table.pop("digest")
        entries = table["tensors"]
        if digest_of(_canonical(table).encode()) != digest:
            raise ValueError("its metadata do not match their digest")
        for name in {*file.keys(), *entries}:
            if name not in file.entries or name not in entries:
                raise ValueError(f"tensor {name} is missing")
            dtype, shape, wanted = entries[name]
            found = file.entries[name]
            if found["dtype"] != dtype or found["shape"] != shape:
                raise ValueError(f"tensor {name} is {found['dtype']} {found['shape']}, not {dtype} {shape}")
            if not header_only and digest_of(file.tensor_data(name)) != wanted:
                raise ValueError(f"tensor {name} does not match its digest")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointCorrupt(f"{path}: damaged ({error}).") from error
    if table["version"] > _VERSION:
        raise CheckpointError(
            f"{path} was written by a newer Holdfast (version {table['version']}). Install that to open it."
        )
    tensors = {} if header_only else {name: file.tensor(name) for name in entries}
    return SingleFile(path, tensors, {k: v for k, v in table.items() if k not in ("version", "tensors")})


def _canonical(table: dict[str, Any]) -> str:
    return json.dumps(table, ensure_ascii=False, separators=(",", ":"))
