import os
import socket
from pathlib import Path

import pytest

from holdfast.data.decoding.image_file import MAX_FILE_BYTES, read_image_file
from holdfast.errors import DataError


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    """Every byte comes back, of an empty file too."""
    for data in (b"", b"a", bytes(range(256)) * 999):
        (tmp_path / "x").write_bytes(data)
        assert read_image_file(tmp_path / "x") == data


def test_a_link_is_followed_and_a_broken_one_named(tmp_path: Path) -> None:
    """A link to a picture reads as the picture; one to nothing, and a circle of links, are errors with the path."""
    (tmp_path / "real").write_bytes(b"pixels")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "broken").symlink_to("nothing")
    (tmp_path / "circle").symlink_to("circle")
    assert read_image_file(tmp_path / "link") == b"pixels"
    with pytest.raises(DataError, match=r"broken: cannot be read \(No such file or directory\)\.$"):
        read_image_file(tmp_path / "broken")
    with pytest.raises(DataError, match=r"circle: cannot be read \(Too many levels of symbolic links\)\.$"):
        read_image_file(tmp_path / "circle")


def test_a_pipe_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    """A named pipe without a writer would block whoever opens it."""
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(DataError, match=r"pipe\.jpg: cannot be read \(it is a pipe, not a file\)\.$"):
        read_image_file(tmp_path / "pipe.jpg")


def test_a_pipe_that_took_a_files_place_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even when the first look saw a file, opening a pipe returns at once."""
    (tmp_path / "file").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe.jpg")
    seen = (tmp_path / "file").stat()
    monkeypatch.setattr(os, "stat", lambda _path: seen)
    with pytest.raises(DataError, match="it is a pipe, not a file"):
        read_image_file(tmp_path / "pipe.jpg")


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/urandom"])
def test_devices_are_refused(device: str) -> None:
    """An endless device is not read."""
    with pytest.raises(DataError, match=rf"^{device}: cannot be read \(it is a device, not a file\)\.$"):
        read_image_file(Path(device))


def test_sockets_and_folders_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is called what it is."""
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.jpg")
        with pytest.raises(DataError, match="it is a socket, not a file"):
            read_image_file(Path("s.jpg"))
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(DataError, match="Is a directory"):
        read_image_file(tmp_path / "folder.jpg")


def test_a_huge_file_that_is_no_picture_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three terabytes of zeros only the two ends are looked at."""
    path = tmp_path / "hole.jpg"
    with path.open("wb") as file:
        file.truncate(3 << 40)
    read = os.read
    asked: list[int] = []

    def counted(descriptor: int, size: int) -> bytes:
        asked.append(size)
        return read(descriptor, size)

    monkeypatch.setattr(os, "read", counted)
    with pytest.raises(DataError, match=r"hole\.jpg: not an image \(it begins with zeros only\)\.$"):
        read_image_file(path)
    assert sum(asked) < 10_000


def test_a_huge_file_that_begins_like_a_picture_is_refused_unread(tmp_path: Path) -> None:
    """Beyond the stated limit even a picture's beginning does not help."""
    path = tmp_path / "long.png"
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(DataError, match=r"long\.png: refused: 2,147,483,649 bytes, and a picture of at most"):
        read_image_file(path)


def test_a_name_that_no_system_allows_is_an_error(tmp_path: Path) -> None:
    """A zero byte in a path is a DataError, not a ValueError."""
    with pytest.raises(DataError, match="cannot be read"):
        read_image_file(Path("a\0b.jpg"))
