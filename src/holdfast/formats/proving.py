"""Many storages of files, proven or read at once: in several threads, the largest first.

What is small goes first, one after another as it lies in the file: a thread for each would cost more than its bytes.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from holdfast.formats.lazy_tensor import LazyTensor, StoredBytes

Item = TypeVar("Item")

_WORKERS = min(4, os.cpu_count() or 1)  # more would wait for the memory
_WORTH_A_THREAD = 4 << 20  # bytes; fewer are done sooner than threads begin
_SMALL = 64 << 10  # bytes
_KEPT = 16 << 20  # bytes of small storages that are kept when they are proven, so that none is read again


def prove(tensors: Iterable[LazyTensor]) -> None:
    """Does nothing when the values of all these tensors are there, match their checksums, and are of types of torch.

    Nothing large is kept. A storage that several tensors share is proven once.

    Raises:
        CheckpointCorrupt: the bytes of one are not all there, or do not match their checksum.
        CheckpointError: this torch has no such type.
    """
    tensors = list(tensors)
    for tensor in tensors:
        tensor.torch_dtype()
    small, large = _storages(tensors)
    left = _KEPT
    for data in small:
        left -= data.num_bytes
        data.prove(keep=left >= 0)
    largest_first(StoredBytes.prove, large, lambda data: data.num_bytes)


def read_all(tensors: Iterable[LazyTensor]) -> None:
    """Fetches what all these tensors are made of; their `to_torch` finds it there. Raises as `prove`."""
    small, large = _storages(tensors)
    for data in small:
        data.to_torch()
    largest_first(StoredBytes.to_torch, large, lambda data: data.num_bytes)


def largest_first(work: Callable[[Item], object], items: Sequence[Item], num_bytes: Callable[[Item], int]) -> None:
    """Calls `work` with every item, in up to four threads, the largest first.

    Args:
        work: must not wait for another item's.
        num_bytes: how large an item is.

    Raises:
        BaseException: what `work` raised for the first of the items for which it raised; not all of the others may
            have been begun then.
    """
    waiting = deque(sorted(range(len(items)), key=lambda number: -num_bytes(items[number])))
    failures: dict[int, BaseException] = {}

    def take() -> None:
        while True:
            try:
                number = waiting.popleft()
            except IndexError:
                return
            try:
                work(items[number])
            except BaseException as error:  # told below, by the thread that asked
                failures[number] = error
                waiting.clear()

    total = sum(map(num_bytes, items))
    others = [
        threading.Thread(target=take, name="holdfast-read", daemon=True)
        for _ in range(min(_WORKERS, len(items), total // _WORTH_A_THREAD) - 1)
    ]
    for thread in others:
        thread.start()
    try:
        take()
    finally:
        waiting.clear()
        for thread in others:
            thread.join()
    if failures:
        raise failures[min(failures)]


def _storages(tensors: Iterable[LazyTensor]) -> tuple[list[StoredBytes], list[StoredBytes]]:
    """Returns what the tensors are made of, each once: the small ones, and the others."""
    found = list({id(tensor.storage.data): tensor.storage.data for tensor in tensors}.values())
    return [d for d in found if d.num_bytes <= _SMALL], [d for d in found if d.num_bytes > _SMALL]
