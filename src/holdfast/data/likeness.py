"""What a picture looks like, in 200 bytes: enough to find it again resaved, at another size or in another format.

A difference hash (64 bits, is each cell of a coarse grey grid darker than its right neighbour?) finds candidates fast;
a thumbnail of 8 × 8 means of colour says whether two candidates are alike. A mirrored, turned or cropped picture is
another picture to both.

Source of the hash: N. Krawetz, "Kind of Like That", hackerfactor.com, 2013 (dHash).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

THUMBNAIL_SIDE = 8
MIN_SIDE = 32  # pixels; below it different pictures look the same: of MNIST (28), thousands of ones
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R 601
_SAMPLED_SIDE = 192  # larger pictures are sampled: a cell's mean of 400 pixels is the mean to within a grey level
_FLAT = 0.5  # grey levels; two cells closer than this are equal, so that the noise of a JPEG sets no bits


class Likeness(NamedTuple):
    """Attributes: `bits`, the difference hash as an unsigned 64-bit number; `thumbnail`, `[8, 8, 3]` uint8, RGB."""

    bits: int
    thumbnail: Bytes


def likeness_of(pixels: Bytes) -> Likeness:
    """Returns what a picture looks like.

    Args:
        pixels: `[3, H, W]` or `[1, H, W]` uint8 in [0, 255], any strides; not changed.
    """
    _, height, width = pixels.shape
    down, across = -(-height // _SAMPLED_SIDE), -(-width // _SAMPLED_SIDE)
    sampled = pixels[:, down // 2 :: down, across // 2 :: across].astype(np.float32)
    if len(sampled) == 1:
        sampled = sampled.repeat(3, axis=0)
    grey = np.tensordot(_LUMA, sampled, axes=1)
    cells = _means(grey.shape[0], 8) @ grey @ _means(grey.shape[1], 9).T
    darker = cells[:, 1:] - cells[:, :-1] > _FLAT
    bits = int.from_bytes(np.packbits(darker).tobytes(), "big")
    side = THUMBNAIL_SIDE
    small = _means(sampled.shape[1], side) @ sampled @ _means(sampled.shape[2], side).T
    return Likeness(bits, np.rint(small).astype(np.uint8).transpose(1, 2, 0).copy())


@lru_cache(maxsize=512)
def _means(length: int, cells: int) -> Floats:
    """Returns `[cells, length]`: row k holds how much each pixel counts in the mean of cell k."""
    edges = np.arange(cells + 1) * (length / cells)
    place = np.arange(length)
    covered = np.minimum(edges[1:, None], place + 1) - np.maximum(edges[:-1, None], place)
    weights: Floats = (np.clip(covered, 0, 1) * (cells / length)).astype(np.float32)
    return weights
