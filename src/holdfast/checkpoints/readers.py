"""Files read on all cores: to be hashed, or into the memory where their bytes belong.

They are read and not mapped: of a bad sector a read tells, where a map ends the process (SIGBUS), and a read into
memory that is in use already costs no page faults. This file knows no tensors.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from io import FileIO
from pathlib import Path
from typing import TypeVar

from holdfast.checkpoints.digest import Digest, digest_of
from holdfast.errors import CheckpointCorrupt

_READERS = min(4, os.cpu_count() or 1)  # more would wait for the memory
_WORTH_A_THREAD = 1 << 20  # bytes; fewer are read sooner than a thread begins
_SCRATCH_BYTES = 512 << 10  # stays in a core's cache between the read and the hash; enough to let others run meanwhile
_TURN_BYTES = 4 << 20  # of a turn of copying: short enough that all readers end together

_Turn = TypeVar("_Turn")


def digests_of(path: Path, spans: Sequence[tuple[int, int]]) -> list[str]:
    """Returns the digest of each span; bytes beyond the file's end are as if there were none.

    Args:
        spans: first byte and the byte after the last one, in the order in which they are best read.

    Raises:
        OSError: the file cannot be opened or read.
    """
    found: list[str] = [""] * len(spans)

    def hash_turn(file: FileIO, scratch: memoryview, turn: range) -> None:
        start, stop = spans[turn[0]][0], spans[turn[-1]][1]
        file.seek(start)
        if stop - start > len(scratch):
            found[turn[0]] = _digest_of_the_next(file, scratch, stop - start)
            return
        data = scratch[: _fill(file, scratch[: stop - start])]
        for index in turn:
            found[index] = digest_of(data[spans[index][0] - start : spans[index][1] - start])

    num_bytes = sum(stop - start for start, stop in spans)
    _take_turns(path, _runs(spans), hash_turn, num_bytes, min(_SCRATCH_BYTES, num_bytes))
    return found


def read_into(path: Path, reads: Sequence[tuple[int, memoryview]]) -> None:
    """Reads parts of a file into memory.

    Args:
        reads: where in the file to begin, and the memory to fill, bytes; no two of them may share any.

    Raises:
        CheckpointCorrupt: the file cannot be read, or ends before the memory is full.
    """

    def read_turn(file: FileIO, _: memoryview, turn: list[tuple[int, memoryview]]) -> None:
        for start, target in turn:
            file.seek(start)
            if _fill(file, target) < len(target):
                raise _lost(path, "it was cut")

    turns: list[list[tuple[int, memoryview]]] = []
    room = 0
    for start, target in reads:
        for offset in range(0, len(target), _TURN_BYTES):
            piece = target[offset : offset + _TURN_BYTES]
            if len(piece) > room:
                turns.append([])
                room = _TURN_BYTES
            turns[-1].append((start + offset, piece))
            room -= len(piece)
    try:
        _take_turns(path, turns, read_turn, sum(len(target) for _, target in reads), scratch_bytes=0)
    except OSError as error:
        raise _lost(path, error.strerror or str(error)) from error


def _lost(path: Path, what: str) -> CheckpointCorrupt:
    return CheckpointCorrupt(
        f"Reading {path}: every byte of it was proven, and then it could not be read again ({what}). What was to be "
        "restored from it may have changed in part: restore all of it again, from this checkpoint or another, before "
        "you go on."
    )


def _runs(spans: Sequence[tuple[int, int]]) -> list[range]:
    """Divides spans into runs that one read into the scratch memory covers; a larger span is one by itself."""
    runs: list[range] = []
    begun = 0
    for index, (_, stop) in enumerate(spans):
        follows = index > begun and spans[index - 1][1] == spans[index][0]
        if runs and follows and stop - spans[begun][0] <= _SCRATCH_BYTES:
            runs[-1] = range(begun, index + 1)
        else:
            begun = index
            runs.append(range(index, index + 1))
    return runs


def _take_turns(
    path: Path, turns: list[_Turn], do: Callable[[FileIO, memoryview, _Turn], None], num_bytes: int, scratch_bytes: int
) -> None:
    """Does all turns, each on whichever thread is free, with memory of its own; the caller is one of them."""
    waiting = deque(turns)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with path.open("rb", buffering=0) as file:  # one each: the kernel reads ahead by file, and so by reader
                scratch = memoryview(bytearray(scratch_bytes))
                while not failures:
                    try:
                        turn = waiting.popleft()
                    except IndexError:
                        return
                    do(file, scratch, turn)
        except BaseException as error:  # raised again by the caller
            failures.append(error)

    others = []
    for _ in range(min(_READERS, len(turns)) - 1 if num_bytes >= _WORTH_A_THREAD else 0):
        thread = threading.Thread(target=work, name="holdfast-read", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # Python 3.12 and later start no thread once the main one has ended
            break
        others.append(thread)
    work()
    for thread in others:
        thread.join()
    if failures:
        raise failures[0]


def _digest_of_the_next(file: FileIO, scratch: memoryview, num_bytes: int) -> str:
    digest = Digest()
    while num_bytes:
        taken = _fill(file, scratch[: min(num_bytes, len(scratch))])
        if not taken:
            break
        digest.update(scratch[:taken])
        num_bytes -= taken
    return digest.text()


def _fill(file: FileIO, target: memoryview) -> int:
    """Reads until `target` is full or the file ends; returns how many bytes that were."""
    filled = 0
    while filled < len(target):
        taken = file.readinto(target[filled:])
        if not taken:
            break
        filled += taken
    return filled
