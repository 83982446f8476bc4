from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from holdfast.checkpoints import direct_file, files
from holdfast.checkpoints.digest import digest_of

PIECE = 8192


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes everything from 8 KiB on a direct write, in pieces of that size."""
    monkeypatch.setattr(files, "BUFFER_BYTES", PIECE)
    monkeypatch.setattr(direct_file, "BUFFER_BYTES", PIECE)


def test_write_durably_writes_the_chunks_and_returns_their_sizes_and_digests(tmp_path: Path) -> None:
    """The file is the chunks one after another; its size, its digest and that of each chunk are returned."""
    chunks = [b"one", bytearray(b""), memoryview(b"two")]
    result = files.write_durably(tmp_path / "a", chunks)
    assert (tmp_path / "a").read_bytes() == b"onetwo"
    assert result == files.Written(6, digest_of(b"onetwo"), [digest_of(chunk) for chunk in chunks])


def test_write_durably_writes_an_empty_file(tmp_path: Path) -> None:
    """Nothing at all is a file as well."""
    assert files.write_durably(tmp_path / "a", []) == files.Written(0, digest_of(b""), [])
    assert (tmp_path / "a").read_bytes() == b""


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("count", [PIECE - 1, PIECE, PIECE + 1, 5 * PIECE, 5 * PIECE + 77])
def test_write_durably_writes_large_files_past_the_cache_and_syncs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """From one buffer on a file is written directly; contents, size, digests and the sync are the same."""
    direct: list[Path] = []
    synced: list[int] = []
    real_open, real_sync = files.open_direct, files.sync_file
    monkeypatch.setattr(files, "open_direct", lambda path: (direct.append(path), real_open(path))[1])

    def sync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_size)  # synced when it has its size, not before
        real_sync(descriptor)

    monkeypatch.setattr(files, "sync_file", sync)
    data = bytes(number * 31 % 251 for number in range(count))
    chunks = [data[:5], data[5:4096], b"", data[4096:]]
    result = files.write_durably(tmp_path / "a", iter(chunks))
    assert (tmp_path / "a").read_bytes() == data
    assert result == files.Written(count, digest_of(data), [digest_of(chunk) for chunk in chunks])
    assert direct == ([tmp_path / "a"] if count >= PIECE else [])
    assert synced == [count]


def test_a_tally_passes_on_pieces_of_at_most_a_mebibyte() -> None:
    """Each byte is hashed for its chunk and for the whole while it is in a core's cache."""
    chunks = [bytes(2_500_000), b"", memoryview(bytes(range(8))).cast("I")]
    tally = files.Tally()
    pieces = list(tally.count(chunks))
    assert [len(piece) for piece in pieces] == [1 << 20, 1 << 20, 2_500_000 - (2 << 20), 8]
    whole = b"".join(pieces)
    assert tally.written() == files.Written(
        2_500_008, digest_of(whole), [digest_of(bytes(2_500_000)), digest_of(b""), digest_of(bytes(range(8)))]
    )


def test_write_durably_writes_memory_of_any_item_size(tmp_path: Path) -> None:
    """A memory view of four-byte items is written, and counted, as bytes."""
    words = memoryview(bytes(range(8))).cast("I")
    assert files.write_durably(tmp_path / "a", [words]).num_bytes == 8
    assert (tmp_path / "a").read_bytes() == bytes(range(8))


def test_write_durably_goes_on_after_a_short_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that takes three bytes a call gets all of them in the end."""
    real_write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real_write(descriptor, data[:3]))
    files.write_durably(tmp_path / "a", [b"0123456789"])
    assert (tmp_path / "a").read_bytes() == b"0123456789"


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("count", [3, 2 * PIECE])
def test_write_durably_fails_when_the_file_exists(tmp_path: Path, count: int) -> None:
    """An existing file is never written over, by a small or a large one."""
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        files.write_durably(tmp_path / "a", [bytes(count)])
    assert (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("count", [3, 2 * PIECE])
def test_write_durably_fails_when_the_sync_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """A sync that fails is an error: bytes in a cache are not on the disk."""

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        files.write_durably(tmp_path / "a", [bytes(count)])


def test_replace_durably_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    """The new contents stand at the path, and no other file is in the folder."""
    path = tmp_path / "a.json"
    files.replace_durably(path, b"old")
    files.replace_durably(path, b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_replace_durably_goes_over_its_own_leftover(tmp_path: Path) -> None:
    """What an earlier attempt left unfinished, of this process or of one that was killed, is in nobody's way."""
    (tmp_path / f"{files.HIDDEN_PREFIX}a.json").write_bytes(b"half")
    files.replace_durably(tmp_path / "a.json", b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("step", ["write_durably", "rename"])
def test_replace_durably_keeps_the_old_file_when_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """After a failure to write or to rename, the old file is there and nothing beside it."""
    path = tmp_path / "a.json"
    path.write_bytes(b"old")

    def fail(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, step, fail)
    with pytest.raises(OSError, match="No space left"):
        files.replace_durably(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_make_directory_fails_when_it_exists(tmp_path: Path) -> None:
    """A directory is made once; making it again is an error."""
    files.make_directory(tmp_path / "a")
    assert (tmp_path / "a").is_dir()
    with pytest.raises(FileExistsError):
        files.make_directory(tmp_path / "a")


def test_make_parents_makes_each_directory_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every directory that was made has its entry synced, and one that was there costs nothing."""
    synced: list[Path] = []
    monkeypatch.setattr(files, "sync_directory", synced.append)
    files.make_parents(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    assert synced == [tmp_path, tmp_path / "a"]
    files.make_parents(tmp_path / "a" / "b")
    assert len(synced) == 2


def test_make_parents_fails_when_a_file_is_in_the_way(tmp_path: Path) -> None:
    """A file where a directory should be is an error, and stays as it was."""
    (tmp_path / "a").write_bytes(b"text")
    with pytest.raises(OSError, match="a"):
        files.make_parents(tmp_path / "a" / "b")
    assert (tmp_path / "a").read_bytes() == b"text"


def test_rename_moves_a_directory_in_one_call(tmp_path: Path) -> None:
    """After a rename the contents are under the new name only."""
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "a").write_bytes(b"x")
    files.rename(tmp_path / "old", tmp_path / "new")
    assert (tmp_path / "new" / "a").read_bytes() == b"x"
    assert not (tmp_path / "old").exists()


def test_rename_fails_when_the_target_is_a_full_directory(tmp_path: Path) -> None:
    """A directory with something in it is never replaced."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_bytes(b"x")
    with pytest.raises(OSError, match="not empty"):
        files.rename(tmp_path / "old", tmp_path / "new")
    assert (tmp_path / "new" / "new").exists()


def test_sync_directory_closes_what_it_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sync that fails leaves no descriptor open."""
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("needs /proc")
    before = len(list(descriptors.iterdir()))

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        files.sync_directory(tmp_path)
    assert len(list(descriptors.iterdir())) == before


def test_remove_tree_deletes_all(tmp_path: Path) -> None:
    """A directory and everything in it are gone."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_bytes(b"x")
    files.remove_tree(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_remove_tree_takes_what_is_gone_already_for_done(tmp_path: Path) -> None:
    """Deleting what is not there is no error."""
    files.remove_tree(tmp_path / "gone")


def test_remove_tree_fails_when_the_system_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any refusal but 'not there' is reported."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"x")

    def refuse(*_arguments: object, **_options: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(PermissionError):
        files.remove_tree(tmp_path / "a")
