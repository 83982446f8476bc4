"""The yardsticks: what the machine does with the same bytes and no checkpoint around them."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import torch
from torch import Tensor

CHUNK_BYTES = 8 << 20


class RawBytes:
    """As many bytes as a state has, in warm memory that begins on a page."""

    def __init__(self, num_bytes: int) -> None:
        self.num_bytes = -(-num_bytes // 4096) * 4096
        self._memory = mmap.mmap(-1, self.num_bytes)
        torch.frombuffer(self._memory, dtype=torch.uint8).random_(256)  # a disk may be quicker with zeros

    def write(self, path: Path, *, direct: bool) -> None:
        """Writes a new file and syncs it: through the page cache in chunks of 8 MiB, or past it."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | (os.O_DIRECT if direct else 0)
        descriptor = os.open(path, flags, 0o644)
        try:
            view = memoryview(self._memory)
            for start in range(0, self.num_bytes, CHUNK_BYTES):
                piece = view[start : start + CHUNK_BYTES]
                while piece:
                    piece = piece[os.write(descriptor, piece) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def read(self, paths: list[Path]) -> None:
        """Reads files into this memory, one after another; it must be large enough."""
        view, start = memoryview(self._memory), 0
        for path in paths:
            with path.open("rb", buffering=0) as file:
                while taken := file.readinto(view[start:]):
                    start += taken


class WarmCopy:
    """Memory for a copy of tensors, touched once, and the copying itself: the least that a snapshot can cost."""

    def __init__(self, tensors: list[Tensor]) -> None:
        self._sources = [tensor.detach() for tensor in tensors]
        self._targets = [tensor.clone() for tensor in self._sources]

    def copy(self) -> None:
        """Copies every tensor with all of torch's threads."""
        for target, source in zip(self._targets, self._sources, strict=True):
            target.copy_(source)


def sync_tree(folder: Path) -> None:
    """Syncs every file below a folder, and the folders."""
    for path in [*folder.rglob("*"), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def files_below(folder: Path) -> list[Path]:
    """Returns all files below a folder, largest first."""
    return sorted((p for p in folder.rglob("*") if p.is_file()), key=lambda p: -p.stat().st_size)


def drop_from_cache(folder: Path) -> None:
    """Puts the files below a folder out of the page cache (they must be synced)."""
    for path in files_below(folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def warm_the_cache(folder: Path) -> None:
    """Reads every file below a folder once."""
    for path in files_below(folder):
        with path.open("rb", buffering=0) as file:
            buffer = bytearray(CHUNK_BYTES)
            while file.readinto(buffer):
                pass
