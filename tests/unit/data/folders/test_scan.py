import errno
import os
import socket
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.data.files import IMAGE_SUFFIXES, is_image_name
from holdfast.data.folders import scan
from holdfast.data.folders.natural import natural_key
from holdfast.data.folders.scan import ClassFolder, scan_class, scan_classes, shown


def touch(root: Path, *paths: str) -> None:
    """Makes empty files; nothing here is decoded."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def paths_of(found: ClassFolder) -> list[str]:
    """The paths of the pictures found, in order."""
    data, paths, place = found.names.tobytes(), [], 0
    for folder, length in zip(found.folder_of, found.lengths, strict=True):
        paths.append(found.folders[folder] + data[place : place + length].decode())
        place += int(length)
    return paths


def pictures_by_walking(root: Path, folder: str) -> list[str]:
    """Paths below `root` of the pictures in `folder`, hidden folders aside."""
    expected = []
    for path, subfolders, names in os.walk(root / folder):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        expected += [f"{os.path.relpath(path, root)}/{name}" for name in names if is_image_name(name)]
    return expected


def scanned(root: Path) -> ClassFolder:
    """What is found in the class folder `c`."""
    return scan_class(str(root), "c", [])


_NAME = st.sampled_from(["1", "2", "10", "01", "a", "a1", "a01", "a 2", "b", "é", "B", "-", "1.png", "a.txt", ".x"])
_FILE = st.tuples(st.lists(_NAME, max_size=3), _NAME, st.sampled_from([".png", ".JPEG", "", ".txt", ".x.jpg", ".png~"]))


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(_FILE, max_size=60))
def test_what_is_found_is_what_a_walk_finds(tmp_path_factory: pytest.TempPathFactory, files: list[tuple]) -> None:
    """Pictures at any depth, in the natural order of their whole paths, and the other files, are those that a plain
    walk over the folder gives."""
    root = tmp_path_factory.mktemp("tree")
    (root / "c").mkdir()
    for folders, stem, ending in files:
        try:
            touch(root, "/".join(["c", *(f for f in folders if not f.endswith((".png", ".txt"))), stem + ending]))
        except OSError:
            continue  # a file stands where a folder should be
    expected, others = [], []
    for folder, subfolders, names in os.walk(root / "c"):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        below = os.path.relpath(folder, root)
        expected += [f"{below}/{name}" for name in names if is_image_name(name)]
        others += [f"{below}/{name}" for name in names if not is_image_name(name) and not name.startswith(".")]
    found = scanned(root)
    assert paths_of(found) == sorted(expected, key=natural_key)
    assert sorted(found.others) == sorted(others)
    assert (found.odd, found.problems) == ([], [])


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(_FILE, max_size=4), st.integers(0, 60), st.sampled_from(["img", "é", "a1_"])), max_size=5
    ),
    st.sampled_from([1, 2000, 1 << 18]),
)
def test_folders_scanned_together_are_as_each_alone(
    tmp_path_factory: pytest.TempPathFactory, classes: list[tuple], together: int
) -> None:
    """Plain ones and others, empty ones, absent ones and links to the folder above, in one piece or in many."""
    root = tmp_path_factory.mktemp("tree")
    for place, (files, num, stem) in enumerate(classes):
        touch(root, *(f"{place}/{stem}{number * 7 % 61}.png" for number in range(num)))
        (root / str(place)).mkdir(exist_ok=True)
        for folders, name, ending in files:
            try:
                touch(root, "/".join([str(place), *folders, name + ending]))
            except OSError:
                continue
    (root / "loop").symlink_to(".")
    status = root.stat()
    above = [(status.st_dev, status.st_ino)]
    asked = ["loop", "absent", *map(str, range(len(classes)))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "_TOGETHER", together)
        found = scan_classes(str(root), asked, above)
    for folder, one in zip(asked, found, strict=True):
        alone = scan_class(str(root), folder, above)
        walked = [] if folder == "loop" else pictures_by_walking(root, folder)
        assert paths_of(one) == paths_of(alone) == sorted(walked, key=natural_key)
        assert (one.others, one.odd, one.problems) == (alone.others, alone.odd, alone.problems)
    assert len(found[0]) == 0 and found[1].problems == [f"{root}/absent: No such file or directory"]


def test_pictures_beside_a_folder_of_pictures_are_in_natural_order(tmp_path: Path) -> None:
    """A folder's pictures need not stay together: it sorts among the pictures beside it."""
    touch(tmp_path, "c/b.png", "c/c/1.png", "c/c/10.png", "c/c/9.png", "c/d.png", "c/c0.png", "c/c.png")
    names = ["b.png", "c.png", "c/1.png", "c/9.png", "c/10.png", "c0.png", "d.png"]
    assert sorted(paths_of(scanned(tmp_path))) == sorted(f"c/{name}" for name in names)
    assert paths_of(scanned(tmp_path)) == sorted((f"c/{name}" for name in names), key=natural_key)


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_every_ending_is_known_in_a_folder_of_many(tmp_path: Path, suffix: str) -> None:
    """In any case, in names as short as can be, and not as a part of another ending."""
    good = [f"a{suffix}", f"b{suffix.upper()}", f"c.tar{suffix}"]
    touch(tmp_path, *(f"c/{name}" for name in [*good, f"d{suffix}x", suffix, f"e{suffix[1:]}", "x", "tga", "f."]))
    assert paths_of(scanned(tmp_path)) == [f"c/{name}" for name in good]


