"""The file-system calls of a save, each in one small function, so that a test can make any of them fail.

Knows nothing of tensors. The order in which these are called is in `store.py`; the contract of each is here: when it
returns, what it wrote is on the disk itself, not in a cache.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from holdfast.checkpoints.digest import Digest, Readable

HIDDEN_PREFIX = ".holdfast-"  # of everything that is unfinished, given up, or a lock


def write_durably(path: Path, chunks: Iterable[Readable]) -> tuple[int, str]:
    """Writes `chunks` to a new file and syncs it. Returns its size in bytes and the digest of its contents."""
    digest = Digest()
    num_bytes = 0
    with path.open("xb", buffering=0) as file:
        for chunk in chunks:
            digest.update(chunk)
            num_bytes += _write_all(file.fileno(), memoryview(chunk).cast("B"))
        sync_file(file.fileno())
    return num_bytes, digest.text()


def replace_durably(path: Path, data: bytes) -> None:
    """Puts a file with these contents at `path` in one step: readers see the old file or the new one."""
    aside = path.with_name(f"{HIDDEN_PREFIX}{path.name}.{os.getpid()}")
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


def _write_all(descriptor: int, view: memoryview) -> int:
    num_bytes = len(view)
    while view:
        # One write call moves 2 GiB at most; 64 MiB pieces let a full disk show early.
        view = view[os.write(descriptor, view[: 64 << 20]) :]
    return num_bytes


def _unless_gone(error: BaseException) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
