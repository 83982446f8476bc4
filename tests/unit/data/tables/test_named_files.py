from __future__ import annotations

import os
from pathlib import Path

import pytest

from holdfast.data.tables import named_files
from holdfast.data.tables.named_files import NamedFiles, NameProblem


def test_a_name_as_written_goes_before_every_guess(tmp_path: Path) -> None:
    """Where `A.jpg` and `a.jpg` are both there, each is itself, and nothing is said."""
    for name in ("A.jpg", "a.jpg", "b", "b.jpg"):
        (tmp_path / name).touch()
    files = NamedFiles(tmp_path)
    assert [files.find(name) for name in ("A.jpg", "a.jpg", "b", " b.jpg ")] == ["A.jpg", "a.jpg", "b", "b.jpg"]
    assert files.notices() == []


def test_folders_may_be_written_in_another_case(tmp_path: Path) -> None:
    """Each part of the path is looked for; a letter that is composed otherwise is the same letter."""
    (tmp_path / "Bären").mkdir()
    (tmp_path / "Bären" / "IMG_1.JPG").touch()
    files = NamedFiles(tmp_path)
    assert files.find("BA\u0308REN/img_1.jpg") == "Bären/IMG_1.JPG"
    assert files.notices() == [
        "1 file name differs from the files' in case or form (BA\u0308REN/img_1.jpg → Bären/IMG_1.JPG)"
    ]


def test_links_are_followed_and_broken_ones_are_not_there(tmp_path: Path) -> None:
    """A link to a file is a file, one to nothing is nothing, one to a folder is a folder."""
    (tmp_path / "real.jpg").touch()
    (tmp_path / "folder").mkdir()
    for name, target in (
        ("link.jpg", "real.jpg"),
        ("broken.jpg", "gone.jpg"),
        ("loop.jpg", "loop.jpg"),
        ("f", "folder"),
    ):
        (tmp_path / name).symlink_to(target)
    files = NamedFiles(tmp_path)
    assert files.find("link.jpg") == "link.jpg"
    for name, words in (("broken.jpg", "is not there"), ("loop.jpg", "is not there"), ("f", "is a folder")):
        with pytest.raises(NameProblem, match=words):
            files.find(name)


@pytest.mark.parametrize("name", ["..", "../x.jpg", "a/../../x.jpg", "a\\..\\..\\x.jpg"])
def test_no_name_leads_out_of_the_root(tmp_path: Path, name: str) -> None:
    """Whatever way `..` is written, also where the file is there."""
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "x.jpg").touch()
    with pytest.raises(NameProblem, match="leads out of"):
        NamedFiles(root).find(name)


@pytest.mark.parametrize("name", ["https://x.org/a.jpg", "s3://bucket/a.jpg", "file:///a.jpg", "HTTP://x"])
def test_addresses_are_not_fetched(tmp_path: Path, name: str) -> None:
    """They are told as such, and not as files that are missing."""
    with pytest.raises(NameProblem, match="is an address; nothing is downloaded"):
        NamedFiles(tmp_path).find(name)


def test_a_folder_that_cannot_be_listed_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not `is not there`: nobody could look."""

    def refuse(_: object) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(named_files.os, "scandir", refuse)
    with pytest.raises(NameProblem, match=r"a\.jpg cannot be looked for \(Permission denied\)"):
        NamedFiles(tmp_path).find("a.jpg")


def test_a_folder_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand rows cost one look into the folder."""
    for number in range(20):
        (tmp_path / f"{number}.jpg").touch()
    calls: list[object] = []
    real = os.scandir
    monkeypatch.setattr(named_files.os, "scandir", lambda path: (calls.append(path), real(path))[1])
    files = NamedFiles(tmp_path)
    assert [files.find(f"{n % 20}.jpg") for n in range(1000)] == [f"{n % 20}.jpg" for n in range(1000)]
    assert len(calls) == 1
