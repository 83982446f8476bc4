from __future__ import annotations

import errno
import fcntl
import itertools
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from holdfast.checkpoints import CheckpointStore, Last, direct_file, files
from holdfast.checkpoints.direct_file import DirectFile, open_direct

PIECE = 8192
DIRECT = getattr(os, "O_DIRECT", 0)


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct_file, "BUFFER_BYTES", PIECE)
    monkeypatch.setattr(direct_file, "NUM_BUFFERS", 3)


def _bytes(count: int) -> bytes:
    return bytes(number * 31 % 251 for number in range(count))


def _write(path: Path, *pieces: bytes) -> None:
    with open_direct(path) as file:
        for piece in pieces:
            file.write(memoryview(piece))
        file.finish()


@pytest.mark.parametrize(
    "count",
    [0, 1, 511, 512, 4095, 4096, 4097, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 3 * PIECE - 1, 9 * PIECE + 4097],
)
def test_the_file_is_what_was_written_and_not_a_byte_more(tmp_path: Path, count: int) -> None:
    """Whole buffers, part of one, whole blocks and part of one: the padding of the last block is cut off."""
    _write(tmp_path / "a", _bytes(count))
    assert (tmp_path / "a").read_bytes() == _bytes(count)


def test_pieces_of_any_size_follow_one_another(tmp_path: Path) -> None:
    """How the bytes were handed over does not show."""
    data = _bytes(5 * PIECE + 77)
    cuts = [0, 0, 1, 8, 4000, 4096, PIECE + 5, PIECE + 5, 3 * PIECE, len(data)]
    _write(tmp_path / "a", *(data[start:stop] for start, stop in itertools.pairwise(cuts)))
    assert (tmp_path / "a").read_bytes() == data


def test_what_was_handed_over_may_change_afterwards(tmp_path: Path) -> None:
    """The bytes are copied before `write` returns."""
    data = bytearray(_bytes(3 * PIECE))
    with open_direct(tmp_path / "a") as file:
        file.write(memoryview(data))
        data[:] = bytes(len(data))
        file.finish()
    assert (tmp_path / "a").read_bytes() == _bytes(3 * PIECE)


def test_a_file_that_exists_is_not_written_over(tmp_path: Path) -> None:
    """An existing file is an error, and stays as it was."""
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        DirectFile(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.skipif(not DIRECT, reason="this system has no direct writes")
@pytest.mark.parametrize("refusing", ["open", "write"])
def test_where_direct_writes_are_refused_the_file_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusing: str
) -> None:
    """Some file systems refuse direct writes when the file is opened (having made it), some at the first write."""
    real_open, real_write = os.open, os.write
    direct_writes: list[int] = []

    def open_(path: Path, flags: int, mode: int = 0o777) -> int:
        descriptor = real_open(path, flags & ~DIRECT, mode)
        if refusing == "open" and flags & DIRECT:
            os.close(descriptor)
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if flags & DIRECT:
            fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | DIRECT)
        return descriptor

    def write(descriptor: int, data: Any) -> int:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & DIRECT:
            direct_writes.append(descriptor)
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real_write(descriptor, data)

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(os, "write", write)
    _write(tmp_path / "a", _bytes(3 * PIECE + 5))
    assert (tmp_path / "a").read_bytes() == _bytes(3 * PIECE + 5)
    assert len(direct_writes) == (refusing == "write")


def test_a_short_write_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that takes a thousand bytes a call, which is no whole block, gets all of them in the end."""
    real = os.write
    monkeypatch.setattr(
        os, "write", lambda descriptor, data: real(descriptor, data[: 1000 if len(data) % 512 else 512])
    )
    _write(tmp_path / "a", _bytes(2 * PIECE + 77))
    assert (tmp_path / "a").read_bytes() == _bytes(2 * PIECE + 77)


def _refuse(error: int) -> Callable[..., Any]:
    def refuse(*_arguments: object) -> None:
        raise OSError(error, os.strerror(error))

    return refuse


@pytest.mark.parametrize("number", [1, 2, 3, 5, 6])
def test_a_write_that_fails_shows_before_the_file_counts_as_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Whichever of the writes fails, the first, one in the middle or the last, `finish` does not return."""
    real, calls = os.write, []

    def write(descriptor: int, data: Any) -> int:
        calls.append(len(data))
        return _refuse(errno.ENOSPC)() if len(calls) == number else real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OSError, match="No space left"):
        _write(tmp_path / "a", _bytes(5 * PIECE + 1))
    monkeypatch.undo()
    assert len(calls) == number  # and nothing was written behind the hole


def test_cutting_off_the_padding_may_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is too long is no file that was written."""
    monkeypatch.setattr(os, "ftruncate", _refuse(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        _write(tmp_path / "a", _bytes(PIECE + 1))
    _write(tmp_path / "b", _bytes(PIECE))  # nothing to cut off
    assert (tmp_path / "b").read_bytes() == _bytes(PIECE)


def test_an_error_of_the_file_system_is_no_reason_to_open_it_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a refusal of direct writes is; a full disk is told at once."""
    calls: list[int] = []
    monkeypatch.setattr(os, "open", lambda *_arguments: (calls.append(1), _refuse(errno.ENOSPC)())[1])
    with pytest.raises(OSError, match="No space left"):
        DirectFile(tmp_path / "a")
    assert calls == [1]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc to count descriptors")
