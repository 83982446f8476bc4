from __future__ import annotations

import errno
import multiprocessing
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from holdfast.data.cache import segment as cache_segment
from holdfast.data.cache.record import HEAD_BYTES, STOPPED_FULL
from holdfast.data.cache.segment import Segment


def _key(number: int) -> bytes:
    return number.to_bytes(8, "little") * 2


def _picture(number: int, height: int = 9, width: int = 7, channels: int = 3) -> Tensor:
    return torch.randint(0, 256, (channels, height, width), generator=torch.Generator().manual_seed(number)).byte()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the segment lies."""
    return tmp_path / "x.pictures"


@pytest.fixture
def segment(path: Path) -> Segment:
    """A new segment for 40 pictures in at most 100 kB."""
    return Segment.create(os.open(path, os.O_RDWR | os.O_CREAT), 40, 100_000)


def _again(path: Path) -> Segment:
    """The same file, as another process opens it."""
    return Segment(os.open(path, os.O_RDWR))


def test_what_is_added_is_read_by_everybody(segment: Segment, path: Path) -> None:
    """Pictures of any shape come back bit for bit, here and through a segment that was opened before or after."""
    before = _again(path)
    pictures = {_key(n): _picture(n, 3 + n, 11 - n, 1 if n % 2 else 3) for n in range(9)}
    assert all(segment.add(key, picture) for key, picture in pictures.items())
    for reader in (segment, before, _again(path)):
        for key, picture in pictures.items():
            found = reader.read(key)
            assert found is not None and torch.equal(found, picture) and found.dtype == torch.uint8


def test_a_picture_is_a_view_with_channels_last(segment: Segment) -> None:
    """Reading copies nothing, and a colour pixel's bytes lie side by side."""
    segment.add(_key(1), _picture(1))
    first, second = segment.read(_key(1)), segment.read(_key(1))
    assert first is not None and second is not None
    assert first.data_ptr() == second.data_ptr() and first.stride() == (1, 21, 3)


def test_a_write_into_a_picture_never_reaches_the_file(segment: Segment, path: Path) -> None:
    """The memory is mapped privately."""
    segment.add(_key(1), _picture(1))
    found = segment.read(_key(1))
    assert found is not None
    found.zero_()
    again = _again(path).read(_key(1))
    assert again is not None and torch.equal(again, _picture(1))


def test_a_key_that_was_never_added_is_a_miss(segment: Segment) -> None:
    """Also beside keys that begin their search at the same slot."""
    for n in range(3):
        segment.add(_key(n * 128), _picture(n))
    assert segment.read(_key(3 * 128)) is None and not segment.has(_key(3 * 128))
    assert segment.has(_key(2 * 128))


def test_a_key_is_stored_once(segment: Segment) -> None:
    """Adding it again takes no room."""
    segment.add(_key(1), _picture(1))
    end = segment.progress().end
    assert segment.add(_key(1), _picture(1)) and segment.progress().end == end


def test_it_stops_growing_at_its_limit(path: Path) -> None:
    """The limit holds for the whole file; what is there stays readable; the reason is known to everybody."""
    segment = Segment.create(os.open(path, os.O_RDWR | os.O_CREAT), 1000, 140_000)
    added = [segment.add(_key(n), _picture(n, 40, 40)) for n in range(10)]
    assert True in added and added[-1] is False
    assert path.stat().st_size <= 140_000
    assert _again(path).progress().stopped == STOPPED_FULL
    assert [segment.read(_key(n)) is not None for n in range(10)] == added


def test_it_stops_growing_when_its_table_is_half_full(path: Path) -> None:
    """It holds at least as many pictures as it was made for, and searches stay short."""
    segment = Segment.create(os.open(path, os.O_RDWR | os.O_CREAT), 40, 10**7)
    added = [segment.add(_key(n), _picture(n, 1, 1)) for n in range(200)]
    assert all(added[:40]) and not added[-1] and segment.progress().num_claimed == 64


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("call", range(4))
def test_a_failing_disk_ends_the_growing_and_nothing_else(
    segment: Segment, path: Path, monkeypatch: pytest.MonkeyPatch, call: int, number: int
) -> None:
    """Whichever write of an addition fails, add says no, the record is not there, and the others are."""
    segment.add(_key(1), _picture(1))
    calls = iter(range(100))
    write = os.pwrite

    def fail(descriptor: int, data: object, offset: int) -> int:
        if next(calls) >= call:
            raise OSError(number, os.strerror(number))
        return write(descriptor, data, offset)

    monkeypatch.setattr(cache_segment.os, "pwrite", fail)
    assert not segment.add(_key(2), _picture(2)) and not segment.add(_key(3), _picture(3))
    monkeypatch.undo()
    for reader in (segment, _again(path)):
        assert reader.read(_key(2)) is None and reader.read(_key(3)) is None
        found = reader.read(_key(1))
        assert found is not None and torch.equal(found, _picture(1))
    segment.may_grow_again()
    assert segment.add(_key(2), _picture(2)) and segment.progress().stopped == 0


