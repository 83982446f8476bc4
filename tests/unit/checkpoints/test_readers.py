from __future__ import annotations

import errno
import random
from io import FileIO
from pathlib import Path

import pytest

from holdfast.checkpoints import readers
from holdfast.checkpoints.digest import digest_of
from holdfast.checkpoints.readers import digests_of, read_into
from holdfast.errors import CheckpointCorrupt

DATA = random.Random(3).randbytes(10_000)


@pytest.fixture(params=[(1, 3, 7), (1, 3, 4096), (1 << 30, 3, 100)], ids=["tiny pieces", "threads", "one thread"])
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """A file of 10,000 bytes, read by several threads or by one, in pieces of several sizes."""
    worth, count, piece = request.param
    monkeypatch.setattr(readers, "_WORTH_A_THREAD", worth)
    monkeypatch.setattr(readers, "_READERS", count)
    monkeypatch.setattr(readers, "_SCRATCH_BYTES", piece)
    monkeypatch.setattr(readers, "_TURN_BYTES", piece)
    found = tmp_path / "data"
    found.write_bytes(DATA)
    return found


def test_digests_are_those_of_the_spans_whatever_their_order_and_size(path: Path) -> None:
    """Spans that follow one another, that leave gaps, that are empty, and that overlap."""
    spans = [(0, 3), (3, 3), (3, 6), (6, 6000), (6000, 6001), (7000, 7001), (7001, 10_000), (50, 60), (0, 10_000)]
    assert digests_of(path, spans) == [digest_of(DATA[start:stop]) for start, stop in spans]
    assert digests_of(path, []) == []


def test_bytes_beyond_the_end_do_not_count(path: Path) -> None:
    """A file that was cut since its header was read has other digests, and that is all."""
    spans = [(9_990, 9_995), (9_995, 10_005), (10_005, 10_010), (9_000, 20_000)]
    assert digests_of(path, spans) == [digest_of(DATA[start:stop]) for start, stop in spans]


def test_memory_is_filled_from_where_it_was_said(path: Path) -> None:
    """Every byte of every target is the file's, and not one beside them is written."""
    places = [(0, 5), (5, 9), (9, 9), (100, 4_000), (4_000, 4_001), (9_000, 10_000)]
    memory = bytearray(b"\0" * 10_000)
    read_into(path, [(start, memoryview(memory)[start:stop]) for start, stop in places])
    inside = {at for start, stop in places for at in range(start, stop)}
    assert all(memory[at] == (DATA[at] if at in inside else 0) for at in range(10_000))


def test_a_file_that_is_cut_or_gone_is_named_with_what_to_do(path: Path, tmp_path: Path) -> None:
    """Memory that could not be filled is an error of the checkpoint, in whichever thread it was found."""
    with pytest.raises(CheckpointCorrupt, match=r"data: every byte of it was proven.*it was cut.*restore all of it"):
        read_into(path, [(0, memoryview(bytearray(5_000))), (9_000, memoryview(bytearray(5_000)))])
    with pytest.raises(CheckpointCorrupt, match="No such file"):
        read_into(tmp_path / "gone", [(0, memoryview(bytearray(10)))])
    with pytest.raises(FileNotFoundError):
        digests_of(tmp_path / "gone", [(0, 10)])


def test_a_bad_sector_is_an_error_in_any_thread(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EIO of one read, in the middle of the file, is what the caller gets."""

    class Failing(FileIO):
        def readinto(self, buffer: memoryview) -> int | None:  # type: ignore[override]
            if self.tell() <= 5_000 < self.tell() + len(buffer):
                raise OSError(errno.EIO, "Input/output error")
            return super().readinto(buffer)

    monkeypatch.setattr(Path, "open", lambda self, *_, **__: Failing(self))
    with pytest.raises(OSError, match="Input/output"):
        digests_of(path, [(start, start + 1_000) for start in range(0, 10_000, 1_000)])
    with pytest.raises(CheckpointCorrupt, match="Input/output"):
        read_into(path, [(start, memoryview(bytearray(1_000))) for start in range(0, 10_000, 1_000)])


def test_where_no_thread_can_be_started_the_caller_reads_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python starts none while it ends."""

    def refuse(_: object) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(readers.threading.Thread, "start", refuse)
    assert digests_of(path, [(0, 9_000), (9_000, 10_000)]) == [digest_of(DATA[:9_000]), digest_of(DATA[9_000:])]
