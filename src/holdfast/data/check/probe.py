"""One file, read once and decoded once: everything the check wants to know of it.

Problems are returned, not raised, so that all files are told of at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

import xxhash

from holdfast.data.check.header import Header, read_header
from holdfast.data.decoding.decode import decode_image
from holdfast.data.decoding.image_file import read_image_file
from holdfast.data.decoding.image_kinds import FORMATS, kind_of
from holdfast.data.decoding.jpeg_marks import read_marks
from holdfast.data.division.likeness import MIN_SIDE, Bytes, Likeness, likenesses_of, sampled
from holdfast.data.loading.workers import one_thread
from holdfast.errors import DataError

_BUNDLE = 32

Fault = Literal["", "unreadable", "empty", "not-a-picture", "bomb", "damaged"]


class Facts(NamedTuple):
    """What one picture told.

    Attributes:
        num_bytes: of the file; -1 when it could not be read.
        digest: xxh3-128 of its contents, in hex; "" when it could not be read.
        fault: why it cannot be used, in a word; "" for a good picture.
        problem: the same in a sentence that names the file; None for a good picture.
        kind: what its first bytes say: "JPEG", "PNG" …; "" for no picture.
        header: what its header says.
        likeness: what it looks like; None when it was not asked for, or the picture is too small.
    """

    num_bytes: int
    digest: str
    fault: Fault
    problem: str | None
    kind: str = ""
    header: Header = Header()
    likeness: Likeness | None = None


def probe(path: Path, shown: str | None = None, *, likeness: bool = True) -> Facts:
    """Reads and decodes one file.

    Args:
        path: the file; a pipe or a device is told of, not read.
        shown: what to call it; by default its path.
        likeness: whether to say what it looks like.
    """
    return with_likenesses([probe_without_likeness(path, shown, keep=likeness)])[0]


def probe_without_likeness(path: Path, shown: str | None = None, *, keep: bool = True) -> tuple[Facts, Bytes | None]:
    """Returns a file's facts and, for `with_likenesses`, a sample of its pixels. Args: `keep`, False for no sample."""
    shown = str(path) if shown is None else shown
    try:
        data = read_image_file(path)
    except DataError as error:
        reason = f"a link to {path.readlink()}, which is not there" if _is_dead_link(path) else _reason(error, path)
        return Facts(-1, "", "unreadable", f"{shown}: {reason}"), None
    digest = xxhash.xxh3_128_hexdigest(data)
    if not data:
        return Facts(0, digest, "empty", f"{shown}: the file is empty (0 bytes)"), None
    kind = kind_of(data) or ""
    marks = read_marks(data) if kind == "JPEG" else None
    try:
        pixels = decode_image(data, marks=marks)
    except DataError as error:
        text = _reason(error, path)
        fault = _fault(text, kind)
        header = read_header(data, kind, marks) if kind else Header()
        return Facts(len(data), digest, fault, f"{shown}: {text}", kind, header), None
    values = pixels.numpy() if keep else None
    sample = sampled(values) if values is not None and min(values.shape[1:]) >= MIN_SIDE else None
    return Facts(len(data), digest, "", None, kind, read_header(data, kind, marks)), sample


def with_likenesses(probed: Sequence[tuple[Facts, Bytes | None]]) -> list[Facts]:
    """Returns the facts, with a likeness where there is a sample."""
    found = iter(likenesses_of([sample for _, sample in probed if sample is not None]))
    return [facts if sample is None else Facts(*facts[:-1], next(found)) for facts, sample in probed]


def in_threads(
    work: Callable[[int], tuple[Facts, Bytes | None]],
    num: int,
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Facts]:
    """Returns the facts of 0 … num - 1 with their likenesses, worked on side by side.

    Args:
        work: returns what `probe_without_likeness` does.
        threads: by default one a core, 16 at most; decoders release the interpreter's lock.
        progress: called with the number done so far.
    """
    threads = threads or min(num_cores(), 16)
    # Handing a small picture to a thread, and each step of looking at it, takes as long as decoding it: bundles share
    # what they can. A bundle holds samples, never whole pictures.
    size = max(1, min(_BUNDLE, num // (threads * 4)))
    bundles = [range(start, min(start + size, num)) for start in range(0, num, size)]
    with one_thread(), ThreadPoolExecutor(threads) as pool:
        done = pool.map(lambda bundle: with_likenesses([work(index) for index in bundle]), bundles)
        return list(_counted((facts for bundle in done for facts in bundle), progress))


def num_cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _counted(facts: Iterable[Facts], progress: Callable[[int], None] | None) -> Iterator[Facts]:
    for number, one in enumerate(facts, 1):
        if progress is not None:
            progress(number)
        yield one


def _fault(text: str, kind: str) -> Fault:
    if "decompression bomb" in text:
        return "bomb"
    sound = text.startswith(("cannot be decoded", "not an image"))  # of a kind that nothing here reads
    return "damaged" if kind in FORMATS and not sound else "not-a-picture"


def _is_dead_link(path: Path) -> bool:
    try:
        return path.is_symlink() and not os.path.lexists(path.parent / path.readlink())  # not one to itself
    except OSError:  # in a folder that may be listed and not entered
        return False


def _reason(error: DataError, path: Path) -> str:
    """Returns the message without the path it begins with and the stop at its end."""
    return str(error).removeprefix(f"{path!r}: ").removeprefix(f"{path}: ").rstrip(".")
