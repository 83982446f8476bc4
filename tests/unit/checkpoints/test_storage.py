from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from holdfast.checkpoints import files, storage
from holdfast.checkpoints.storage import Draft, Folder


def _names(root: Path) -> list[str]:
    return sorted(entry.name for entry in root.iterdir())


def _fill(draft: Draft) -> None:
    draft.write("a.json", [b"{}"])
    draft.write("manifest.json", [b"last"])


def _leftover(root: Path, name: str, process: int | None = None, *, machine: str | None = None) -> Path:
    """Makes what a process (this one, unless said) of a machine (this one) leaves when it ends amid `name`."""
    own = Folder(root)._hidden(name).name
    match = re.fullmatch(r"(.*\.)([0-9a-f]+)\.(\d+)", own)
    assert match is not None and int(match[3]) == os.getpid()
    place = machine[0] * len(match[2]) if machine else match[2]
    path = root / f"{match[1]}{place}.{os.getpid() if process is None else process}"
    path.mkdir(parents=True)
    (path / "model.safetensors").write_bytes(b"half")
    return path


def _aged(path: Path, seconds: float) -> Path:
    """Makes the leftover and what is in it that much older."""
    for entry in (*path.iterdir(), path):
        then = entry.stat().st_mtime - seconds
        os.utime(entry, (then, then))
    return path


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_what_is_published_is_there_under_its_name_and_nothing_beside_it(tmp_path: Path) -> None:
    """The files are those that were written; folders above are made; nothing hidden stays."""
    folder = Folder(tmp_path / "runs" / "a")
    folder.publish("step-00000001", _fill)
    assert folder.names() == _names(folder.root) == ["step-00000001"]
    assert _names(folder.fetch("step-00000001")) == ["a.json", "manifest.json"]
    assert folder.read("step-00000001", "a.json") == b"{}"


def test_while_it_is_written_it_has_no_name(tmp_path: Path) -> None:
    """A draft is hidden, and begins with the prefix of all that is unfinished."""
    folder = Folder(tmp_path)

    def look(draft: Draft) -> None:
        _fill(draft)
        assert folder.names() == []
        (name,) = _names(tmp_path)
        assert name.startswith(f"{files.HIDDEN_PREFIX}step-00000001.") and name.endswith(f".{os.getpid()}")

    folder.publish("step-00000001", look)


def test_publishing_fails_when_the_name_is_taken(tmp_path: Path) -> None:
    """What is published is never written over, whatever is in it."""
    folder = Folder(tmp_path)
    (tmp_path / "step-00000001").mkdir()
    with pytest.raises(FileExistsError, match="is published already"):
        folder.publish("step-00000001", _fill)
    assert _names(tmp_path / "step-00000001") == []


@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), ValueError("a bug"), KeyboardInterrupt()])
def test_a_draft_that_fails_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    """Whatever ends the writing, the half checkpoint is deleted, and the error is the one that was raised."""

    def fail(draft: Draft) -> None:
        _fill(draft)
        raise error

    with pytest.raises(type(error)) as caught:
        Folder(tmp_path).publish("step-00000001", fail)
    assert caught.value is error
    assert _names(tmp_path) == []


