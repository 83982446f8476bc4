from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import fsspec
import pytest

from holdfast.checkpoints.place import this_place
from holdfast.checkpoints.remote_files import RemoteFiles
from holdfast.errors import RunError
from holdfast.run import owner
from holdfast.run.owner import OWNER_FILE, WATCH_SECONDS, Ownership

URL = "memory://bucket/run"
TAKEN_OVER = (
    f"Another process has taken over {URL}: this one showed no sign of life for 100 seconds. "
    "Nothing more is written there."
)


class _Clock:
    """Stands in for the module `time`: sleeping takes no time, and something may happen meanwhile."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.meanwhile: Callable[[float], object] = lambda _seconds_slept: None

    def monotonic(self) -> float:
        """Returns the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Lets time pass."""
        self.now += seconds
        self.meanwhile(self.now - 1000.0)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    """The clock of whoever watches."""
    clock = _Clock()
    monkeypatch.setattr(owner, "time", clock)
    return clock


@pytest.fixture(autouse=True)
def files() -> Iterator[RemoteFiles]:
    """What lies at the URL: nothing at first."""
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    yield RemoteFiles(URL, pauses=())
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


@pytest.fixture
def ownership() -> Iterator[Callable[..., Ownership]]:
    """Makes ownerships whose threads end with the test."""
    made: list[Ownership] = []

    def make(say: Callable[[str], None] = lambda _line: None) -> Ownership:
        made.append(Ownership(URL, say))
        return made[-1]

    yield make
    for one in made:
        one._ended.set()
        if one._thread is not None:
            one._thread.join(60)


def _read(files: RemoteFiles) -> dict[str, Any]:
    table: dict[str, Any] = json.loads(files.read(OWNER_FILE))
    return table


def _write_others(files: RemoteFiles, **changes: Any) -> dict[str, Any]:
    """Writes the file of a process of another machine."""
    table = {"token": "0" * 16, "place": "f" * 16, "process": 1, "beats": 7, **changes}
    files.replace(OWNER_FILE, json.dumps(table).encode())
    return table


def test_taking_a_run_that_nobody_works_on_writes_who_does(files: RemoteFiles, ownership: Any, clock: _Clock) -> None:
    """The file says where and which process; nobody is watched, and nothing is said."""
    said: list[str] = []
    mine = ownership(said.append)
    mine.take()
    table = _read(files)
    assert (table["place"], table["process"], table["beats"]) == (this_place(), os.getpid(), 0)
    assert (table["token"], len(table["token"])) == (mine._token, 16)
    assert (said, clock.now) == ([], 1000.0)
    mine.check()


@pytest.mark.parametrize("after_seconds", [2.0, 98.0])
def test_a_living_owner_is_not_disturbed(
    files: RemoteFiles, ownership: Any, clock: _Clock, after_seconds: float
) -> None:
    """A file that changes while it is watched, be it at the very end, has an owner: the newcomer is refused."""

    def meanwhile(seconds_slept: float) -> None:
        if seconds_slept >= after_seconds:
            _write_others(files, beats=8)

    _write_others(files)
    clock.meanwhile = meanwhile
    said: list[str] = []
    newcomer = ownership(said.append)
    with pytest.raises(RunError) as caught:
        newcomer.take()
    assert str(caught.value) == (f"Another process is training in {URL}. Wait for it, stop it, or give another --out.")
    assert said == [f"{URL} has an owner: watching for 100 s whether it still lives"]
    assert clock.now == 1000.0 + after_seconds
    newcomer.release()  # as whoever was refused does: the file is not its own
    assert _read(files)["beats"] == 8


def test_a_silent_owner_is_watched_for_three_beats_and_replaced(
    files: RemoteFiles, ownership: Any, clock: _Clock
) -> None:
    """A file of another machine that never changes belongs to nobody any more."""
    _write_others(files)
    mine = ownership()
    mine.take()
    assert clock.now - 1000.0 == WATCH_SECONDS > 3 * owner.BEAT_SECONDS
    assert _read(files)["token"] == mine._token
    mine.check()


def test_an_owner_that_ends_while_it_is_watched_is_followed_at_once(
    files: RemoteFiles, ownership: Any, clock: _Clock
) -> None:
    """The file goes: nobody waits for the rest of the time."""
    _write_others(files)
    clock.meanwhile = lambda seconds_slept: files.remove(OWNER_FILE) if seconds_slept == 4.0 else None
    mine = ownership()
    mine.take()
    assert clock.now == 1004.0
    assert _read(files)["token"] == mine._token


def test_a_process_of_this_machine_that_is_dead_is_replaced_at_once(
    files: RemoteFiles, ownership: Any, clock: _Clock
) -> None:
    """A run that was killed here is taken up again without a wait."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    _write_others(files, place=this_place(), process=process.pid)
    said: list[str] = []
    mine = ownership(said.append)
    mine.take()
    assert (clock.now, said, _read(files)["token"]) == (1000.0, [], mine._token)


@pytest.mark.parametrize("process", [os.getpid(), "x", None, 2**80], ids=["alive", "text", "nothing", "no number"])
def test_what_is_not_known_to_be_dead_is_watched(
    files: RemoteFiles, ownership: Any, clock: _Clock, process: object
) -> None:
    """A process of this machine that lives, or of which the file says nothing sensible."""
    _write_others(files, place=this_place(), process=process)
    ownership().take()
    assert clock.now == 1000.0 + WATCH_SECONDS


