"""The file-system calls of a save, each in one small function, so that a test can make any of them fail.

Knows nothing of tensors. The order in which these are called is in `store.py`; the contract of each is here: when it
returns, what it wrote is on the disk itself, not in a cache.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from holdfast.checkpoints.digest import Digest, Readable
from holdfast.checkpoints.direct_file import BUFFER_BYTES, open_direct

HIDDEN_PREFIX = ".holdfast-"  # of everything that is unfinished, given up, or a lock
_PIECE_BYTES = 1 << 20  # stays in a core's cache while it is hashed twice and copied


@dataclass(frozen=True)
class Written:
    """What was written: size in bytes, the digest of all of it, and that of each chunk."""

    num_bytes: int
    digest: str
    chunk_digests: list[str]


WriteFile = Callable[[Iterable[Readable]], Written]


def write_durably(path: Path, chunks: Iterable[Readable]) -> Written:
    """Writes `chunks` to a new file and syncs it. What does not fit into one buffer goes past the page cache."""
    tally = Tally()
    pieces = tally.count(chunks)
    first = list(_up_to(pieces, BUFFER_BYTES))
    if sum(len(piece) for piece in first) < BUFFER_BYTES:
        with path.open("xb", buffering=0) as file:
            _write_all(file.fileno(), memoryview(b"".join(first)))
            sync_file(file.fileno())
    else:
        with open_direct(path) as direct:
            for piece in itertools.chain(first, pieces):
                direct.write(piece)
            direct.finish()
            sync_file(direct.descriptor)
    return tally.written()


class Tally:
    """Counts and hashes bytes as they pass, piece by piece, so that each is read from memory once."""

    def __init__(self) -> None:
        self._whole = Digest()
        self._num_bytes = 0
        self._chunk_digests: list[str] = []

    def count(self, chunks: Iterable[Readable]) -> Iterator[memoryview]:
        """Yields the chunks again, in pieces of at most a mebibyte."""
        for chunk in chunks:
            digest = Digest()
            view = memoryview(chunk).cast("B")
            for start in range(0, len(view), _PIECE_BYTES):
                piece = view[start : start + _PIECE_BYTES]
                digest.update(piece)
                self._whole.update(piece)
                self._num_bytes += len(piece)
                yield piece
            self._chunk_digests.append(digest.text())

    def written(self) -> Written:
        """Returns what has passed."""
        return Written(self._num_bytes, self._whole.text(), self._chunk_digests)


def replace_durably(path: Path, data: bytes) -> None:
    """Puts a file with these contents at `path` in one step: readers see the old file or the new one."""
    aside = path.with_name(f"{HIDDEN_PREFIX}{path.name}")  # one name: what a kill left is used again
    aside.unlink(missing_ok=True)
    try:
        write_durably(aside, [data])
        rename(aside, path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def make_parents(path: Path) -> None:
    """Makes a directory and those above it, as needed, each durably."""
    if not path.is_dir():
        make_parents(path.parent)
        path.mkdir(exist_ok=True)
        sync_directory(path.parent)


def make_directory(path: Path) -> None:
    """Makes a new directory; an error if it is there."""
    path.mkdir()


def rename(source: Path, target: Path) -> None:
    """Renames within one file system, in one step."""
    source.rename(target)


def sync_file(descriptor: int) -> None:
    """Returns when the file's bytes are on the disk."""
    os.fsync(descriptor)


def sync_directory(path: Path) -> None:
    """Returns when the directory's entries are on the disk: a rename is durable only after this."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_tree(path: Path) -> None:
    """Deletes a directory and all in it; what is already gone is no error."""
    if sys.version_info >= (3, 12):
        shutil.rmtree(path, onexc=lambda _function, _path, error: _unless_gone(error))
    else:
        shutil.rmtree(path, onerror=lambda _function, _path, info: _unless_gone(info[1]))


def _up_to(pieces: Iterator[memoryview], num_bytes: int) -> Iterator[memoryview]:
    """Yields pieces until `num_bytes` of them have come by."""
    while num_bytes > 0 and (piece := next(pieces, None)) is not None:
        num_bytes -= len(piece)
        yield piece


def _write_all(descriptor: int, view: memoryview) -> None:
    while view:
        view = view[os.write(descriptor, view) :]


def _unless_gone(error: BaseException) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
