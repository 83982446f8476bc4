"""What lies in a class folder, at any depth: its pictures in natural order, and what else there is.

Links are followed, loops are not, and nothing is opened but folders: a pipe named `x.jpg` would hold a reader for ever.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from holdfast.data.files import IMAGE_SUFFIXES, is_image_name
from holdfast.data.listing import (
    FILE,
    FOLDER,
    LINK,
    UNKNOWN,
    Bytes,
    Ints,
    Names,
    kind_of,
    list_folder,
    names_of,
    words_at,
)
from holdfast.data.natural import natural_key, natural_order
from holdfast.data.paths import PathTable

Inode = tuple[int, int]  # device and number: what a folder is, whatever path led there
_CLUTTER = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini"})
# Copies for other systems' use: of a Mac's archive, of a Synology's thumbnails, what Windows deleted.
_CLUTTER_FOLDERS = frozenset(
    {"__macosx", "__pycache__", "@eadir", "$recycle.bin", "system volume information", "lost+found"}
)
_LONGEST_SUFFIX = max(map(len, IMAGE_SUFFIXES))
_SHORTEST_NAME = min(map(len, IMAGE_SUFFIXES)) + 1


@dataclass
class ClassFolder:
    """The pictures of a class in natural order, as `PathTable` takes them, and what else lies there.

    Attributes:
        names: `[*]` uint8, UTF-8, one name after the other.
        lengths: `[n]` int64, bytes of each name.
        folder_of: `[n]` int64, places in `folders`.
        folders: paths below the root, with a `/` at the end.
        others: files that are no pictures by their names.
        odd: pipes, sockets and devices.
        unreadable: folders that cannot be read, one line each.
        misnamed: files and folders whose names are not UTF-8, one line each.
    """

    names: Bytes = field(default_factory=lambda: np.zeros(0, np.uint8))
    lengths: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    folder_of: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    folders: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    misnamed: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """What cannot be read or named, one line each."""
        return self.unreadable + self.misnamed

    def __len__(self) -> int:
        return len(self.lengths)


def scan_class(root: str, folder: str, above: Iterable[Inode]) -> ClassFolder:
    """Finds what lies in `root/folder`.

    Args:
        folder: the class folder's path below `root`, with `/`.
        above: the folders that it lies in. A link to one of them would bring in the other classes' pictures under this
            class's name.
    """
    found = ClassFolder()
    parts: list[tuple[Bytes, Ints]] = []
    seen = set(above)
    waiting = [folder]
    while waiting:
        below = waiting.pop()
        path = os.path.join(root, below)  # noqa: PTH118  # a Path a folder is a tenth of the time
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                status = os.fstat(descriptor)
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
                folders, names, lengths = _look_into(descriptor, path, f"{below}/", found)
            finally:
                os.close(descriptor)
        except OSError as error:
            found.unreadable.append(f"{shown(path)}: {error.strerror}")
            continue
        waiting += [f"{below}/{name}" for name in sorted(folders, reverse=True)]
        if len(lengths):
            found.folders.append(f"{below}/")
            parts.append((names, lengths))
    _join(parts, found)
    return found


def is_clutter_folder(name: str) -> bool:
    """Returns whether a folder of this name is hidden or another system's: it is passed over without a word."""
    return name.startswith(".") or name.lower() in _CLUTTER_FOLDERS


def shown(name: str) -> str:
    """Returns a name as one line of a message holds it: a line break or what is no text is written as an escape."""
    return name if name.isprintable() else repr(name)[1:-1]


def _look_into(descriptor: int, path: str, prefix: str, found: ClassFolder) -> tuple[list[str], Bytes, Ints]:
    """Returns a folder's subfolders, and its pictures' names in natural order: all bytes, and the length of each.

    Whatever is not plainly a picture is looked at by itself.
    """
    entries = list_folder(descriptor)
    many: Names | None = None
    if isinstance(entries, Names):
        plain = _plain_pictures(entries)
        many = entries.take(plain)
        entries = [(entries.name(i), int(entries.kinds[i])) for i in np.flatnonzero(~plain).tolist()]
    folders: list[str] = []
    pictures: list[str] = []
    for name, kind in entries:
        text = os.fsdecode(name)
        if kind in (LINK, UNKNOWN):
            kind = _kind_behind(name, descriptor)  # noqa: PLW2901
        if kind == FOLDER:
            if not is_clutter_folder(text):
                _keep(text, "folder", folders, path, found)
        elif text.startswith("."):
            continue
        elif kind != FILE:
            found.odd.append(prefix + text)
        elif is_image_name(text):
            _keep(text, "file", pictures, path, found)
        elif text.lower() not in _CLUTTER:
            found.others.append(prefix + text)
    if many is None or not len(many):
        return folders, *_few_in_order(pictures)
    if pictures:
        every = [many.name(i) for i in range(len(many))] + [text.encode() for text in pictures]
        many = names_of(every, np.full(len(every), FILE, np.uint8))
    return folders, *_many_in_order(many, path, found)


def _kind_behind(name: bytes, descriptor: int) -> int:
    try:
        return kind_of(os.stat(name, dir_fd=descriptor).st_mode)  # a Path knows no descriptor
    except OSError:
        return FILE  # a link that leads nowhere is kept, to be named when it is read


