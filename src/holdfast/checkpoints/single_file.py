"""One safetensors file to hand on: weights, and in its header all that is needed to use them.

Any safetensors reader gets the plain weights. Ours also reads the header's `holdfast` entry: JSON with what the model
is, its classes and preprocessing, and a digest for every tensor and for itself.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from holdfast.checkpoints import files
from holdfast.checkpoints.digest import digest_of
from holdfast.checkpoints.stored_tensor import obstacle
from holdfast.checkpoints.tensors import DTYPE_NAMES, PLAIN, TensorFile, tensor_bytes, write_tensors
from holdfast.errors import CheckpointCorrupt, CheckpointError, UnsupportedState, first_of

_KEY = "holdfast"
_VERSION = 1
_RESERVED = {"version", "tensors", "digest"}


@dataclass(frozen=True)
class SingleFile:
    """Weights by name (CPU, mapped), and the metadata they were written with."""

    path: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, Any]


def write_single_file(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, Any]) -> None:
    """Writes or replaces `path` in one step: readers see the old file or the new one.

    Tied tensors are written once under each name, so that any reader finds every name. Values are written row-major;
    there is no place here for strides, nor for types that safetensors has no name for.

    Args:
        tensors: name → tensor of a dtype in DTYPE_NAMES, any shape and strides.
        metadata: JSON values under any names but `version`, `tensors` and `digest`.

    Raises:
        UnsupportedState: tensors that such a file cannot hold, all of them by name; nothing has been written.
        CheckpointError: a name that the format keeps to itself, and nothing has been written; or the disk refused, and
            an older file is unharmed.
    """
    _check_names(path, tensors, metadata)
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
        write_tensors(partial(files.write_durably, aside), tensors, {**PLAIN, _KEY: _canonical(table)})
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
        if digest_of(_canonical(table).encode()) != digest:
            raise ValueError("its metadata do not match their digest")
        if table["version"] > _VERSION:
            raise CheckpointError(
                f"{path} was written by a newer Holdfast (version {table['version']} of the format; this one reads up "
                f"to {_VERSION}). Install that to open it."
            )
        entries = table["tensors"]
        for name in {*file.keys(), *entries}:
            if name not in file.entries or name not in entries:
                raise ValueError(f"tensor {name} is missing")
            dtype, shape, wanted = entries[name]
            found = file.entries[name]
            if found["dtype"] != dtype or found["shape"] != shape:
                raise ValueError(f"tensor {name} is {found['dtype']} {found['shape']}, not {dtype} {shape}")
            if not header_only and digest_of(file.tensor_data(name)) != wanted:
                raise ValueError(f"tensor {name} does not match its digest")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointCorrupt(f"{path}: damaged ({error}).") from error
    tensors = {} if header_only else {name: file.tensor(name) for name in entries}
    return SingleFile(path, tensors, {k: v for k, v in table.items() if k not in ("version", "tensors")})


def _check_names(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    if taken := sorted(_RESERVED & metadata.keys()):
        raise CheckpointError(
            f"Writing {path}: found metadata called {', '.join(taken)}; the format keeps these names to itself "
            f"({', '.join(sorted(_RESERVED))}). Call them otherwise."
        )
    if "__metadata__" in tensors:
        raise CheckpointError(
            f"Writing {path}: found a tensor called __metadata__; safetensors keeps that name to itself. "
            "Call the tensor otherwise."
        )
    problems = [f"{name}: {problem}" for name, tensor in tensors.items() if (problem := _obstacle(tensor))]
    if problems:
        raise UnsupportedState(f"Writing {path}: {len(problems)} tensors do not fit:\n{first_of(problems)}")


def _obstacle(tensor: Tensor) -> str | None:
    if (problem := obstacle(tensor)) or tensor.dtype in DTYPE_NAMES:
        return problem
    known = ", ".join(DTYPE_NAMES.values())
    return f"found a tensor of {tensor.dtype}; expected a type that safetensors has ({known}). Convert it first."


def _canonical(table: dict[str, Any]) -> str:
    return json.dumps(table, ensure_ascii=False, separators=(",", ":"))