def test_short_writes_are_finished(segment: Segment, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that takes a part of the bytes at a time is asked again."""
    write = os.pwrite
    monkeypatch.setattr(cache_segment.os, "pwrite", lambda f, data, at: write(f, memoryview(data)[:5], at))
    assert segment.add(_key(1), _picture(1))
    found = segment.read(_key(1))
    assert found is not None and torch.equal(found, _picture(1))


def test_flipped_pixels_are_a_miss_and_are_put_right_by_adding_again(segment: Segment, path: Path) -> None:
    """Damage on the disk is noticed when a process first uses the picture."""
    for n in range(3):
        segment.add(_key(n), _picture(n, 20, 20))
    data = bytearray(path.read_bytes())
    middle = data.find(_picture(1, 20, 20).permute(1, 2, 0).contiguous().numpy().tobytes())
    data[middle + 100] ^= 4
    path.write_bytes(data)
    reader = _again(path)
    assert reader.read(_key(1)) is None and reader.read(_key(0)) is not None
    assert reader.add(_key(1), _picture(1, 20, 20))
    for mended in (reader, _again(path)):
        found = mended.read(_key(1))
        assert found is not None and torch.equal(found, _picture(1, 20, 20))
    assert path.stat().st_size == len(data)


def test_damage_is_never_put_right_with_other_pixels(segment: Segment, path: Path) -> None:
    """A picture that is not the one the record tells of is not written into its place."""
    segment.add(_key(1), _picture(1))
    data = bytearray(path.read_bytes())
    data[-200:] = bytes(200)
    path.write_bytes(data)
    reader = _again(path)
    assert reader.read(_key(1)) is None
    reader.add(_key(1), _picture(2))
    assert path.read_bytes() == data


def test_a_file_cut_short_gives_what_is_left(segment: Segment, path: Path) -> None:
    """Pictures beyond the end are misses, not signals."""
    for n in range(5):
        segment.add(_key(n), _picture(n, 20, 20))
    os.truncate(path, path.stat().st_size - 1300)
    reader = _again(path)
    found = [reader.read(_key(n)) for n in range(5)]
    assert [picture is not None for picture in found] == [True, True, True, False, False]
    assert all(torch.equal(found[n], _picture(n, 20, 20)) for n in range(3))  # type: ignore[arg-type]


def test_a_read_error_is_a_miss(segment: Segment, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk's error is met where it is an error, before memory is mapped."""
    segment.add(_key(1), _picture(1))

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(cache_segment.os, "preadv", fail)
    assert segment.read(_key(1)) is None


def test_nothing_is_added_when_the_end_is_not_known(segment: Segment, path: Path) -> None:
    """A damaged count of what is filled makes the file read-only; its pictures stay."""
    segment.add(_key(1), _picture(1))
    with path.open("r+b") as file:
        file.seek(64)
        file.write(b"\xff")
    reader = _again(path)
    assert reader.progress().stopped == errno.EIO
    assert not reader.add(_key(2), _picture(2)) and reader.read(_key(1)) is not None


@pytest.mark.parametrize("content", [b"", b"short", bytes(HEAD_BYTES * 2), b"\x89PNG" * 2000])
def test_a_file_that_is_not_ours_fails(path: Path, content: bytes) -> None:
    """It is not opened, and not changed."""
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a file of decoded pictures"):
        _again(path)
    assert path.read_bytes() == content


def test_a_file_without_its_whole_table_fails(segment: Segment, path: Path) -> None:
    """A table that ends early would be a signal to whoever maps it."""
    os.truncate(path, HEAD_BYTES + 64)
    with pytest.raises(ValueError, match="not a file of decoded pictures"):
        _again(path)


def test_a_file_that_may_only_be_read_is_read(segment: Segment, path: Path) -> None:
    """Adding to it says no."""
    segment.add(_key(1), _picture(1))
    reader = Segment(os.open(path, os.O_RDONLY))
    assert reader.read(_key(1)) is not None and not reader.add(_key(2), _picture(2))


def _add_some(segment: Segment, first: int) -> None:
    for n in range(first, first + 10):
        segment.add(_key(n), _picture(n))
        segment.add(_key(100), _picture(100))


def test_several_processes_fill_it_at_once(segment: Segment) -> None:
    """It reaches forked and spawned processes, and nobody's picture is lost."""
    methods = [multiprocessing.get_context(method) for method in ("fork", "fork", "spawn")]
    processes = [
        context.Process(target=_add_some, args=(segment, 10 * number)) for number, context in enumerate(methods)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    for n in (*range(30), 100):
        found = segment.read(_key(n))
        assert found is not None and torch.equal(found, _picture(n))
    assert segment.progress().num_claimed <= 33


def test_a_segment_that_is_let_go_closes_its_file(segment: Segment) -> None:
    """Its descriptor is its own, and pictures that were read stay readable without it."""
    segment.add(_key(1), _picture(1))
    descriptor = segment._file
    found = segment.read(_key(1))
    segment.__del__()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    segment._file = -1
    assert found is not None and torch.equal(found, _picture(1))
