from __future__ import annotations

import errno
import multiprocessing
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from holdfast.data.cache.segment import Segment
from holdfast.data.cache.store import PictureStore, memory_store, table_bytes


def _key(number: int) -> bytes:
    return number.to_bytes(8, "little") * 2


def _picture(number: int) -> Tensor:
    return torch.randint(0, 256, (3, 9, 7), generator=torch.Generator().manual_seed(number)).byte()


def _segment(path: Path) -> Segment:
    return Segment.create(os.open(path, os.O_RDWR | os.O_CREAT), 40, 100_000)


def _is(found: Tensor | None, number: int) -> bool:
    return found is not None and torch.equal(found, _picture(number))


def test_pictures_in_memory_are_found_again() -> None:
    """What was added is there, what was not is a miss, and nothing is said to be wrong."""
    store = memory_store(10, 100_000)
    assert store.find(_key(1)) is None and store.add(_key(1), _picture(1))
    assert _is(store.find(_key(1)), 1) and store.find(_key(2)) is None
    filling = store.filling()
    assert filling.limit == 100_000 and table_bytes(10) < filling.num_bytes < 100_000 and filling.stopped == ""


def test_memory_leaves_no_file() -> None:
    """The file has no name from the beginning, so no kill can leave it behind."""
    store = memory_store(10, 100_000)
    links = os.fstat(store._segments[0]._file).st_nlink
    assert links == 0


def test_memory_is_bounded() -> None:
    """At its limit it takes no more, says why, and keeps what it has."""
    store = memory_store(1000, table_bytes(1000) + 1000)
    assert [store.add(_key(n), _picture(n)) for n in range(6)] == [True] * 5 + [False]
    assert store.filling().stopped == "its room is used up" and _is(store.find(_key(4)), 4)
    assert store.filling().num_bytes <= store.filling().limit


def _add(store: PictureStore, number: int) -> None:
    store.add(_key(number), _picture(number))
    os._exit(0 if _is(store.find(_key(0)), 0) else 1)


def test_what_one_process_adds_the_others_find() -> None:
    """A forked process finds what was there before it, and this one what it added."""
    store = memory_store(10, 100_000)
    store.add(_key(0), _picture(0))
    process = multiprocessing.get_context("fork").Process(target=_add, args=(store, 5))
    process.start()
    process.join(60)
    assert process.exitcode == 0 and _is(store.find(_key(5)), 5)


def test_all_segments_are_looked_in_and_one_grows(tmp_path: Path) -> None:
    """New pictures go to the growing one alone."""
    old, new = _segment(tmp_path / "old"), _segment(tmp_path / "new")
    old.add(_key(1), _picture(1))
    store = PictureStore([old, new], new)
    assert store.add(_key(2), _picture(2))
    assert _is(store.find(_key(1)), 1) and _is(store.find(_key(2)), 2)
    assert new.has(_key(2)) and not old.has(_key(2))


def test_damage_in_a_segment_that_does_not_grow_is_put_right_there(tmp_path: Path) -> None:
    """The picture is not stored a second time."""
    old, new = _segment(tmp_path / "old"), _segment(tmp_path / "new")
    old.add(_key(1), _picture(1))
    data = bytearray((tmp_path / "old").read_bytes())
    data[-1] ^= 1
    (tmp_path / "old").write_bytes(data)
    store = PictureStore([old, new], new)
    assert store.find(_key(1)) is None and store.add(_key(1), _picture(1))
    assert _is(store.find(_key(1)), 1) and not new.has(_key(1))


def test_a_store_that_does_not_grow_says_why(tmp_path: Path) -> None:
    """Adding says no, finding goes on."""
    old = _segment(tmp_path / "old")
    old.add(_key(1), _picture(1))
    store = PictureStore([old], why_not="the folder is full")
    assert not store.add(_key(2), _picture(2)) and _is(store.find(_key(1)), 1)
    assert store.filling().stopped == "the folder is full" and store.filling().limit == 0


def test_a_failing_disk_is_said_in_the_systems_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is what the system calls the error."""
    segment = _segment(tmp_path / "x")
    store = PictureStore([segment], segment)
    write = os.pwrite

    def fail(descriptor: int, data: bytes, offset: int) -> int:
        if offset < 4096:
            return write(descriptor, data, offset)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("holdfast.data.cache.segment.os.pwrite", fail)
    assert not store.add(_key(1), _picture(1))
    assert store.filling().stopped == os.strerror(errno.EIO)


def test_a_store_that_is_let_go_holds_its_files_no_longer() -> None:
    """Descriptors that say `in use` are closed with it."""
    reading, writing = os.pipe()
    store = PictureStore([], held=[writing])
    del store
    assert os.read(reading, 1) == b""
    os.close(reading)
