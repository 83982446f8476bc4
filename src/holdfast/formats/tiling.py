"""Tensors in pieces: whether boxes tile a whole, each value in exactly one of them, and the whole put together."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from holdfast.formats.byte_file import Buffer
from holdfast.formats.inert import Damage
from holdfast.formats.lazy_tensor import ITEM_BYTES, LazyTensor

if TYPE_CHECKING:
    import torch

_MAX_CORNERS = 4_000_000


class Box(NamedTuple):
    """A piece of a tensor: where it begins along each axis, and how far it reaches."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]


def check_tiling(shape: tuple[int, ...], boxes: list[Box]) -> None:
    """Does nothing when the boxes tile a tensor of this shape.

    Each box is written as the signs at its corners that, summed up along every axis, give 1 within the box and 0
    outside. That sum can be undone, so the boxes cover every place exactly once if and only if their signs together
    are those of the whole. It costs as many steps as there are corners, however the boxes lie.

    Args:
        shape: of the whole.
        boxes: its pieces, in any order; empty ones count for nothing.

    Raises:
        Damage: one reaches beyond the whole, two overlap, a place is in none of them, or there are too many.
    """
    for box in boxes:
        if len(box.offsets) != len(shape) or len(box.sizes) != len(shape):
            raise Damage(f"a piece of {len(box.sizes)} axes in a tensor of {len(shape)}")
        if any(o + n > whole for o, n, whole in zip(box.offsets, box.sizes, shape, strict=True)):
            raise Damage(f"a piece {list(box.sizes)} at {list(box.offsets)} that reaches beyond {list(shape)}")
    full = [box for box in boxes if math.prod(box.sizes)]
    covered, volume = sum(math.prod(box.sizes) for box in full), math.prod(shape)
    if covered != volume:
        raise Damage(f"pieces of {covered:,} values for {volume:,}: " + _flaw(covered < volume))
    axes = [axis for axis, extent in enumerate(shape) if any(box.sizes[axis] != extent for box in full)]
    if len(full) << min(len(axes), 64) > _MAX_CORNERS:
        raise Damage(f"{len(full):,} pieces cut along {len(axes)} axes, more than any tensor has")
    signs = Counter[tuple[int, ...]]()
    for sign, box in [(1, box) for box in full] + [(-1, Box((0,) * len(shape), shape))] * bool(volume):
        for ends in itertools.product((0, 1), repeat=len(axes)):
            corner = tuple(box.offsets[a] + end * box.sizes[a] for a, end in zip(axes, ends, strict=True))
            signs[corner] += sign if sum(ends) % 2 == 0 else -sign
    if any(signs.values()):
        raise Damage("pieces that overlap and leave a hole")


def _flaw(too_few: bool) -> str:
    return "a hole is left" if too_few else "they overlap"


def side_by_side(dtype: str, shape: tuple[int, ...], pieces: list[tuple[Box, LazyTensor]]) -> Buffer:
    """Returns the bytes of a whole tensor, row by row, copied together from its pieces.

    Args:
        dtype, shape: of the whole.
        pieces: boxes that tile it, each with a tensor of that type and of the box's sizes.

    Raises:
        CheckpointCorrupt: the bytes of a piece are not all there, or do not match their checksum.
    """
    import torch

    item_bytes = ITEM_BYTES[dtype]
    memory = bytearray(math.prod(shape) * item_bytes)
    if not memory:
        return Buffer(memory, 0, 0)
    *rows, columns = shape or (1,)
    # As bytes, one way serves all types: the last axis is so many times longer.
    whole = torch.frombuffer(memory, dtype=torch.uint8).view(*rows, columns * item_bytes)
    for box, piece in pieces:
        spans = [slice(o, o + n) for o, n in zip(box.offsets, box.sizes, strict=True)] or [slice(0, 1)]
        spans[-1] = slice(spans[-1].start * item_bytes, spans[-1].stop * item_bytes)
        whole[tuple(spans)].copy_(_as_bytes(piece.to_torch()))
    return Buffer(memory, 0, len(memory))


def _as_bytes(tensor: torch.Tensor) -> torch.Tensor:
    import torch

    plain = tensor.resolve_conj().resolve_neg().contiguous()
    return (plain if plain.ndim else plain.reshape(1)).view(torch.uint8)
