"""Tensors cut into slices over several safetensors files, as every rank wrote its own.

torch.distributed.checkpoint's writer for safetensors notes in each header where a file's tensors lie in the whole ones;
there is no other table. A tensor's shape is that of all its slices together.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from typing import Any

from holdfast.errors import CheckpointCorrupt
from holdfast.formats.byte_file import Buffer, ByteFile
from holdfast.formats.inert import Damage
from holdfast.formats.lazy_tensor import ITEM_BYTES, LazyTensor, Storage, StoredBytes, is_count
from holdfast.formats.safetensors_file import Safetensors, read_safetensors, row_major
from holdfast.formats.tiling import Box, check_tiling, side_by_side

PLACES = "DCP_SHARDING_INFO"  # the header's entry: JSON, name → {"saved_offsets": [...]}

Slices = list[tuple[Box, LazyTensor]]


def read_slices(folder: str, files: list[str]) -> dict[str, Any]:
    """Returns name → tensor over the files of all ranks.

    Args:
        folder: where they lie.
        files: their names.

    Raises:
        CheckpointCorrupt: a header is damaged, or slices overlap, disagree or are missing.
    """
    found: dict[str, Slices] = {}
    for name in sorted(files):
        held = read_safetensors(ByteFile(os.path.join(folder, name)))  # noqa: PTH118  # see sniff
        offsets = _offsets(os.path.join(folder, name), held)  # noqa: PTH118
        for key, tensor in held.tensors.items():
            found.setdefault(key, []).append((Box(offsets[key], tensor.shape), tensor))
    return {key: _whole(folder, key, slices) for key, slices in found.items()}


def _offsets(where: str, held: Safetensors) -> dict[str, tuple[int, ...]]:
    try:
        table = json.loads(held.metadata.get(PLACES, ""))
        found = {name: tuple(table[name]["saved_offsets"]) for name in held.tensors}
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise CheckpointCorrupt(
            f"Reading {where}: its header does not say under {PLACES} where its slices lie ({error!r:.100}); expected "
            "an offset for each. It is damaged or of another save; take another copy of it."
        ) from error
    if not all(is_count(offset) for offsets in found.values() for offset in offsets):
        raise CheckpointCorrupt(f"Reading {where}: {PLACES} has offsets that are no counts. Take another copy of it.")
    return found


def _whole(folder: str, key: str, slices: Slices) -> LazyTensor:
    shape = tuple(max(ends) for ends in zip(*(_ends(box) for box, _ in slices), strict=False))
    dtype = slices[0][1].dtype
    try:
        if {(tensor.dtype, len(tensor.shape)) for _, tensor in slices} != {(dtype, len(shape))}:
            raise Damage("slices of several types or numbers of axes")
        different = {box: tensor for box, tensor in slices if 0 not in box.sizes}
        check_tiling(shape, list(different))
        if len(different) == 1:  # every rank wrote the whole of it
            return next(iter(different.values()))
        num_values = math.prod(shape)
        data = StoredBytes(folder, key, num_values * ITEM_BYTES[dtype])
        data.fetch = _fetch(dtype, shape, list(different.items()))
        return LazyTensor(Storage(data, dtype, num_values), dtype, 0, shape, row_major(shape))
    except Damage as damage:
        raise CheckpointCorrupt(
            f"Reading {folder}: {key[:200]!r} lies in {damage}; expected slices that make one tensor. A rank's file "
            "is missing, or they are not of one save; fetch all of them again."
        ) from None


def _ends(box: Box) -> tuple[int, ...]:
    if len(box.offsets) != len(box.sizes):
        return (-1,)
    return tuple(offset + size for offset, size in zip(box.offsets, box.sizes, strict=True))


def _fetch(dtype: str, shape: tuple[int, ...], slices: Slices) -> Callable[[], Buffer]:
    def assemble() -> Buffer:
        made = side_by_side(dtype, shape, slices)
        for _, piece in slices:
            piece.storage.data.forget()
        return made

    return assemble
