"""From worker to main process: batches are left in memory that both see, and that is used again and again.

torch's DataLoader makes new shared memory for every batch, which the system zeroes, and sends its descriptor through a
socket. For 64 pictures of 224 pixels that costs as much as a tenth of decoding them.

The main process says with each request in which place the batch shall be left: in one that no request under way was
given, and in which no tensor lies that somebody still holds. So nothing is copied out of a place for who holds no more
than a batch or two, and none that is looked at is ever written into: by a process that was forked meanwhile neither,
which is why a place that was held then is not given again.
"""

from __future__ import annotations

import math
import mmap
import os
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from holdfast.data.loading.buffers import Buffers

_HELD = 2  # places that the main process may hold: the batch in use, and one more
_NOBODY = 2  # references to a place's memory that only the list and the question itself hold
_ALIVE: weakref.WeakSet[Handover] = weakref.WeakSet()
_starting: list[None] = []  # not empty while workers are forked, which look at no batch


class Left(NamedTuple):
    """What a worker says of a batch that it left.

    Attributes:
        place: where.
        targets: `[B, ...]`.
        indices: `[B]` int64.
        numbers: `[B, P]` float64, for the stages of its transform that are still to come; None: it is finished.
    """

    place: int
    targets: npt.NDArray[np.generic]
    indices: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.float64] | None


class Handover:
    """The places. Workers that are forked have those that there are then.

    Args:
        num_workers: processes. They are asked in turn, and each is given the same places again if that can be: memory
            that a process has not touched yet costs it as much as what it writes there.
        of_each: places for each of them, as many as it may have batches under way; a few more are for the batches that
            the main process holds.
        batch_size: pictures in a batch, at most.
        shape: of one picture, `[C, H, W]`.
        dtype: uint8 or float32.
    """

    def __init__(
        self, num_workers: int, of_each: int, batch_size: int, shape: tuple[int, ...], dtype: torch.dtype
    ) -> None:
        self._shape, self._dtype, self._num_workers = (batch_size, *shape), dtype, num_workers
        self._num_places = num_workers * of_each + _HELD + 1  # that one is asked for while another is handed over
        self._own = Buffers()
        self._under_way: set[int] = set()
        self._retired: set[int] = set()
        self._turn = 0
        self.renew()
        _ALIVE.add(self)

    def renew(self) -> None:
        """Makes new places, for workers that are about to be forked: a process shares them with its own workers alone.

        What lies in the old ones stays with whoever holds it.
        """
        num_bytes = math.prod(self._shape) * self._dtype.itemsize
        # Anonymous and shared: gone with the last process, however it ends; a page exists once it was written.
        self._memory = [mmap.mmap(-1, num_bytes) for _ in range(self._num_places)]
        for memory in self._memory:
            if hasattr(mmap, "MADV_HUGEPAGE"):  # where the system allows it, a page of 2 MB is zeroed at once
                memory.madvise(mmap.MADV_HUGEPAGE)
        self._retired.clear()
        self.forget()

    def reserve(self) -> int | None:
        """Returns a place for the batch that is asked for next; None when all are in use."""
        turn, self._turn = self._turn, self._turn + 1
        for place in sorted(range(len(self._memory)), key=lambda place: (place - turn) % self._num_workers):
            if place not in self._under_way and place not in self._retired and not self._is_held(place):
                self._under_way.add(place)
                return place
        return None

    def retire_held(self) -> None:
        """Gives the places that are held to nobody any more: a process that is being forked holds them too."""
        self._retired.update(place for place in range(len(self._memory)) if self._is_held(place))

    def _is_held(self, place: int) -> bool:
        # torch holds the memory for as long as a tensor, or a view of one, lies in it.
        return sys.getrefcount(self._memory[place]) != _NOBODY

    def forget(self) -> None:
        """What was under way is not any more: the workers were asked for something else, or are gone."""
        self._under_way.clear()
        self._turn = 0

    def room(self, place: int) -> Tensor:
        """Returns a place's memory, `[batch_size, C, H, W]`; it counts as held while the tensor lives."""
        return torch.frombuffer(self._memory[place], dtype=self._dtype).view(self._shape)

    def take(self, left: Left) -> Tensor:
        """Returns the pictures that a worker left, `[B, C, H, W]`: where they lie, or a copy for who keeps many."""
        self._under_way.discard(left.place)
        held = [place for place in range(self._num_places) if place not in self._under_way and self._is_held(place)]
        inputs = self.room(left.place)[: len(left.indices)]
        # Without a place the next batches would be sent, and each of them holds open files for as long as it is kept.
        return inputs if len(held) < _HELD else self._own.empty(tuple(inputs.shape), inputs.dtype).copy_(inputs)


@contextmanager
def workers_start() -> Iterator[None]:
    """Processes that are forked here look at no batch that there is."""
    _starting.append(None)
    try:
        yield
    finally:
        _starting.pop()


def _before_fork() -> None:
    if not _starting:
        for handover in list(_ALIVE):
            handover.retire_held()


os.register_at_fork(before=_before_fork)
