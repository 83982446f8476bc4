"""What pictures hold, as far as a division needs it: a digest of each, and on request what it looks like."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import xxhash

from holdfast.data.check import CheckedFile
from holdfast.data.decoding.decode import decode_image
from holdfast.data.division.duplicates import near_duplicates
from holdfast.data.division.likeness import MIN_SIDE, Likeness, likeness_of
from holdfast.data.files import FilePictures
from holdfast.data.sample import Indices, Pictures
from holdfast.errors import DataError, first_of
from holdfast.words import count


def read_contents(
    pictures: Pictures, *, near: bool = False, progress: Callable[[int], None] | None = None
) -> tuple[list[CheckedFile], list[Indices]]:
    """Reads every picture once; returns size and digest of each, in order, and the groups of near duplicates.

    Args:
        near: whether to decode the pictures too and to find those that look the same; otherwise there are no groups.
        progress: called with the number of pictures done so far.

    Raises:
        DataError: files are gone, empty, or (with `near`) no pictures. All of them at once.
    """
    results: list[tuple[CheckedFile, Likeness | None]] = []
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:  # reading, hashing and decoding release the lock
        for result in pool.map(lambda index: _read(pictures, index, near), range(len(pictures))):
            results.append(result)
            if progress is not None:
                progress(len(results))
    checked = [found for found, _ in results]
    if problems := [found.problem for found in checked if found.problem]:
        raise DataError(
            f"{len(problems):,} of {count(len(checked), 'picture')} cannot be read:\n{first_of(problems)}\n"
            "Mend or remove them."
        )
    seen = [(index, likeness) for index, (_, likeness) in enumerate(results) if likeness is not None]
    if not seen:
        return checked, []
    places = np.array([index for index, _ in seen], dtype=np.int64)
    groups = near_duplicates(
        np.array([likeness.bits for _, likeness in seen], dtype=np.uint64),
        np.stack([likeness.thumbnail for _, likeness in seen]),
    )
    return checked, [places[group] for group in groups]


def _read(pictures: Pictures, index: int, near: bool) -> tuple[CheckedFile, Likeness | None]:
    if not isinstance(pictures, FilePictures):
        pixels = pictures.read(index).contiguous().numpy()
        return CheckedFile(-1, xxhash.xxh3_128_hexdigest(pixels.data), None), None
    path = pictures.path(index)
    try:
        data = path.read_bytes()
    except OSError as error:
        return CheckedFile(-1, "", f"{path}: cannot be read ({error.strerror or error})"), None
    digest = xxhash.xxh3_128_hexdigest(data)
    if not data:
        return CheckedFile(0, digest, f"{path}: the file is empty"), None
    likeness = None
    if near:
        try:
            decoded = decode_image(data).numpy()
        except DataError as error:
            return CheckedFile(len(data), digest, f"{path}: {str(error).rstrip('.')}"), None
        likeness = likeness_of(decoded) if min(decoded.shape[1:]) >= MIN_SIDE else None
    return CheckedFile(len(data), digest, None), likeness
