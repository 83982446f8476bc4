"""Is every picture there, whole and readable? Asked once, before the first step: hour nine brings no surprise."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
import xxhash

from holdfast.data.decode import decode_image
from holdfast.data.files import FilePictures
from holdfast.errors import DataError


@dataclass(frozen=True)
class CheckedFile:
    """What reading one file told: size in bytes, digest of its contents, and what is wrong with it, if anything."""

    num_bytes: int
    digest: str
    problem: str | None


def check_files(pictures: FilePictures, progress: Callable[[int], None] | None = None) -> list[CheckedFile]:
    """Reads and fully decodes every picture; returns what it found, in order.

    Args:
        progress: called with the number of pictures done so far.
    """
    threads = min(os.cpu_count() or 1, 16)
    results: list[CheckedFile] = []
    with _one_thread_each(), ThreadPoolExecutor(threads) as pool:  # decoders release the interpreter lock
        for result in pool.map(lambda i: check_file(pictures.path(i)), range(len(pictures))):
            results.append(result)
            if progress is not None:
                progress(len(results))
    return results


def check_file(path: Path) -> CheckedFile:
    """Reads and decodes one file. Problems are returned, not raised."""
    try:
        data = path.read_bytes()
    except OSError as error:
        return CheckedFile(-1, "", f"{path}: cannot be read ({error.strerror or error})")
    digest = xxhash.xxh3_128_hexdigest(data)
    try:
        decode_image(data)
    except DataError as error:
        return CheckedFile(len(data), digest, f"{path}: {str(error).rstrip('.')}")
    return CheckedFile(len(data), digest, None)


class _one_thread_each:  # noqa: N801  # used as a context manager
    def __enter__(self) -> None:
        self._threads = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self._threads)