def test_nothing_but_folders_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pipes, sockets, devices and links to them are listed as odd, however they are named, and never opened."""
    touch(tmp_path, "c/1.png")
    os.mkfifo(tmp_path / "c" / "pipe.png")
    (tmp_path / "c" / "link.jpg").symlink_to("pipe.png")
    (tmp_path / "c" / "zero.png").symlink_to("/dev/zero")
    server = socket.socket(socket.AF_UNIX)
    monkeypatch.chdir(tmp_path / "c")  # a socket's name may not be long
    server.bind("socket.png")
    server.close()
    found = scanned(tmp_path)
    assert paths_of(found) == ["c/1.png"]
    assert sorted(found.odd) == ["c/link.jpg", "c/pipe.png", "c/socket.png", "c/zero.png"]


def test_a_folder_named_like_a_picture_is_a_folder(tmp_path: Path) -> None:
    """What lies in it is found; the folder itself is no picture, nor is a link to a folder."""
    touch(tmp_path, "c/dog.jpg/1.png", "elsewhere/2.png")
    (tmp_path / "c" / "link.png").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "c" / "empty.png").mkdir()
    found = scanned(tmp_path)
    assert paths_of(found) == ["c/dog.jpg/1.png", "c/link.png/2.png"]
    assert found.others == []


def test_a_link_that_leads_nowhere_is_kept(tmp_path: Path) -> None:
    """Broken links and links to themselves are listed under their names, so that reading them names them."""
    touch(tmp_path, "c/1.png")
    (tmp_path / "c" / "2.png").symlink_to("nowhere")
    (tmp_path / "c" / "3.png").symlink_to("3.png")
    assert paths_of(scanned(tmp_path)) == ["c/1.png", "c/2.png", "c/3.png"]


@pytest.mark.parametrize("folder", ["__MACOSX", "@eaDir", ".hidden", "$RECYCLE.BIN", "lost+found"])
def test_copies_for_other_systems_are_passed_over(tmp_path: Path, folder: str) -> None:
    """Thumbnails, resource forks and deleted pictures are no pictures of the class, and no news."""
    touch(tmp_path, "c/1.png", f"c/{folder}/1.png/thumb.jpg", "c/Thumbs.db", "c/desktop.ini", "c/._1.png")
    found = scanned(tmp_path)
    assert paths_of(found) == ["c/1.png"]
    assert (found.others, found.odd, found.problems) == ([], [], [])


def test_names_of_every_kind_are_kept_as_they_are(tmp_path: Path) -> None:
    """Spaces, quotes, line breaks, emoji, other scripts and letters in two Unicode forms."""
    names = [
        " a .png",
        "'b\".png",
        "c\nd.png",
        "😀.png",
        "猫.png",
        "e\u0301.png",
        "\u00e9.png",
        "%#&;`$(x).png",
        "\\.png",
    ]
    touch(tmp_path, *(f"c/{name}" for name in names))
    assert paths_of(scanned(tmp_path)) == sorted((f"c/{name}" for name in names), key=natural_key)


def test_names_that_are_no_text_are_problems_and_hide_no_others(tmp_path: Path) -> None:
    """Each is named with its folder; a broken sequence at the end of one name does not join with the next."""
    touch(tmp_path, "c/ok.png", os.fsdecode(b"c/1\xc3.png"), os.fsdecode(b"c/\xa9.png"), os.fsdecode(b"c/d\xff/x.png"))
    found = scanned(tmp_path)
    assert paths_of(found) == ["c/ok.png"]
    assert len(found.problems) == 3
    assert all("is not UTF-8" in problem and problem.isprintable() for problem in found.problems)


def test_every_folder_that_cannot_be_read_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is named with the system's reason, and the rest is read all the same."""
    touch(tmp_path, "c/1.png", "c/shut/2.png", "c/open/3.png", "c/shut too/4.png")
    plain_open = os.open

    def refusing(path: str, *args: object, **options: object) -> int:
        if "shut" in os.fspath(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return plain_open(path, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(scan.os, "open", refusing)
    found = scanned(tmp_path)
    assert found.problems == [f"{tmp_path}/c/shut: Permission denied", f"{tmp_path}/c/shut too: Permission denied"]
    assert paths_of(found) == ["c/1.png", "c/open/3.png"]


def test_a_message_shows_any_name_in_one_line() -> None:
    """Line breaks, terminal escapes and bytes that are no text are written as escapes; other names stay as they are."""
    assert shown("große Katze 😀 'x'.png") == "große Katze 😀 'x'.png"
    assert shown("a\nb\x1b[31m\udcff") == r"a\nb\x1b[31m\udcff"
