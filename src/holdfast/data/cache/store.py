"""Where decoded pictures are kept: one segment in memory, or some on disk, of which one grows.

To `CachedPictures` both are the same: find by key, add by key.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from holdfast.data.cache.record import STOPPED_FULL, Layout, slots_for
from holdfast.data.cache.segment import Segment


@dataclass(frozen=True)
class Filling:
    """How full a store is.

    Attributes:
        num_bytes: bytes of the segments in use.
        limit: bytes that the growing segment may have; 0 when none grows.
        stopped: why it does not grow any more, for a person; "" while it does, or has no need to.
    """

    num_bytes: int
    limit: int
    stopped: str


class PictureStore:
    """Pictures by key, in one or more segments.

    Args:
        segments: those to look in, in this order.
        growing: the one of them that new pictures go to; None adds nothing.
        held: descriptors that say to other processes that the files are in use; closed with the store.
        why_not: why none grows, for a person.
    """

    def __init__(
        self,
        segments: Sequence[Segment],
        growing: Segment | None = None,
        held: Sequence[int] = (),
        why_not: str = "",
    ) -> None:
        self._segments, self._growing, self._held, self._why_not = list(segments), growing, list(held), why_not

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_held": []}  # the process that opened the files holds them for its workers

    def __del__(self) -> None:
        for descriptor in getattr(self, "_held", []):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def find(self, key: bytes) -> Tensor | None:
        """Returns the picture as `[C, H, W]` uint8, a view of mapped memory not to be written into; None for a miss."""
        for segment in self._segments:
            picture = segment.read(key)
            if picture is not None:
                return picture
        return None

    def add(self, key: bytes, picture: Tensor) -> bool:
        """Stores a picture, `[C, H, W]` uint8, if there is room; returns whether it is there now. Never raises."""
        for segment in self._segments:
            if segment is not self._growing and segment.has(key):
                return segment.add(key, picture)  # it was found damaged
        return self._growing is not None and self._growing.add(key, picture)

    def filling(self) -> Filling:
        """Returns how full it is, over all processes."""
        num_bytes = sum(segment.progress().end for segment in self._segments)
        if self._growing is None:
            return Filling(num_bytes, 0, self._why_not)
        stopped = self._growing.progress().stopped
        reason = "" if not stopped else "its room is used up" if stopped == STOPPED_FULL else os.strerror(stopped)
        return Filling(num_bytes, self._growing.limit, reason)


def memory_store(num_pictures: int, limit: int) -> PictureStore:
    """Returns an empty store in memory that this process shares with those it starts, and that ends with them.

    It is a file without a name, so nothing is left of it, whoever is killed. Memory is taken as pictures come.

    Args:
        num_pictures: how many it shall hold at most.
        limit: bytes it may take at most.

    Raises:
        OSError: the system gives no such file.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("holdfast-pictures")
    else:  # macOS: a file that has lost its name at once; the page cache is its memory
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    segment = Segment.create(descriptor, num_pictures, limit, in_memory=hasattr(os, "memfd_create"))
    return PictureStore([segment], segment)


def table_bytes(num_pictures: int) -> int:
    """Returns what the table of a segment for so many pictures takes, before any picture."""
    return Layout(slots_for(num_pictures), 0).pixels_at
