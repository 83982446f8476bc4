"""From worker to main process: batches of bytes are left in memory that both see, the same memory again and again.

torch's DataLoader makes new shared memory for every batch, which the system zeroes, and sends its descriptor through a
socket. For 64 pictures of 224 pixels that costs as much as a tenth of decoding them.

Each worker has places of its own and fills them in turn. One more than it may have batches under way is enough: by the
time it fills a place again, the main process has asked it for so many later batches that it has copied the earlier one.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from holdfast.data.sample import Batch


class Left(NamedTuple):
    """What a worker says of a batch that it left: in which place, its targets `[B, ...]` and its indices `[B]`."""

    place: int
    targets: npt.NDArray[np.generic]
    indices: npt.NDArray[np.int64]


class Handover:
    """The places, made before the workers are forked.

    Args:
        num_workers: processes.
        under_way: batches that one of them may have been asked for and not delivered (DataLoader's `prefetch_factor`).
        batch_size: pictures in a batch, at most.
        shape: of one picture, `[C, H, W]`.
    """

    def __init__(self, num_workers: int, under_way: int, batch_size: int, shape: tuple[int, ...]) -> None:
        self._of_each = under_way + 1
        self._turn = 0
        places = (num_workers * self._of_each, batch_size, *shape)
        # Anonymous and shared: gone with the last process, however it ends; a page exists once it was written.
        memory = mmap.mmap(-1, math.prod(places))
        self._places = torch.frombuffer(memory, dtype=torch.uint8).view(places)

    def leave(self, pictures: Sequence[Tensor]) -> int | None:
        """Called in a worker: copies pictures into its next place; None when they are not of the shape expected."""
        worker = get_worker_info()
        shape = self._places.shape[2:]
        if worker is None or any(picture.shape != shape or picture.dtype != torch.uint8 for picture in pictures):
            return None
        place = worker.id * self._of_each + self._turn
        self._turn = (self._turn + 1) % self._of_each
        torch.stack(list(pictures), out=self._places[place, : len(pictures)])
        return place

    def take(self, left: Left) -> Batch:
        """Returns a batch whose inputs, `[B, C, H, W]` uint8, lie in their place: copy them before the next one."""
        inputs = self._places[left.place, : len(left.indices)]
        return Batch(inputs, torch.from_numpy(left.targets), torch.from_numpy(left.indices))
