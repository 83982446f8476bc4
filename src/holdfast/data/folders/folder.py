"""A folder of class folders: `root/<class>/*`, or `root/train|val|test/<class>/*`.

Read-only. The order of classes is natural ("2" before "10") unless a list is given, and every set shares it, so a
class that one set lacks never shifts another's index.
"""

from __future__ import annotations

import heapq
import itertools
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from holdfast.data.files import FilePictures, is_image_name, is_unread_kind
from holdfast.data.folders.class_list import Members, agree_on_classes
from holdfast.data.folders.natural import natural_key, natural_sorted
from holdfast.data.folders.scan import ClassFolder, is_clutter_folder, is_text, paths_of, scan_classes, shown
from holdfast.data.notice import Kind, Notice
from holdfast.data.sample import SET_NAMES, Collection, Indices, SetName
from holdfast.errors import DataError, first_of
from holdfast.words import count

_SET_FOLDERS: dict[str, SetName] = {
    **dict.fromkeys(("train", "training", "trainset", "trainingset", "traindata", "trainingdata"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "valset", "validset", "validationset", "valdata", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "testset", "testingset", "testdata"), "test"),
}  # in any case, and with spaces, dashes and underscores anywhere
_THREADS = 8  # the kernel's work is done side by side; a network's delays too
_TRIED = 16  # class folders: the first are scanned alone
_SLOW_SECONDS = 1e-4  # a class; where it takes less, threads would pass Python's lock to and fro for longer than that


def read_folder(root: Path, classes: Sequence[str] | None = None) -> Collection:
    """Finds the pictures, classes and sets below `root`.

    Args:
        root: the folder; links are followed, loops are not.
        classes: the class names in the order wanted; by default the names found, in natural order.

    Raises:
        DataError: there are no pictures; a folder cannot be read; a name is not UTF-8; a class is listed but absent,
            present but not listed, empty, or known only to val or test. All problems at once.
    """
    top = _look_into(root)
    found = _find_sets(root, top)
    notices: list[str] = []
    class_folders: dict[str, list[str]] = {}
    if "" not in found and top.num_loose:
        text = f"pictures in no class folder of {root}, left out: {_listed(top.loose, top.num_loose)}"
        notices.append(Notice(text, "loose-pictures"))
    for set_folder in found:
        inside = _look_into(root / set_folder) if set_folder else top
        class_folders[set_folder] = _class_names(root / set_folder, inside)
        if inside.num_loose:
            loose = _listed(inside.loose, inside.num_loose)
            text = f"pictures in no class folder of {root / set_folder}, left out: {loose}"
            notices.append(Notice(text, "loose-pictures"))
        if inside.dead:
            text = f"links in {root / set_folder} that lead nowhere, left out: {_listed(inside.dead, len(inside.dead))}"
            notices.append(Notice(text, "dead-links"))
    if "" not in found and (beside := [name for name in top.folders if name not in found]):
        notices.append(
            Notice(f"folders beside those of the sets, left out: {_listed(beside, len(beside))}", "left-out")
        )
    files = _scan_all(root, class_folders)
    _tell_what_else(root, files, notices)
    members: Members = {s: {c: len(f) for c, f in scanned.items()} for s, scanned in files.items()}
    names = agree_on_classes(root, found, members, classes, notices)
    return _collect(root, found, files, names, notices)


class ImageFolder(FilePictures):
    """The pictures of a folder of class folders, as one collection for your own loop.

    `sets` maps "train", "val" and "test" to indices where the folder is divided that way.

    Args:
        root: see `read_folder`.
        classes: class names in the order wanted; by default natural order.
        channels: 3 for RGB, 1 for grey.

    Raises:
        DataError: see `read_folder`.
    """

    sets: dict[SetName, Indices]

    def __init__(self, root: str | Path, classes: Sequence[str] | None = None, *, channels: int = 3) -> None:
        collection = read_folder(Path(root), classes)
        pictures = collection.pictures
        assert isinstance(pictures, FilePictures)
        super().__init__(pictures.root, pictures.paths, pictures.labels, pictures.classes, channels=channels)
        self.sets = collection.sets