def _keep(text: str, what: str, kept: list[str], path: str, found: ClassFolder) -> None:
    if is_text(text):
        kept.append(text)
    else:
        found.misnamed.append(f"{shown(path)}: the {what} name {text!r} is not UTF-8")


def _few_in_order(pictures: list[str]) -> tuple[Bytes, Ints]:
    names = [text.encode() for text in sorted(pictures, key=natural_key)]
    return np.frombuffer(b"".join(names), np.uint8), np.array([len(name) for name in names], np.int64)


def _many_in_order(names: Names, path: str, found: ClassFolder) -> tuple[Bytes, Ints]:
    names = names.take(natural_order(names))
    data = names.compact()
    if data.max() < 0x80:  # ASCII alone
        return data, names.ends - names.starts
    kept: list[str] = []
    for index in range(len(names)):
        _keep(os.fsdecode(names.name(index)), "file", kept, path, found)
    return (data, names.ends - names.starts) if len(kept) == len(names) else _few_in_order(kept)


def _plain_pictures(names: Names) -> npt.NDArray[np.bool_]:
    """Returns a mask of what is a file, not hidden, and named as pictures are."""
    plain: npt.NDArray[np.bool_] = (names.kinds == FILE) & (names.data[names.starts] != ord("."))
    plain &= _named_as_pictures(names)
    return plain


def _named_as_pictures(names: Names) -> npt.NDArray[np.bool_]:
    """Returns a mask of the names that end as pictures' do: `is_image_name` for a whole folder, hidden files aside."""
    # The last bytes of each name as one number. Folders hold few endings, and each is looked at once.
    endings = words_at(names.data, names.ends - 8) >> np.uint64(8 * (8 - _LONGEST_SUFFIX))
    if (endings == endings[0]).all():
        is_picture = np.full(len(names), _is_picture_ending(int(endings[0])))
    else:
        different, which = np.unique(endings, return_inverse=True)
        is_picture = np.array([_is_picture_ending(int(e)) for e in different])[which]
    # What stands before a shorter name is not its own.
    is_picture &= names.ends - names.starts >= _SHORTEST_NAME
    return is_picture


@lru_cache(4096)
def _is_picture_ending(ending: int) -> bool:
    return is_image_name("_" + ending.to_bytes(8, "little")[:_LONGEST_SUFFIX].decode("latin-1"))


def paths_of(parts: Sequence[ClassFolder]) -> PathTable:
    """Returns the pictures of class folders, one folder's after the other's; at least one folder."""
    firsts = np.cumsum([0, *(len(part.folders) for part in parts)])
    return PathTable(
        np.concatenate([part.names for part in parts]),
        np.cumsum(np.concatenate([part.lengths for part in parts])),
        np.concatenate([part.folder_of + first for part, first in zip(parts, firsts[:-1], strict=True)]),
        [folder for part in parts for folder in part.folders],
    )


def _join(parts: list[tuple[Bytes, Ints]], found: ClassFolder) -> None:
    """Puts the pictures of all folders of a class into `found`, in the natural order of their paths."""
    if not parts:
        return
    if len(parts) == 1:
        found.names, found.lengths = parts[0]
        found.folder_of = np.broadcast_to(np.int64(0), len(found.lengths))
        return
    found.names = np.concatenate([names for names, _ in parts])
    found.lengths = np.concatenate([lengths for _, lengths in parts])
    found.folder_of = np.repeat(np.arange(len(parts)), [len(lengths) for _, lengths in parts])
    ends = np.cumsum(found.lengths)
    starts = ends - found.lengths
    if (folder_order := _order_of_folders(found.folders)) is not None:
        rank = np.argsort(folder_order)
        order = np.argsort(rank[found.folder_of], kind="stable")
    else:
        prefixes, data = [os.fsencode(folder) for folder in found.folders], found.names.tobytes()
        places = zip(found.folder_of.tolist(), starts.tolist(), ends.tolist(), strict=True)
        paths = [prefixes[folder] + data[start:end] for folder, start, end in places]
        order = natural_order(names_of(paths, np.zeros(len(paths), np.uint8)))
    room = np.zeros(int(found.lengths.max()), np.uint8)  # for a window at the last name
    names = Names(np.concatenate([found.names, room]), starts[order], ends[order], room)
    found.names, found.lengths, found.folder_of = names.compact(), found.lengths[order], found.folder_of[order]


def _order_of_folders(folders: list[str]) -> Ints | None:
    """Returns the natural order of folders if their pictures stay together in it, else None.

    They do unless a folder with pictures lies in another one: `b.png`, `c/1.png`, `d.png`.
    """
    order = sorted(range(len(folders)), key=lambda i: natural_key(folders[i]))
    plain = [re.sub(r"\d+", lambda number: str(int(number[0])), folders[i]) for i in order]
    if any(after.startswith(before) for before, after in itertools.pairwise(plain)):
        return None
    return np.array(order, np.int64)


def is_text(name: str) -> bool:
    """Whether a file name is UTF-8; Python reads other bytes as lone surrogates, which no table can hold."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
