from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from holdfast.data.cache import folder as cache_folder
from holdfast.data.cache.folder import (
    age,
    clear_cache,
    default_cache_folder,
    disk_store,
    list_cache,
    make_room,
    purpose_of,
)
from holdfast.data.cache.store import PictureStore

SIDE = 100  # a picture has 30,000 bytes


def _keys(first: int, last: int) -> list[bytes]:
    return [number.to_bytes(8, "little") * 2 for number in range(first, last)]


def _picture(key: bytes) -> Tensor:
    return torch.full((3, SIDE, SIDE), key[0], dtype=torch.uint8)


def _open(folder: Path, keys: list[bytes], max_bytes: int | None = None) -> PictureStore:
    return disk_store(folder, keys, 3 * SIDE * SIDE, max_bytes)


def _fill(folder: Path, keys: list[bytes], max_bytes: int | None = None) -> PictureStore:
    store = _open(folder, keys, max_bytes)
    for key in keys:
        store.add(key, _picture(key))
    return store


def _age_all(folder: Path, days: int) -> None:
    then = time.time() - days * 86400
    for path in folder.glob("*.pictures"):
        os.utime(path, (then, then))


def test_a_second_run_finds_what_the_first_kept(tmp_path: Path) -> None:
    """Pictures outlive the process, and a run that lacks nothing makes no file."""
    folder, keys = tmp_path / "new" / "cache", _keys(0, 5)
    _fill(folder, keys)
    store = _open(folder, keys)
    assert all(torch.equal(found, _picture(key)) for key in keys if (found := store.find(key)) is not None)
    assert all(store.find(key) is not None for key in keys)
    assert len(list_cache(folder)) == 1 and store.filling().stopped == ""


def test_two_runs_on_the_same_pictures_share_one_file_from_the_beginning(tmp_path: Path) -> None:
    """The second joins the first while it fills, in whatever order it has the pictures."""
    keys = _keys(0, 6)
    first, second = _open(tmp_path, keys), _open(tmp_path, keys[::-1])
    assert first.add(keys[0], _picture(keys[0])) and second.add(keys[1], _picture(keys[1]))
    assert second.find(keys[0]) is not None and first.find(keys[1]) is not None
    assert len(list_cache(tmp_path)) == 1


def test_a_run_that_was_cut_short_is_taken_up_in_its_own_file(tmp_path: Path) -> None:
    """What is missing goes where the rest is."""
    keys = _keys(0, 6)
    half = _open(tmp_path, keys)
    for key in keys[:3]:
        half.add(key, _picture(key))
    del half
    store = _fill(tmp_path, keys)
    assert all(store.find(key) is not None for key in keys) and len(list_cache(tmp_path)) == 1


def test_other_pictures_get_a_file_of_their_own(tmp_path: Path) -> None:
    """What a run shares with an older one it finds there; the rest goes into a new file."""
    _fill(tmp_path, _keys(0, 50))
    store = _fill(tmp_path, _keys(40, 150))
    files = list_cache(tmp_path)
    assert sorted(file.num_pictures for file in files) == [50, 100]
    assert all(store.find(key) is not None for key in _keys(40, 150))


def test_the_longest_unused_goes_first(tmp_path: Path) -> None:
    """Only as much is deleted as the new pictures need."""
    _fill(tmp_path, _keys(0, 10))
    _age_all(tmp_path, 3)
    _fill(tmp_path, _keys(100, 110))
    oldest, other = list_cache(tmp_path)
    store = _fill(tmp_path, _keys(200, 210), max_bytes=1_000_000)
    left = {file.path for file in list_cache(tmp_path)}
    assert oldest.path not in left and other.path in left and store.find(_keys(200, 201)[0]) is not None


def test_the_folder_stays_within_its_size(tmp_path: Path) -> None:
    """Whatever is asked for, the files take no more than was allowed; pictures beyond it are not kept."""
    for first in range(0, 300, 60):
        _fill(tmp_path, _keys(first, first + 60), max_bytes=1_000_000)
        assert sum(file.num_bytes for file in list_cache(tmp_path)) <= 1_000_000
    assert list_cache(tmp_path)


