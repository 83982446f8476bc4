import os
from pathlib import Path

import numpy as np
import pytest

from holdfast.data.folders import listing
from holdfast.data.folders.listing import FILE, FOLDER, LINK, PIPE, list_folder, names_of


def listed(folder: Path) -> dict[bytes, int]:
    """Name → kind."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        names = list_folder(descriptor)
        return {names.name(i): int(names.kinds[i]) for i in range(len(names))}
    finally:
        os.close(descriptor)


@pytest.fixture(params=["blocks", "scandir"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to read a folder, where this machine has both."""
    if request.param == "scandir":
        monkeypatch.setattr(listing, "_getdents64", None)
    elif listing._getdents64 is None:
        pytest.skip("this system does not hand out names in blocks")


@pytest.mark.usefixtures("way")
class TestListing:
    """All names of a folder."""

    @pytest.mark.parametrize("num", [0, 1, 2, 3, 40, 700])
    def test_all_names_are_listed_whatever_their_length(self, tmp_path: Path, num: int) -> None:
        """Names of 1 to 255 bytes, of one length and of many, are those that os.listdir gives."""
        rng = np.random.default_rng(num)
        for kind in ("one", "many"):
            folder = tmp_path / kind
            folder.mkdir()
            for i in range(num):
                length = 12 if kind == "one" else int(rng.integers(1, 250))
                (folder / f"{i}{'é' * ((length - len(str(i))) // 2)}").touch()
            assert set(listed(folder)) == {os.fsencode(path.name) for path in folder.iterdir()}

    def test_a_large_folder_is_listed_whole(self, tmp_path: Path) -> None:
        """More names than one block holds."""
        (tmp_path / "first").touch()
        expected = {b"first"}
        for i in range(3000):
            name = f"{i:0240d}"
            os.link(tmp_path / "first", tmp_path / name)
            expected.add(name.encode())
        assert listed(tmp_path).keys() == expected

    def test_every_kind_is_told(self, tmp_path: Path) -> None:
        """Files, folders, links (to anything and to nothing), and pipes."""
        (tmp_path / "file").touch()
        (tmp_path / "folder").mkdir()
        (tmp_path / "link").symlink_to("folder")
        (tmp_path / "broken").symlink_to("nowhere")
        os.mkfifo(tmp_path / "pipe")
        assert listed(tmp_path) == {b"file": FILE, b"folder": FOLDER, b"link": LINK, b"broken": LINK, b"pipe": PIPE}

    def test_names_that_are_no_text_or_begin_with_dots_are_listed(self, tmp_path: Path) -> None:
        """Bytes are kept as they are; only the folder itself and the one above are left out."""
        names = {b"\xff.png", b"...", b".x", b"..y", b"a\nb", b"x"}
        for name in names:
            (tmp_path / os.fsdecode(name)).touch()
        assert listed(tmp_path).keys() == names

    def test_listing_fails_when_the_descriptor_is_no_folder(self, tmp_path: Path) -> None:
        """The system's reason is passed on."""
        (tmp_path / "file").touch()
        descriptor = os.open(tmp_path / "file", os.O_RDONLY)
        try:
            with pytest.raises(NotADirectoryError):
                list_folder(descriptor)
        finally:
            os.close(descriptor)


def test_names_are_taken_and_put_together() -> None:
    """A selection in any order gives its names one after the other."""
    names = names_of([b"one", b"", b"three", b"four"], np.zeros(4, np.uint8))
    assert names.take(np.array([3, 0, 2])).compact().tobytes() == b"fouronethree"
    assert names.take(np.array([True, False, False, False])).compact().tobytes() == b"one"
    assert names.take(np.zeros(4, bool)).compact().tobytes() == b""
