"""The bytes of an image file, read so that nothing can hold us up: no pipe, no device, no terabyte of zeros."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from holdfast.data.decoding.image_kinds import HEAD_BYTES, describe, kind_of
from holdfast.errors import DataError

MAX_FILE_BYTES = 2 << 30  # a picture of the most pixels that we open, at 16 bytes a pixel, is smaller
_LOOK_FIRST = 16 << 20  # larger files are read only if they begin like a picture

_SPECIAL = (
    (stat.S_ISDIR, "Is a directory"),
    (stat.S_ISFIFO, "it is a pipe, not a file"),
    (stat.S_ISSOCK, "it is a socket, not a file"),
    (stat.S_ISCHR, "it is a device, not a file"),
    (stat.S_ISBLK, "it is a device, not a file"),
)


def read_image_file(path: Path | str) -> bytes:
    """Returns the file's bytes.

    Raises:
        DataError: it is not there, may not be read, is no regular file, or is large and no picture. Its message names
            the path.
    """
    try:
        _refuse_special(path, os.stat(path).st_mode)  # noqa: PTH116  # one call for every picture of an epoch
        # Should a pipe have taken its place meanwhile, opening it must not wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            status = os.fstat(descriptor)
            _refuse_special(path, status.st_mode)
            if status.st_size > _LOOK_FIRST:
                _refuse_large(path, descriptor, status.st_size)
            return _read(descriptor, status.st_size)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except ValueError as error:  # a name with a zero byte
        raise DataError(f"{path!r}: cannot be read ({error}).") from error


def _read(descriptor: int, size: int) -> bytes:
    first = os.read(descriptor, size + 1)  # one more: it may have grown
    parts = [first]
    while parts[-1] and sum(map(len, parts)) < size:
        parts.append(os.read(descriptor, size))
    return first if len(parts) == 1 else b"".join(parts)


def _refuse_special(path: Path | str, mode: int) -> None:
    if not stat.S_ISREG(mode):
        what = next((name for is_it, name in _SPECIAL if is_it(mode)), "it is not a regular file")
        raise DataError(f"{path}: cannot be read ({what}).")


def _refuse_large(path: Path | str, descriptor: int, size: int) -> None:
    """Looks at both ends of a large file before reading what lies between."""
    head = os.read(descriptor, HEAD_BYTES)
    os.lseek(descriptor, max(0, size - 26), os.SEEK_SET)
    kind = kind_of(head, os.read(descriptor, 26), size)
    os.lseek(descriptor, 0, os.SEEK_SET)
    if kind is None:
        raise DataError(f"{path}: not an image ({describe(head, size)}).")
    if size > MAX_FILE_BYTES:
        raise DataError(f"{path}: refused: {size:,} bytes, and a picture of at most {MAX_FILE_BYTES:,} is opened.")
