"""What a picture looks like, in 200 bytes: enough to find it again resaved, at another size or in another format.

A difference hash (64 bits, is each cell of a coarse grey grid darker than its right neighbour?) finds candidates fast;
a thumbnail of 8 × 8 means of colour says whether two candidates are alike. A mirrored, turned or cropped picture is
another picture to both.

Source of the hash: N. Krawetz, "Kind of Like That", hackerfactor.com, 2013 (dHash).
"""

from __future__ import annotations

from collections.abc import Sequence
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
_ROWS = THUMBNAIL_SIDE  # of cells; the hash has one column more, for eight differences
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
    return likenesses_of([sampled(pixels)])[0]


def sampled(pixels: Bytes) -> Bytes:
    """Returns every n-th pixel of every n-th row, `[C, h, w]` with sides of 192 at most: all that a likeness needs."""
    _, height, width = pixels.shape
    down, across = -(-height // _SAMPLED_SIDE), -(-width // _SAMPLED_SIDE)
    if down == across == 1:
        return pixels
    return pixels[:, down // 2 :: down, across // 2 :: across].copy()  # a view would keep the whole picture


def likenesses_of(samples: Sequence[Bytes]) -> list[Likeness]:
    """Returns what each of several pictures looks like; those of one shape are worked on at once.

    Args:
        samples: of each picture, as `sampled` returns them.
    """
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for index, sample in enumerate(samples):
        by_shape.setdefault(sample.shape, []).append(index)
    found: dict[int, Likeness] = {}
    for members in by_shape.values():
        found.update(zip(members, _of_one_shape(np.stack([samples[i] for i in members])), strict=True))
    return [found[index] for index in range(len(samples))]


def _of_one_shape(samples: Bytes) -> list[Likeness]:
    """Returns the likenesses of `[N, C, h, w]` samples."""
    values = samples.astype(np.float32)
    height, width = values.shape[2:]
    if values.shape[1] == 1:
        values = values.repeat(3, axis=1)
    # Luma after the means: both are sums, and the means are much smaller.
    rows = _means(height, _ROWS) @ values
    cells = np.tensordot(rows @ _means(width, _ROWS + 1).T, _LUMA, axes=([1], [0]))
    darker = np.packbits((cells[:, :, 1:] - cells[:, :, :-1] > _FLAT).reshape(len(values), -1), axis=1)
    bits = darker.view(">u8").reshape(-1).tolist()
    thumbnails = np.rint(rows @ _means(width, THUMBNAIL_SIDE).T).astype(np.uint8).transpose(0, 2, 3, 1)
    return [Likeness(one, np.ascontiguousarray(small)) for one, small in zip(bits, thumbnails, strict=True)]


@lru_cache(maxsize=512)
def _means(length: int, cells: int) -> Floats:
    """Returns `[cells, length]`: row k holds how much each pixel counts in the mean of cell k."""
    edges = np.arange(cells + 1) * (length / cells)
    place = np.arange(length)
    covered = np.minimum(edges[1:, None], place + 1) - np.maximum(edges[:-1, None], place)
    weights: Floats = (np.clip(covered, 0, 1) * (cells / length)).astype(np.float32)
    return weights
