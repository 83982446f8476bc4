"""Weights in several files with an index: `model.safetensors.index.json`, `pytorch_model.bin.index.json`.

The index is JSON: `weight_map` says for every name in which file it lies. Only files beside the index are opened.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from holdfast.errors import CheckpointCorrupt, CheckpointError, first_of
from holdfast.formats.byte_file import ByteFile

_MAX_INDEX = 32 << 20  # bytes


def read_shards(index: ByteFile, open_shard: Callable[[str], dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns name → tensor over all shards, in the order of the index, and the index's metadata.

    Args:
        index: the index.
        open_shard: path of a shard → its tensors by name.

    Raises:
        CheckpointCorrupt: the index is damaged, or a shard is missing or has not what the index says.
        CheckpointError: the index names files elsewhere.
    """
    where, names = index.where, _weight_map(index)
    folder = os.path.dirname(where)  # noqa: PTH120  # importing pathlib costs a third of a whole look
    for shard in sorted(set(names.values())):
        check_neighbour(where, shard)
    shards = {}
    for shard in sorted(set(names.values())):
        path = os.path.join(folder, shard)  # noqa: PTH118
        if not os.path.isfile(path):  # noqa: PTH113
            raise CheckpointCorrupt(f"Reading {where}: its shard {shard} is missing. Fetch it into the same folder.")
        shards[shard] = open_shard(path)
    if lost := [f"{name} (expected in {shard})" for name, shard in names.items() if name not in shards[shard]]:
        raise CheckpointCorrupt(
            f"Reading {where}: {len(lost)} tensors are not where it says:\n{first_of(lost)}\n"
            "Index and shards are not of one save; fetch all of them again."
        )
    return {name: shards[shard][name] for name, shard in names.items()}, _metadata(index)


def check_neighbour(where: str, name: str) -> None:
    """Raises CheckpointError when a name that the file `where` gives is not that of a file beside it."""
    if name in ("", ".", "..") or any(letter in name for letter in "/\\\0:"):
        raise CheckpointError(
            f"Reading {where}: it places weights in {name[:200]!r}; expected names of files beside it. "
            "An index that leads elsewhere is not followed; write the plain names into it if you trust it."
        )


def _table(index: ByteFile) -> Any:
    if index.num_bytes > _MAX_INDEX:
        raise CheckpointError(f"Reading {index.where}: an index of {index.num_bytes:,} bytes. Is it the right file?")
    try:
        return json.loads(index.read(0, index.num_bytes))
    except (ValueError, RecursionError) as error:
        raise CheckpointCorrupt(f"Reading {index.where}: it is no JSON ({error}). Take another copy of it.") from error


def _weight_map(index: ByteFile) -> dict[str, str]:
    table = _table(index)
    names = table.get("weight_map") if isinstance(table, dict) else None
    if not isinstance(names, dict) or not all(isinstance(shard, str) for shard in names.values()):
        raise CheckpointCorrupt(f"Reading {index.where}: it has no `weight_map` from names to files. Is it the index?")
    return names


def _metadata(index: ByteFile) -> dict[str, Any]:
    metadata = _table(index).get("metadata")
    return metadata if isinstance(metadata, dict) else {}