@pytest.mark.parametrize("fails", [False, True])
def test_descriptor_and_thread_are_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    """Whatever became of the file, nothing of it stays open."""
    before, threads = len(list(Path("/proc/self/fd").iterdir())), set(threading.enumerate())
    ours: list[threading.Thread] = []
    real = direct_file._write_all

    def write_all(descriptor: int, view: memoryview) -> None:
        ours.append(threading.current_thread())
        real(descriptor, view)

    monkeypatch.setattr(direct_file, "_write_all", write_all)
    if fails:
        monkeypatch.setattr(os, "write", _refuse(errno.EIO))
        with pytest.raises(OSError, match="Input/output error"):
            _write(tmp_path / "a", _bytes(3 * PIECE))
    else:
        _write(tmp_path / "a", _bytes(3 * PIECE))
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    ours[0].join(60)
    assert ours[0] not in threads and not ours[0].is_alive()


def test_buffers_are_filled_while_the_disk_takes_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two more buffers' worth are accepted while the first is still being written, and not a third."""
    real, go_on, begun = os.write, threading.Event(), threading.Event()

    def write(descriptor: int, data: Any) -> int:
        begun.set()
        assert go_on.wait(60)
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    accepted: list[int] = []

    def fill(file: DirectFile) -> None:
        for start in range(0, 4 * PIECE, PIECE // 2):
            file.write(memoryview(_bytes(4 * PIECE))[start : start + PIECE // 2])
            accepted.append(start)

    with open_direct(tmp_path / "a") as file:
        filling = threading.Thread(target=fill, args=(file,))
        filling.start()
        assert begun.wait(60)
        filling.join(0.1)
        assert accepted == [half * PIECE // 2 for half in range(5)]  # the sixth half fills the third buffer, and waits
        go_on.set()
        filling.join(60)
        file.finish()
    assert (tmp_path / "a").read_bytes() == _bytes(4 * PIECE)


# --- several files at the same time ---------------------------------------------------------------------------------


def test_buffers_are_used_again_and_never_by_two_files_at_once(tmp_path: Path) -> None:
    """A second file that is open meanwhile gets memory of its own; what is given back serves the next one."""
    direct_file._spare.clear()
    data, other = _bytes(2 * PIECE + 5), bytes(reversed(_bytes(2 * PIECE + 5)))
    with open_direct(tmp_path / "a") as first:
        memory = first._buffers
        first.write(memoryview(data[: PIECE + 9]))
        with open_direct(tmp_path / "b") as second:
            assert not {id(buffer) for buffer in second._buffers} & {id(buffer) for buffer in memory}
            second.write(memoryview(other[: PIECE + 9]))
            first.write(memoryview(data[PIECE + 9 :]))
            second.write(memoryview(other[PIECE + 9 :]))
            first.finish()
            second.finish()
    assert ((tmp_path / "a").read_bytes(), (tmp_path / "b").read_bytes()) == (data, other)
    assert len(direct_file._spare) == 1
    with open_direct(tmp_path / "c") as third:
        assert third._buffers is memory  # the one that was given back last
        assert len(direct_file._spare) == 0


def test_buffers_of_another_size_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file's buffers have the size that it counts with."""
    _write(tmp_path / "a", _bytes(PIECE))
    monkeypatch.setattr(direct_file, "BUFFER_BYTES", 2 * PIECE)
    _write(tmp_path / "b", _bytes(5 * PIECE))
    assert (tmp_path / "b").read_bytes() == _bytes(5 * PIECE)


def test_two_stores_that_save_large_files_at_the_same_time_write_right_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each passes its bytes through buffers of its own: both are in the midst of a file when the other writes."""
    monkeypatch.setattr(files, "BUFFER_BYTES", PIECE)  # what is larger goes the direct way
    stores = [CheckpointStore(tmp_path / name, Last(None)) for name in ("a", "b")]
    states = [{"model": {"w": torch.full((100_000 + 7 * i,), float(i + 1)), "n": torch.arange(999)}} for i in (0, 1)]
    meet = threading.Barrier(2)
    real = direct_file.DirectFile.finish

    def finish(file: DirectFile) -> None:
        meet.wait(60)  # neither is done before the other has filled its last buffer
        real(file)

    monkeypatch.setattr(direct_file.DirectFile, "finish", finish)
    for step in (1, 2, 3):
        for store, state in zip(stores, states, strict=True):
            state["model"]["w"].add_(10)
            store.save(step, state)
    for number, store in enumerate(stores):
        store.close()
        assert store.steps() == [1, 2, 3]
        for step in (1, 2, 3):
            checkpoint = store.open(step)
            checkpoint.verify()
            expected = torch.full((100_000 + 7 * number,), float(number + 1 + 10 * step))
            assert torch.equal(checkpoint.tensors("model")["w"], expected), (number, step)
