"""The cache on disk: a folder of segments that all runs of a user share, bounded in size.

A segment that a living process uses is never deleted; of the others the longest unused goes first. All of this is
decided under one lock of the folder, so that two runs that begin at once do not take each other's room.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import xxhash

from holdfast.data.cache.segment import Segment
from holdfast.data.cache.store import PictureStore, table_bytes

_SUFFIX, _IN_USE_SUFFIX = ".pictures", ".in-use"
_SAMPLE = 512  # keys by which a segment is known to be of any use


@dataclass(frozen=True)
class SegmentFile:
    """A file of the folder.

    Attributes:
        path: where it is.
        num_pictures: pictures in it; 0 for what cannot be read.
        num_bytes: bytes it takes on the disk.
        reserved: bytes it may still grow to, while somebody uses it; else `num_bytes`.
        last_used: Unix time, seconds.
        in_use: whether a living process has it open.
    """

    path: Path
    num_pictures: int
    num_bytes: int
    reserved: int
    last_used: float
    in_use: bool


def default_cache_folder() -> Path:
    """Returns `pictures` in $HOLDFAST_CACHE, or in `holdfast` in $XDG_CACHE_HOME or ~/.cache."""
    if named := os.environ.get("HOLDFAST_CACHE"):
        return Path(named).expanduser() / "pictures"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "holdfast" / "pictures"


def disk_store(folder: Path, keys: Iterable[bytes], bytes_a_picture: float, max_bytes: int | None) -> PictureStore:
    """Opens what the folder has of `keys`, and makes room for the rest.

    Args:
        folder: made if it is not there; one that cannot be written to is still read from.
        keys: of the pictures that will be asked for.
        bytes_a_picture: what one is expected to take.
        max_bytes: what the whole folder may take; None for a quarter of the free disk besides what it takes now.

    Raises:
        OSError: there is no such folder, and it cannot be made.
    """
    wanted = list(dict.fromkeys(keys))
    folder.mkdir(parents=True, exist_ok=True)
    with _folder_lock(folder) as writable:
        purpose = purpose_of(wanted)
        segments, paths, held = _open_those_with(folder, wanted, purpose)
        missing = len(wanted) - sum(any(segment.has(key) for segment in segments) for key in wanted)
        if not missing:
            return PictureStore(segments, held=held)
        if not writable:
            return PictureStore(segments, held=held, why_not=f"{folder} cannot be written to")
        for segment in segments:
            if segment.has_room(missing, bytes_a_picture) and _may_grow_again(segment):
                return PictureStore(segments, segment, held)
        need = table_bytes(missing) + int(missing * bytes_a_picture * 1.25)
        room = make_room(folder, need, max_bytes, keep=set(paths))
        if room < table_bytes(missing) + bytes_a_picture:
            return PictureStore(segments, held=held, why_not=f"{folder} has no room left for it")
        try:
            path, segment = _new_segment(folder, missing, min(need, room), purpose)
        except OSError as error:
            return PictureStore(segments, held=held, why_not=f"{folder}: {error.strerror}")
        return PictureStore([*segments, segment], segment, [*held, _hold(path)])


def list_cache(folder: Path) -> list[SegmentFile]:
    """Returns the segments of the folder, the longest unused first; nothing when there is no folder."""
    files = []
    for path in folder.glob(f"*{_SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):
            files.append(_look_at(path))
    return sorted(files, key=lambda file: (file.last_used, file.path))


def clear_cache(folder: Path) -> tuple[list[SegmentFile], list[SegmentFile]]:
    """Deletes the segments that nobody uses; returns those deleted, and those left. Raises OSError."""
    if not folder.is_dir():
        return [], []
    with _folder_lock(folder):
        files = list_cache(folder)
        deleted = [file for file in files if not file.in_use]
        for file in deleted:
            _delete(file.path)
        return deleted, [file for file in files if file.in_use]


def make_room(folder: Path, need: int, max_bytes: int | None, keep: set[Path]) -> int:
    """Deletes the longest unused segments until `need` bytes fit; returns how many do. The folder's lock is held.

    Args:
        keep: segments that stay, used or not.
    """
    files = list_cache(folder)
    taken = sum(max(file.reserved, file.num_bytes) for file in files)
    free = shutil.disk_usage(folder).free
    allowed = max_bytes if max_bytes is not None else taken + free // 4
    for file in files:
        if taken + need <= allowed and need <= free:
            break
        if not file.in_use and file.path not in keep:
            _delete(file.path)
            taken, free = taken - file.num_bytes, free + file.num_bytes
    return max(min(allowed - taken, free), 0)


def purpose_of(keys: list[bytes]) -> int:
    """Returns a digest of the set of keys, uint64, whatever their order."""
    return xxhash.xxh3_64_intdigest(b"".join(sorted(keys)))


def _may_grow_again(segment: Segment) -> bool:
    try:
        segment.may_grow_again()
    except OSError:
        return False
    return not segment.progress().stopped


def _open_those_with(folder: Path, keys: list[bytes], purpose: int) -> tuple[list[Segment], list[Path], list[int]]:
    segments, paths, held = [], [], []
    sample = keys[:: max(len(keys) // _SAMPLE, 1)]
    for file in list_cache(folder):
        with contextlib.suppress(OSError, ValueError):  # gone meanwhile, or not ours: the pictures are decoded anew
            segment = Segment(_open(file.path))
            if segment.purpose == purpose or any(segment.has(key) for key in sample):
                segments.append(segment)
                paths.append(file.path)
                held.append(_hold(file.path))
                os.utime(file.path)
    return segments, paths, held


def _new_segment(folder: Path, num_pictures: int, limit: int, purpose: int) -> tuple[Path, Segment]:
    path = folder / f"{secrets.token_hex(8)}{_SUFFIX}"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        return path, Segment.create(descriptor, num_pictures, limit, purpose)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _look_at(path: Path) -> SegmentFile:
    status = path.stat()
    num_bytes, in_use = status.st_blocks * 512, _is_in_use(path)
    try:
        segment = Segment(_open(path))
    except (OSError, ValueError):
        return SegmentFile(path, 0, num_bytes, num_bytes, status.st_mtime, in_use)
    reserved = segment.limit if in_use else num_bytes
    return SegmentFile(path, segment.progress().num_claimed, num_bytes, reserved, status.st_mtime, in_use)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR)
    except OSError:
        return os.open(path, os.O_RDONLY)


# In use is said by a lock on a file beside: on NFS a lock on the segment itself would stop its writers.
def _hold(path: Path) -> int:
    """Says that the segment is in use, for as long as the descriptor returned is open here or in a forked process."""
    try:
        descriptor = os.open(path.with_suffix(_IN_USE_SUFFIX), os.O_RDONLY | os.O_CREAT, 0o600)
    except OSError:
        return os.open(path, os.O_RDONLY)  # a folder that cannot be written to: nobody deletes from it either
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def _is_in_use(path: Path) -> bool:
    try:
        descriptor = os.open(path.with_suffix(_IN_USE_SUFFIX), os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def _delete(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.with_suffix(_IN_USE_SUFFIX).unlink(missing_ok=True)


@contextlib.contextmanager
def _folder_lock(folder: Path) -> Iterator[bool]:
    """Holds the folder's lock; gives whether the folder can be written to at all."""
    try:
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        yield False
        return
    try:
        with contextlib.suppress(OSError):  # a file system without locks: two runs may then both take the same room
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield True
    finally:
        os.close(descriptor)


def age(file: SegmentFile) -> float:
    """Returns seconds since the segment was last used."""
    return max(time.time() - file.last_used, 0.0)