def set_of_folder(name: str) -> SetName | None:
    """Returns the set that a folder of this name holds, None for another name; class folders must lie below it."""
    return _SET_FOLDERS.get("".join(c for c in name.lower() if c not in " -_"))


# What may hold or name the pictures of a folder that has none.
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".7z", ".rar")
_TABLES = (".csv", ".tsv")


@dataclass(frozen=True)
class _Inside:
    """What lies directly in the root or a set's folder: folders by name, and pictures, of which the first are named.

    `dead` are links that lead nowhere: the class folders of a disk that is not mounted, maybe.
    """

    folders: list[str]
    loose: list[str]
    num_loose: int
    dead: list[str]


def _look_into(folder: Path) -> _Inside:
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder. Expected a folder of class folders, such as {folder}/cats and {folder}/dogs."
        )
    folders, loose, dead = [], [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_symlink() and is_dead(folder / entry.name):
                    dead.append(entry.name)
                elif entry.is_dir():
                    if not is_clutter_folder(entry.name):
                        folders.append(entry.name)
                elif is_image_name(entry.name):
                    loose.append(entry.name)
    except OSError as error:
        raise DataError(f"Reading {folder}: {error.strerror}. Make it readable.") from error
    if bad := sorted(name for name in folders if not is_text(name)):
        problems = [f"{shown(str(folder))}: the folder name {name!r} is not UTF-8" for name in bad]
        raise DataError(f"These folders cannot be named in a table:\n{first_of(problems)}\nRename them.")
    return _Inside(sorted(folders), heapq.nsmallest(_FIRST, loose, key=natural_key), len(loose), sorted(dead))


def is_dead(link: Path) -> bool:
    """Returns whether a link leads nowhere, or round in circles."""
    try:
        link.stat()
    except PermissionError:
        return False  # there may be something behind it, which is told by whoever reads it
    except OSError:
        return True
    return False


def _find_sets(root: Path, top: _Inside) -> dict[str, SetName | None]:
    """Returns set folder → set name; `{"": None}` when the class folders lie directly in `root`."""
    found: dict[str, SetName | None] = {}
    for name in top.folders:
        set_name = set_of_folder(name)
        # A class may be called "train" too: it is a set only when class folders lie below it.
        if set_name and _look_into(root / name).folders:
            if set_name in found.values():
                other = next(folder for folder, known in found.items() if known == set_name)
                raise DataError(f"{root} has two folders for the {set_name} set: {other} and {name}. Keep one of them.")
            found[name] = set_name
    if "train" not in found.values():
        if found:
            there = _listed(list(found), len(found))
            raise DataError(f"{root} has {there} but no train folder. Add {root}/train/<class>/….")
        return {"": None}
    return dict(sorted(found.items(), key=lambda item: SET_NAMES.index(item[1] or "train")))


def _class_names(folder: Path, inside: _Inside) -> list[str]:
    """Returns the class folders in natural order. Raises DataError when there are none."""
    if not inside.folders:
        loose = inside.num_loose
        found = f"{count(loose, 'picture')} directly in it and no class folders" if loose else "no class folders in it"
        expected = f"Expected one folder a class, such as {folder}/cats/1.jpg."
        raise DataError(f"Reading {folder}: {found}. {expected}{elsewhere(folder)}")
    return natural_sorted(inside.folders)


def elsewhere(folder: Path) -> str:
    """Says where the pictures of a folder without class folders may be: in an archive, or named by a table."""
    names = natural_sorted(name for name in (path.name for path in folder.iterdir()) if is_text(name))
    archive = next((name for name in names if name.lower().endswith(_ARCHIVES)), None)
    table = next((name for name in names if name.lower().endswith(_TABLES)), None)
    unpack = f" {shown(archive)} is an archive: unpack it first." if archive else ""
    return unpack + (f" {shown(table)} may be a table of pictures: give {shown(str(folder / table))}." if table else "")


def _scan_all(root: Path, class_folders: dict[str, list[str]]) -> dict[str, dict[str, ClassFolder]]:
    """Scans all class folders of all sets side by side; the result does not depend on which is done first."""
    jobs: list[tuple[str, str]] = [(s, c) for s, names in class_folders.items() for c in names]
    above = {
        s: {(i.st_dev, i.st_ino) for i in map(os.stat, (root / s / "x").absolute().parents)} for s in class_folders
    }

    def scan(chunk: list[tuple[str, str]]) -> list[ClassFolder]:
        scanned: list[ClassFolder] = []
        for s, group in itertools.groupby(chunk, key=lambda job: job[0]):
            scanned += scan_classes(str(root), [f"{s}/{c}" if s else c for _, c in group], above[s])
        return scanned

    start = time.perf_counter()
    scanned = scan(jobs[:_TRIED])
    if time.perf_counter() - start < _SLOW_SECONDS * len(scanned):
        scanned += scan(jobs[_TRIED:])
    else:
        threads = min(_THREADS, os.cpu_count() or 1)
        size = max(1, len(jobs) // (threads * 16))
        with ThreadPoolExecutor(threads) as pool:
            chunks = pool.map(scan, (jobs[first : first + size] for first in range(_TRIED, len(jobs), size)))
            scanned += [found for chunk in chunks for found in chunk]
    files: dict[str, dict[str, ClassFolder]] = {s: {} for s in class_folders}
    for (set_folder, class_name), found in zip(jobs, scanned, strict=True):
        files[set_folder][class_name] = found
    return files


def _tell_what_else(root: Path, files: dict[str, dict[str, ClassFolder]], notices: list[str]) -> None:
    """Notes what was left out. Raises DataError when something there cannot be read or named."""
    scanned = [found for classes in files.values() for found in classes.values()]
    if problems := [problem for found in scanned for problem in found.problems]:
        raise DataError(
            f"Reading {root}: {len(problems)} {'things' if len(problems) > 1 else 'thing'} in it cannot be used:\n"
            f"{first_of(problems)}\nMake what is unreadable readable, rename what is not UTF-8, or move it out of DATA."
        )
    others = [name for found in scanned for name in found.others]
    unread = [name for name in others if is_unread_kind(name)]
    kinds: tuple[tuple[str, Kind, list[str]], ...] = (
        ("pictures of kinds that are not read, left out", "unread-kinds", unread),
        ("not pictures by their names, left out", "left-out", [n for n in others if not is_unread_kind(n)]),
        ("neither files nor folders, left out unopened", "left-out", [name for found in scanned for name in found.odd]),
    )
    for text, kind, left_out in kinds:
        if left_out:
            names = heapq.nsmallest(_FIRST, left_out, key=natural_key)
            notices.append(Notice(f"{text}: {_listed(names, len(left_out))}", kind))


def _collect(
    root: Path,
    found: dict[str, SetName | None],
    files: dict[str, dict[str, ClassFolder]],
    names: list[str],
    notices: list[str],
) -> Collection:
    parts: list[ClassFolder] = []
    labels: list[int] = []
    sets: dict[SetName, Indices] = {}
    place = 0
    for set_folder, set_name in found.items():
        start = place
        for label, class_name in enumerate(names):
            part = files[set_folder].get(class_name)
            if part is not None:
                parts.append(part)
                labels.append(label)
                place += len(part.lengths)
        if set_name is not None:
            sets[set_name] = np.arange(start, place)
    counts = [len(part) for part in parts]
    return Collection(
        FilePictures(root, paths_of(parts), np.repeat(np.array(labels, np.int64), counts), names), sets, notices
    )


_FIRST = 5  # names shown of many


def _listed(names: Iterable[str], num: int) -> str:
    """Lists the first of `num` names, in one line, and says how many more there are."""
    first = list(names)[:_FIRST]
    return ", ".join(map(shown, first)) + (f" and {num - len(first)} more" if num > len(first) else "")