def test_names_are_none_where_there_is_no_folder(tmp_path: Path) -> None:
    """No folder, a file in its place, and an empty folder hold nothing; hidden names are not given."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    assert [Folder(tmp_path / name).names() for name in ("gone", "file", "empty")] == [[], [], []]
    (tmp_path / "empty" / ".hidden").mkdir()
    (tmp_path / "empty" / "damaged-step-00000001").mkdir()
    assert Folder(tmp_path / "empty").names() == ["damaged-step-00000001"]


def test_a_folder_stays_where_it_was_when_the_process_goes_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A save goes to the place that was meant when the store was made, which is shown as it was given."""
    monkeypatch.chdir(tmp_path)
    folder = Folder(Path("runs"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    folder.publish("step-00000001", _fill)
    assert _names(tmp_path / "runs") == ["step-00000001"]
    assert folder.where("step-00000001") == "runs/step-00000001"


def test_a_stamp_is_another_once_the_file_has_changed(tmp_path: Path) -> None:
    """Also when size and time are the same, as for two changes within one tick of the clock."""
    folder = Folder(tmp_path)
    folder.publish("step-00000001", _fill)
    path = tmp_path / "step-00000001" / "a.json"
    before, status = folder.stamp("step-00000001", "a.json"), path.stat()
    assert folder.stamp("step-00000001", "a.json") == before is not None
    folder.replace("step-00000001", "a.json", b"[]")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_mtime_ns == status.st_mtime_ns
    assert folder.stamp("step-00000001", "a.json") != before


def test_a_stamp_is_none_where_there_is_no_file(tmp_path: Path) -> None:
    """No file, no checkpoint, and a file in the checkpoint's place have none."""
    folder = Folder(tmp_path)
    folder.publish("step-00000001", _fill)
    (tmp_path / "step-00000002").write_text("a file")
    stamps = [folder.stamp(f"step-0000000{step}", "evaluation.json") for step in (1, 2, 3)]
    assert stamps == [None, None, None]


def test_a_stamp_fails_when_the_system_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be looked at is not taken for something that is not there."""

    def refuse(_path: object) -> os.stat_result:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", refuse)
        with pytest.raises(PermissionError):
            Folder(tmp_path).stamp("step-00000001", "a.json")


def test_a_deletion_that_is_cut_short_leaves_no_half_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name goes first, in one step; what is left of it is hidden, and swept with the next save."""
    folder = Folder(tmp_path)
    folder.publish("step-00000001", _fill)

    def refuse(_path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(files, "remove_tree", refuse)
        with pytest.raises(OSError, match="Input/output error"):
            folder.remove("step-00000001")
    assert folder.names() == []
    (left,) = _names(tmp_path)
    assert left.startswith(f"{files.HIDDEN_PREFIX}pruned-step-00000001.")
    folder.publish("step-00000002", _fill)
    assert _names(tmp_path) == ["step-00000002"]


# --- leftovers ------------------------------------------------------------------------------------------------------


def test_leftovers_of_ended_processes_are_deleted_by_the_next_save(tmp_path: Path, dead: int) -> None:
    """What a process that is gone left unfinished or half deleted goes; so does this one's, from a save that failed."""
    _leftover(tmp_path, "step-00000007", dead)
    _leftover(tmp_path, "pruned-step-00000003", dead)
    _leftover(tmp_path, "step-00000009")
    Folder(tmp_path).publish("step-00000001", _fill)
    assert _names(tmp_path) == ["step-00000001"]


def test_leftovers_of_living_processes_and_other_peoples_files_stay(tmp_path: Path) -> None:
    """The work of a living process is left alone, and so is what is not ours, or has a number of no process."""
    kept = [
        _leftover(tmp_path, "step-00000007", os.getppid()).name,
        _leftover(tmp_path, "step-00000008", 10**30).name,
    ]
    for name in (f"{files.HIDDEN_PREFIX}lock", f"{files.HIDDEN_PREFIX}step-00000001.zz.1", ".git", "notes.1"):
        (tmp_path / name).mkdir()
        kept.append(name)
    Folder(tmp_path).publish("step-00000001", _fill)
    assert _names(tmp_path) == sorted([*kept, "step-00000001"])


def test_a_process_that_may_not_be_asked_counts_as_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dead: int
) -> None:
    """A process of another user is alive."""

    def refuse(_process: int, _signal: int) -> None:
        raise PermissionError

    left = _leftover(tmp_path, "step-00000007", dead)
    monkeypatch.setattr(os, "kill", refuse)
    Folder(tmp_path).publish("step-00000001", _fill)
    assert _names(tmp_path) == sorted([left.name, "step-00000001"])


def test_what_another_store_of_this_process_is_writing_stays(tmp_path: Path) -> None:
    """A second store on the same folder, as of a notebook's cell run twice, leaves the first one's draft alone."""
    begun, go_on = threading.Event(), threading.Event()

    def slowly(draft: Draft) -> None:
        draft.write("a.json", [b"{}"])
        begun.set()
        assert go_on.wait(60)
        draft.write("manifest.json", [b"last"])

    first = threading.Thread(target=Folder(tmp_path).publish, args=("step-00000001", slowly))
    first.start()
    assert begun.wait(60)
    Folder(tmp_path).publish("step-00000002", _fill)
    go_on.set()
    first.join(60)
    assert _names(tmp_path) == ["step-00000001", "step-00000002"]
    assert _names(tmp_path / "step-00000001") == ["a.json", "manifest.json"]


@pytest.mark.parametrize(("age", "stays"), [(0, True), (3000, True), (4000, False), (10_000_000, False)])
def test_a_leftover_of_another_machine_goes_when_nothing_was_written_to_it_for_an_hour(
    tmp_path: Path, dead: int, age: int, stays: bool
) -> None:
    """Its process cannot be asked whether it lives, whatever process has its number here."""
    left = [_aged(_leftover(tmp_path, f"step-{n}", n, machine="0"), age).name for n in (dead, os.getpid())]
    Folder(tmp_path).publish("step-00000001", _fill)
    assert _names(tmp_path) == sorted([*(left if stays else []), "step-00000001"])


def test_a_leftover_of_another_machine_stays_while_one_file_in_it_grows(tmp_path: Path) -> None:
    """The newest of its files says when something was written; the directory's own time says only when one came."""
    left = _aged(_leftover(tmp_path, "step-00000007", machine="0"), 10_000)
    with (left / "model.safetensors").open("ab") as file:
        file.write(b"more")
    Folder(tmp_path).publish("step-00000001", _fill)
    assert _names(tmp_path) == sorted([left.name, "step-00000001"])


def test_the_age_of_a_leftover_is_told_by_the_file_systems_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine whose own clock is a day ahead does not delete what another is writing at this moment."""
    left = _leftover(tmp_path, "step-00000007", machine="0")
    now = storage.os.path.getmtime(left)
    monkeypatch.setattr("time.time", lambda: now + 86_400)
    Folder(tmp_path).publish("step-00000001", _fill)
    assert _names(tmp_path) == sorted([left.name, "step-00000001"])


def test_a_leftover_that_cannot_be_deleted_stops_no_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dead: int
) -> None:
    """It is hidden and unfinished; the next save tries again."""
    left = _leftover(tmp_path, "step-00000007", dead)

    def refuse(_path: Path) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    with monkeypatch.context() as patch:
        patch.setattr(files, "remove_tree", refuse)
        Folder(tmp_path).publish("step-00000001", _fill)
    assert _names(tmp_path) == sorted([left.name, "step-00000001"])
    Folder(tmp_path).publish("step-00000002", _fill)
    assert _names(tmp_path) == ["step-00000001", "step-00000002"]