@pytest.mark.parametrize("contents", [b"", b"{", b"[1]", b"\xff\xfe"])
def test_a_damaged_file_is_watched_and_replaced(
    files: RemoteFiles, ownership: Any, clock: _Clock, contents: bytes
) -> None:
    """Half a file may be one that is being written."""
    files.replace(OWNER_FILE, contents)
    mine = ownership()
    mine.take()
    assert clock.now == 1000.0 + WATCH_SECONDS
    assert _read(files)["token"] == mine._token


def _beats(mine: Ownership, count: int, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Makes the heart beat fast; the event is set once it has beaten so often."""
    beaten = threading.Event()
    real = mine._files.replace

    def replace(path: str, data: bytes) -> None:
        real(path, data)
        if json.loads(data)["beats"] >= count:
            beaten.set()

    monkeypatch.setattr(owner, "BEAT_SECONDS", 0.001)
    monkeypatch.setattr(mine._files, "replace", replace)
    return beaten


def test_the_file_is_rewritten_while_its_owner_lives(
    files: RemoteFiles, ownership: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each beat is another number, so that every two looks at the file differ; only the number changes."""
    mine = ownership()
    beaten = _beats(mine, 3, monkeypatch)
    mine.take()
    assert beaten.wait(60)
    table = _read(files)
    assert table["beats"] >= 3
    assert (table["token"], table["place"], table["process"]) == (mine._token, this_place(), os.getpid())


def test_a_store_that_does_not_answer_stops_no_heart(
    files: RemoteFiles, ownership: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that is gone for a while costs some beats; asked meanwhile, nothing is known, and nothing is said."""
    mine = ownership()
    beaten = _beats(mine, 1, monkeypatch)
    real, failed = mine._files.read, threading.Event()
    failures = iter(range(5))

    def read(path: str) -> bytes:
        if next(failures, None) is not None:
            failed.set()
            raise OSError("the network is gone")
        return real(path)

    monkeypatch.setattr(mine._files, "read", read)
    mine.take()
    mine.check()
    assert failed.is_set()
    assert beaten.wait(60)
    mine.check()


def test_a_lost_run_is_noticed_at_the_next_question_and_stays_lost(files: RemoteFiles, ownership: Any) -> None:
    """Another's token in the file: every question from then on is refused, whatever becomes of the file."""
    mine = ownership()
    mine.take()
    _write_others(files)
    for _ in range(2):
        with pytest.raises(RunError) as caught:
            mine.check()
        assert str(caught.value) == TAKEN_OVER
        files.replace(OWNER_FILE, mine._words())


def test_a_process_that_slept_while_another_took_over_and_finished_has_lost_the_run(
    files: RemoteFiles, ownership: Any
) -> None:
    """The other one released the run, so there is no file at all: it is not this one's any more."""
    mine = ownership()
    mine.take()
    _write_others(files)
    files.remove(OWNER_FILE)
    with pytest.raises(RunError) as caught:
        mine.check()
    assert str(caught.value) == TAKEN_OVER


def test_the_heart_stops_once_the_run_is_lost(
    files: RemoteFiles, ownership: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that beats sees the other's file, leaves it as it is, and ends."""
    mine = ownership()
    beaten = _beats(mine, 1, monkeypatch)
    monkeypatch.setattr(mine._files, "create", lambda *_arguments: _write_others(files))  # between making and beating
    mine.take()
    assert mine._thread is not None
    mine._thread.join(60)
    assert (mine._thread.is_alive(), beaten.is_set(), _read(files)["token"]) == (False, False, "0" * 16)
    with pytest.raises(RunError, match="has taken over"):
        mine.check()


def test_a_file_that_was_damaged_under_its_owner_is_written_again(
    files: RemoteFiles, ownership: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says of nobody that he took over; the next beat mends it."""
    mine = ownership()
    mine.take()
    files.replace(OWNER_FILE, b"{")
    mine.check()
    again = ownership()
    again._token = mine._token
    beaten = _beats(again, 1, monkeypatch)
    again._thread = threading.Thread(target=again._live)
    again._thread.start()
    assert beaten.wait(60)
    assert _read(files)["token"] == mine._token


def test_releasing_removes_the_file_and_ends_the_thread(files: RemoteFiles, ownership: Any, clock: _Clock) -> None:
    """Whoever comes next begins at once."""
    mine, after = ownership(), ownership()
    mine.take()
    mine.release()
    assert files.listing() == {}
    assert mine._thread is not None
    assert not mine._thread.is_alive()
    after.take()
    assert clock.now == 1000.0


def test_releasing_a_lost_run_leaves_the_file_to_its_owner(files: RemoteFiles, ownership: Any) -> None:
    """What another process wrote is not ours to remove."""
    mine = ownership()
    mine.take()
    theirs = _write_others(files)
    mine.release()
    assert _read(files) == theirs


def test_of_two_that_follow_a_dead_owner_one_finds_out(files: RemoteFiles, ownership: Any, clock: _Clock) -> None:
    """Both watched, both saw silence: the later one has the run, and the earlier one is told before it writes."""
    earlier, later = ownership(), ownership()
    _write_others(files)
    clock.meanwhile = lambda _seconds_slept: earlier._files.replace(OWNER_FILE, earlier._words())
    with pytest.raises(RunError, match="Another process is training"):
        later.take()  # it looked once more, and saw the other one
    clock.meanwhile = lambda _seconds_slept: None
    later._files.replace(OWNER_FILE, later._words())  # had it not: it writes over the other's file
    with pytest.raises(RunError, match="has taken over"):
        earlier.check()
    later.check()