def test_what_a_run_uses_is_never_deleted(tmp_path: Path) -> None:
    """Neither for another run's pictures nor by a clearing; and its promised room is not given twice."""
    used = _fill(tmp_path, _keys(0, 10))
    _age_all(tmp_path, 100)
    other = _fill(tmp_path, _keys(100, 120), max_bytes=400_000)
    assert other.filling().stopped and other.find(_keys(100, 101)[0]) is None
    deleted, left = clear_cache(tmp_path)
    assert not deleted and len(left) == 1 and left[0].in_use
    assert all(used.find(key) is not None for key in _keys(0, 10))


def test_clearing_deletes_what_nobody_uses(tmp_path: Path) -> None:
    """Files of ours go, others stay; clearing twice and clearing nothing are no errors."""
    _fill(tmp_path, _keys(0, 10))
    gc.collect()
    (tmp_path / "mine.txt").write_text("keep")
    deleted, left = clear_cache(tmp_path)
    assert [file.num_pictures for file in deleted] == [10] and not left
    assert clear_cache(tmp_path) == ([], []) and clear_cache(tmp_path / "none") == ([], [])
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "mine.txt"]


def test_a_file_that_is_damaged_or_not_ours_is_passed_over_and_goes_first(tmp_path: Path) -> None:
    """It is listed with no pictures, never read, and deleted when there is need of room."""
    (tmp_path / "0.pictures").write_bytes(b"x" * 900_000)
    _age_all(tmp_path, 1)
    assert [(file.num_pictures, file.in_use) for file in list_cache(tmp_path)] == [(0, False)]
    store = _fill(tmp_path, _keys(0, 10), max_bytes=1_000_000)
    assert store.find(_keys(0, 1)[0]) is not None and not (tmp_path / "0.pictures").exists()


def test_a_folder_that_cannot_be_written_to_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures in it are found; others are not kept, and it is said why."""
    _fill(tmp_path, _keys(0, 10))
    really = os.open

    def read_only(
        path: object, flags: int, mode: int = 0o777
    ) -> int:  # root may write anywhere, so a mode proves little
        if flags & (os.O_RDWR | os.O_CREAT):
            raise PermissionError(13, "Permission denied", str(path))
        return really(path, flags, mode)  # type: ignore[arg-type]

    monkeypatch.setattr(cache_folder.os, "open", read_only)
    store = _open(tmp_path, _keys(5, 15))
    assert store.find(_keys(5, 6)[0]) is not None
    assert not store.add(_keys(12, 13)[0], _picture(_keys(12, 13)[0]))
    assert store.filling().stopped == f"{tmp_path} cannot be written to"


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    """A file in its place is the system's own error."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file"):
        _open(tmp_path / "file" / "cache", _keys(0, 3))


@pytest.mark.parametrize(("max_bytes", "room"), [(1_000_000, 1_000_000), (10, 10)])
def test_room_in_an_empty_folder_is_what_is_allowed(tmp_path: Path, max_bytes: int, room: int) -> None:
    """Nothing is there to delete."""
    assert make_room(tmp_path, 500_000, max_bytes, set()) == room


def test_by_default_a_quarter_of_the_free_disk_may_be_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Besides what the folder takes already."""
    monkeypatch.setattr(cache_folder.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 8_000_000}))
    assert make_room(tmp_path, 1, None, set()) == 2_000_000


def test_the_purpose_is_that_of_a_set() -> None:
    """Order does not matter, members do."""
    assert purpose_of(_keys(0, 9)) == purpose_of(_keys(0, 9)[::-1]) != purpose_of(_keys(0, 8))


def test_the_default_folder_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """HOLDFAST_CACHE goes before XDG_CACHE_HOME, and that before the home folder."""
    monkeypatch.delenv("HOLDFAST_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_cache_folder() == Path("~/.cache/holdfast/pictures").expanduser()
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert default_cache_folder() == Path("/x/holdfast/pictures")
    monkeypatch.setenv("HOLDFAST_CACHE", "/y")
    assert default_cache_folder() == Path("/y/pictures")


def test_age_is_never_negative(tmp_path: Path) -> None:
    """A clock that was put back makes nothing younger than now."""
    _fill(tmp_path, _keys(0, 1))
    _age_all(tmp_path, -5)
    assert age(list_cache(tmp_path)[0]) == 0


@pytest.fixture(autouse=True)
def _let_go() -> Iterator[None]:
    yield
    gc.collect()
