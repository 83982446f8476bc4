"""Memory for batches that is used again once nobody holds it: fresh memory costs as much as what is written into it.

Every page of fresh memory is zeroed by the system when it is first touched; a batch of 64 pictures has ten thousand. A
process that is forked has a copy of its own of what it holds.
"""

from __future__ import annotations

import math
import mmap
import sys

import torch
from torch import Tensor

_NOBODY = 2  # references to a buffer that only the list and the question itself hold
_MOST = 4  # buffers kept: a caller that holds more batches at a time gets fresh memory


class Buffers:
    """Gives tensors whose memory it takes back when the last tensor on it is gone."""

    def __init__(self) -> None:
        self._kept: list[mmap.mmap] = []

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
        """Returns a contiguous tensor on the CPU; its values are whatever was there before."""
        num_bytes = math.prod(shape) * dtype.itemsize
        if not num_bytes:
            return torch.empty(shape, dtype=dtype)
        return torch.frombuffer(self._free(num_bytes), dtype=dtype, count=math.prod(shape)).view(shape)

    def _free(self, num_bytes: int) -> mmap.mmap:
        for place in range(len(self._kept)):
            # torch holds the buffer for as long as a tensor, or a view of one, lies in it.
            if sys.getrefcount(self._kept[place]) == _NOBODY and len(self._kept[place]) >= num_bytes:
                return self._kept[place]
        memory = mmap.mmap(-1, num_bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_HUGEPAGE"):  # a page of 2 MB is zeroed at once
            memory.madvise(mmap.MADV_HUGEPAGE)
        self._kept = [*self._kept[-_MOST + 1 :], memory]
        return memory
