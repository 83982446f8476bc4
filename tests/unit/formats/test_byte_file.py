from __future__ import annotations

import gzip
import mmap
import os
import zlib
from pathlib import Path

import pytest

from holdfast.errors import CheckpointCorrupt, CheckpointError
from holdfast.formats.byte_file import ByteFile, Bytes, FileSlice, MemoryFile, inflate


@pytest.fixture(params=["file", "memory", "slice", "slice of memory"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Bytes:
    """The numbers 0 to 255, 20,000 times, on disk and in memory, alone and between other bytes."""
    data = bytes(range(256)) * 20_000
    (tmp_path / "numbers.bin").write_bytes(data)
    (tmp_path / "more.bin").write_bytes(b"before" + data + b"behind")
    made: dict[str, Bytes] = {
        "file": ByteFile(tmp_path / "numbers.bin"),
        "memory": MemoryFile("numbers.bin", data),
        "slice": FileSlice(ByteFile(tmp_path / "more.bin"), 6, len(data), " (numbers)"),
        "slice of memory": FileSlice(
            FileSlice(MemoryFile("numbers", b"xy" + data + b"z"), 1, len(data) + 2), 1, len(data)
        ),
    }
    return made[request.param]


@pytest.mark.parametrize(("start", "count"), [(0, 5_120_000), (7, 3_000_001), (5_119_999, 1), (9, 0)])
def test_memory_that_is_there_can_be_filled(source: Bytes, start: int, count: int) -> None:
    """With the bytes that lie there, each of which is looked at once; beyond the end there are none."""
    target, seen = bytearray(count), []
    source.read_into(start, memoryview(target), lambda piece: seen.append(bytes(piece)))
    assert target == source.read(start, count)
    assert b"".join(seen) == target
    with pytest.raises(CheckpointCorrupt, match=r"it ends at byte 5,120,0\d\d; expected|it ends at byte 5,120,000"):
        source.read_into(start + 20, memoryview(bytearray(5_120_000)))


def test_a_piece_beyond_the_end_of_its_file_is_refused(tmp_path: Path) -> None:
    """The message names the file and the piece."""
    (tmp_path / "f").write_bytes(bytes(10))
    with pytest.raises(CheckpointCorrupt, match=r"Reading .*f \(entry\): it ends at byte 10; expected 8 bytes from 3"):
        FileSlice(ByteFile(tmp_path / "f"), 3, 8, " (entry)")


def test_pieces_are_the_bytes_that_lie_there(source: Bytes) -> None:
    """Small and large, read, mapped or as a whole; at the end there are fewer."""
    assert source.num_bytes == 5_120_000
    assert source.read(255, 3) == b"\xff\x00\x01"
    assert source.read(5_119_999, 10) == b"\xff"
    assert source.read(6_000_000, 1) == b""
    assert source.whole()[1000] == 1000 % 256
    for start, count in ((7, 100), (5000, 3_000_001), (0, 5_120_000), (9, 0)):
        made = source.buffer(start, count)
        assert bytes(made.view()) == source.read(start, count)


def test_a_large_piece_is_mapped_and_can_be_written_to(tmp_path: Path) -> None:
    """What is written there does not reach the file."""
    (tmp_path / "f").write_bytes(bytes(2 << 20))
    made = ByteFile(tmp_path / "f").buffer(100, 2_000_000)
    assert isinstance(made.memory, mmap.mmap)
    made.view()[0] = 9
    assert (tmp_path / "f").read_bytes() == bytes(2 << 20)


def test_a_piece_beyond_the_end_is_refused(source: Bytes) -> None:
    """The message says where the file ends."""
    for start, count in ((5_119_999, 2), (-1, 1)):
        with pytest.raises(CheckpointCorrupt, match=r"numbers.*: it ends at byte 5,120,000; expected . bytes from"):
            source.buffer(start, count)


def test_pipes_and_folders_are_no_files(tmp_path: Path) -> None:
    """Opening one neither waits nor reads."""
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", tmp_path):
        with pytest.raises(CheckpointError, match="it is no file"):
            ByteFile(place)
    with pytest.raises(CheckpointError, match=r"Opening .*gone: No such file or directory. Check the path."):
        ByteFile(tmp_path / "gone")


def test_the_file_is_closed_when_nothing_refers_to_it(tmp_path: Path) -> None:
    """No descriptor is left behind."""
    (tmp_path / "f").write_bytes(b"x")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(50):
        ByteFile(tmp_path / "f").read(0, 1)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("size", [0, 1, 1000, 3_000_000])
def test_compressed_data_come_out_whole(size: int) -> None:
    """One stream, several one after another, and one that zeros follow."""
    data = os.urandom(size // 2) + bytes(size - size // 2)
    packed = gzip.compress(data)
    for whole in (packed, packed + bytes(9)):
        assert inflate(MemoryFile("x", whole), 0, len(whole), size, gzip=True) == data
    twice = packed + gzip.compress(b"more")
    assert inflate(MemoryFile("x", twice), 0, len(twice), size + 4, gzip=True) == data + b"more"
    raw = zlib.compress(data)[2:-4]
    assert inflate(MemoryFile("x", b"ab" + raw + b"cd"), 2, len(raw), size, gzip=False) == data


def test_compressed_data_that_are_cut_damaged_or_too_much_are_refused() -> None:
    """Each has its own message, which names the file."""
    packed = gzip.compress(os.urandom(5000))
    with pytest.raises(CheckpointCorrupt, match="Decompressing x: found no end of the 3,000 compressed bytes"):
        inflate(MemoryFile("x", packed), 0, 3000, 9999, gzip=True)
    with pytest.raises(CheckpointCorrupt, match="Decompressing x: found Error -3"):
        inflate(MemoryFile("x", packed[:-8] + bytes(8)), 0, len(packed), 9999, gzip=True)
    with pytest.raises(CheckpointError, match="more than 4,000 bytes come out of"):
        inflate(MemoryFile("x", packed), 0, len(packed), 4000, gzip=True)


def test_bytes_can_be_looked_through_without_being_kept(source: Bytes) -> None:
    """Every byte is seen once and in order; beyond the end there are none."""
    for start, count in ((7, 3_000_001), (5_119_999, 1), (9, 0)):
        seen: list[bytes] = []
        source.look_through(start, count, lambda piece: seen.append(bytes(piece)))  # noqa: B023  # called at once
        assert b"".join(seen) == source.read(start, count)
    source.look_through(0, 5_120_000)
    with pytest.raises(CheckpointCorrupt, match=r"it ends at byte 5,120,000; expected 5,120,000 bytes from 1"):
        source.look_through(1, 5_120_000)


def test_small_readings_that_follow_each_other_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand readings of 100 bytes are a few, whatever lies between them, and each has its own bytes."""
    data = os.urandom(300_000)
    (tmp_path / "f").write_bytes(data)
    file, calls, pread = ByteFile(tmp_path / "f"), [], os.pread
    monkeypatch.setattr(os, "pread", lambda *a: (calls.append(a[1]), pread(*a))[1])
    for at in range(0, 300_000, 290):
        assert file.read(at, 100) == data[at : at + 100]
    assert len(calls) == 4
    assert file.read(100_000, 100) == data[100_000:100_100]
    assert file.read(299_990, 100) == data[299_990:]
    assert calls[4:] == [100, 10]


def test_a_file_that_is_cut_after_it_was_opened_is_told(tmp_path: Path) -> None:
    """Whether it is read, mapped, looked through or copied into memory."""
    (tmp_path / "f").write_bytes(bytes(3 << 20))
    file = ByteFile(tmp_path / "f")
    with (tmp_path / "f").open("r+b") as opened:
        opened.truncate(100)
    message = r"f: it ends at byte 100; expected [\d,]+ bytes from 0"
    for count in (1000, 2 << 20):
        with pytest.raises(CheckpointCorrupt, match=message):
            file.buffer(0, count)
        with pytest.raises(CheckpointCorrupt, match=message):
            file.look_through(0, count, len)  # type: ignore[arg-type]
        with pytest.raises(CheckpointCorrupt, match=message):
            file.read_into(0, memoryview(bytearray(count)))
