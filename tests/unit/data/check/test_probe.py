"""One file, read once and decoded once."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from types import ModuleType

import pytest
import torch

from holdfast.data.check import probe as probe_module
from holdfast.data.check.probe import Facts, in_threads, probe


def test_a_sound_picture_tells_all_and_has_no_problem(faulty: ModuleType, tmp_path: Path) -> None:
    """Size, kind, header and likeness of a whole JPEG."""
    path = tmp_path / "a.jpg"
    path.write_bytes(faulty.jpeg(1))
    facts = probe(path)
    assert (facts.num_bytes, facts.fault, facts.problem, facts.kind) == (path.stat().st_size, "", None, "JPEG")
    assert (facts.header.width, facts.header.height) == (96, 72) and facts.likeness is not None
    assert probe(path, likeness=False).likeness is None


@pytest.mark.parametrize(
    ("data", "fault", "words"),
    [
        (b"", "empty", "0 bytes"),
        (b"<!DOCTYPE html><html>", "not-a-picture", "web page"),
        (b"\xff\xd8\xff\xe0" + bytes(300), "damaged", "damaged"),
        (b"\xff\xd8\xff\xc1\0\x0b\x0c\0\1\0\1\1\1\x11\0\xff\xda\0\x08", "not-a-picture", "12 bits"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "not-a-picture", "HEIC"),
    ],
)
def test_a_bad_file_is_told_by_kind_and_name(tmp_path: Path, data: bytes, fault: str, words: str) -> None:
    """Each fault has a word for programs and a sentence that begins with what the file is called."""
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    facts = probe(path, "train/a.jpg", likeness=True)
    assert facts.fault == fault and facts.problem is not None
    assert facts.problem.startswith("train/a.jpg: ") and words in facts.problem and str(tmp_path) not in facts.problem


def test_a_bomb_is_refused_and_its_size_told(faulty: ModuleType, tmp_path: Path) -> None:
    """60,000 × 60,000 pixels in 72 bytes are not decoded, and the header says what was refused."""
    faulty.make_faulty_folder(tmp_path)
    facts = probe(tmp_path / "train/ants/bomb.png")
    assert facts.fault == "bomb" and facts.header.width == 60_000


def test_nothing_that_is_no_file_holds_us_up(tmp_path: Path) -> None:
    """A pipe nobody writes to, a socket, a folder, a broken link and a link to itself are unreadable, at once."""
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "s.jpg"))
        found = {path.name: probe(path) for path in tmp_path.iterdir()}
    assert {name: facts.fault for name, facts in found.items()} == dict.fromkeys(
        ["pipe.jpg", "folder.jpg", "gone.jpg", "self.jpg", "s.jpg"], "unreadable"
    )


def test_a_file_without_permission_is_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system refuses is told by its own words."""

    def refuse(path: Path) -> bytes:
        raise probe_module.DataError(f"{path}: cannot be read (Permission denied).")

    monkeypatch.setattr(probe_module, "read_image_file", refuse)
    facts = probe(tmp_path / "a.jpg")
    assert (facts.fault, facts.digest) == ("unreadable", "")
    assert facts.problem == f"{tmp_path}/a.jpg: cannot be read (Permission denied)"


def test_a_folder_that_may_not_be_entered_is_no_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a folder may be listed and not entered, its files are unreadable, like any that may not be read."""

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "a.jpg"
    path.write_bytes(b"x")
    monkeypatch.setattr(os, "stat", refused)
    monkeypatch.setattr(Path, "is_symlink", refused)
    facts = probe(path, "a.jpg")
    assert (facts.fault, facts.problem) == ("unreadable", "a.jpg: cannot be read (Permission denied)")


@pytest.mark.parametrize("num", [0, 1, 7, 1000])
def test_work_is_done_once_each_and_in_order(num: int) -> None:
    """However it is bundled and shared out, the results stand in order and progress counts them."""
    counted: list[int] = []
    found = in_threads(lambda i: (Facts(i, "", "", None), None), num, 3, counted.append)
    assert [facts.num_bytes for facts in found] == list(range(num))
    assert counted == list(range(1, num + 1))


def test_torch_has_its_threads_back_after_an_error() -> None:
    """An error in the work comes through, and the setting is put back."""
    torch.set_num_threads(2)

    def fail(_index: int) -> tuple[Facts, None]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_threads(fail, 3, 2)
    assert torch.get_num_threads() == 2
