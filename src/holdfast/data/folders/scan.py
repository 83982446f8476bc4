"""What lies in a class folder, at any depth: its pictures in natural order, and what else there is.

Links are followed, loops are not, and nothing is opened but folders: a pipe named `x.jpg` would hold a reader for ever.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from holdfast.data.files import IMAGE_SUFFIXES, is_image_name
from holdfast.data.folders.listing import (
    FILE,
    FOLDER,
    LINK,
    UNKNOWN,
    Bytes,
    Ints,
    Lengths,
    Names,
    Records,
    kind_of,
    names_of,
    words_at,
)
from holdfast.data.folders.natural import natural_key, natural_order, order_in_folders
from holdfast.data.paths import PathTable

Inode = tuple[int, int]  # device and number: what a folder is, whatever path led there
_CLUTTER = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini"})
# Copies for other systems' use: of a Mac's archive, of a Synology's thumbnails, what Windows deleted.
_CLUTTER_FOLDERS = frozenset(
    {"__macosx", "__pycache__", "@eadir", "$recycle.bin", "system volume information", "lost+found"}
)
_LONGEST_SUFFIX = max(map(len, IMAGE_SUFFIXES))
_SHORTEST_NAME = min(map(len, IMAGE_SUFFIXES)) + 1
_TOGETHER = 1 << 18  # bytes of records taken apart together: they and what is made of them stay in the cache
_NOTHING: list[str] = []  # of all plain folders, never added to: ten thousand lists would wake the collector
_FEW = 32  # names: from here on arrays are quicker
_ASCII = 0x80  # bytes below it are ASCII in UTF-8


@dataclass(slots=True)
class ClassFolder:
    """The pictures of a class in natural order, as `PathTable` takes them, and what else lies there.

    Attributes:
        names: `[*]` uint8, UTF-8, one name after the other.
        lengths: `[n]` uint16, bytes of each name.
        folder_of: `[n]` int32, places in `folders`.
        folders: paths below the root, with a `/` at the end.
        others: files that are no pictures by their names.
        odd: pipes, sockets and devices.
        unreadable: folders that cannot be read, one line each.
        misnamed: files and folders whose names are not UTF-8, one line each.
    """

    names: Bytes = field(default_factory=lambda: np.zeros(0, np.uint8))
    lengths: Lengths = field(default_factory=lambda: np.zeros(0, np.uint16))
    folder_of: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
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
    """Finds what lies in `root/folder`: see `scan_classes`."""
    return scan_classes(root, [folder], above)[0]


def scan_classes(root: str, folders: Sequence[str], above: Iterable[Inode]) -> list[ClassFolder]:
    """Finds what lies in each of the class folders.

    Those that hold nothing but files named as pictures, alike but for one number, are put in order together; each of
    the others by itself.

    Args:
        folders: the class folders' paths below `root`, with `/`.
        above: the folders that they lie in. A link to one of them would bring in the other classes' pictures under this
            class's name.
    """
    found: dict[str, ClassFolder] = {}
    begin = os.path.join(root, "")  # noqa: PTH118  # a Path a folder is a tenth of the time
    outside, records = frozenset(above), Records()
    read: list[tuple[str, Inode]] = []
    for folder in folders:
        try:
            inode = _read(begin + folder, records, outside)
        except OSError as error:
            found[folder] = ClassFolder(unreadable=[f"{shown(begin + folder)}: {error.strerror}"])
            continue
        if inode is None:
            found[folder] = ClassFolder()
            continue
        read.append((folder, inode))
        if records.num_bytes >= _TOGETHER:
            found |= _take_apart(begin, records, read, outside)
            read = []
    found |= _take_apart(begin, records, read, outside)
    return [found[folder] for folder in folders]


def _read(path: str, records: Records, seen: Container[Inode]) -> Inode | None:
    """Adds a folder to `records`, and returns which it is; None when it is among `seen`. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        inode = (status.st_dev, status.st_ino)
        if inode in seen:
            return None
        records.add(descriptor)
        return inode
    finally:
        os.close(descriptor)


def _take_apart(
    begin: str, records: Records, read: list[tuple[str, Inode]], outside: frozenset[Inode]
) -> dict[str, ClassFolder]:
    """Returns what `records` say of the class folders that were `read`, and clears them."""
    names, firsts = records.names()
    counts = np.diff(firsts)
    plain = np.ones(len(read), np.bool_)  # folders that hold nothing else
    plain[np.searchsorted(firsts, np.flatnonzero(~_plain_pictures(names)), "right") - 1] = False
    plain &= counts > 0
    folders = [folder for (folder, _), is_plain in zip(read, plain.tolist(), strict=True) if is_plain]
    found = {}
    if folders:
        pictures = names if plain.all() else names.take(np.repeat(plain, counts))
        found = _plain_folders(folders, pictures, np.concatenate([[0], np.cumsum(counts[plain])]))
    for place, (folder, inode) in enumerate(read):
        if folder not in found:
            entries = names.take(np.arange(firsts[place], firsts[place + 1]))
            found[folder] = _walk(begin, folder, entries, {*outside, inode})
    records.clear()
    return found


def _plain_folders(folders: list[str], names: Names, firsts: Ints) -> dict[str, ClassFolder]:
    """Returns those class folders whose pictures can be put in order together.

    Args:
        names: the pictures of one folder after the other.
        firsts: `[F + 1]`: where those of each folder begin.
    """
    order, sure = order_in_folders(names, firsts)
    names = names.take(order)
    data, lengths = names.compact(), names.lengths()
    only_folder = np.zeros(len(names), np.int32)
    edges = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])[firsts].tolist()
    bounds, is_sure, is_ascii = firsts.tolist(), sure.tolist(), bool(data.max() < _ASCII)
    found = {}
    for place, folder in enumerate(folders):
        part, start, end = data[edges[place] : edges[place + 1]], bounds[place], bounds[place + 1]
        if is_sure[place] and (is_ascii or part.max() < _ASCII):
            found[folder] = ClassFolder(
                part, lengths[start:end], only_folder[start:end], [f"{folder}/"], *(_NOTHING,) * 4
            )
    return found


def _walk(begin: str, folder: str, entries: Names, seen: set[Inode]) -> ClassFolder:
    """Finds what lies in a class folder whose own entries were read, and in all folders below it.

    Args:
        seen: this folder and those that it lies in; changed.
    """
    found = ClassFolder()
    parts: list[tuple[Bytes, Lengths]] = []
    waiting: list[str] = []
    for below, names_in_it in _folders_below(begin, folder, entries, seen, waiting, found):
        folders, names, lengths = _look_into(names_in_it, begin + below, f"{below}/", found)
        waiting += [f"{below}/{name}" for name in sorted(folders, reverse=True)]
        if len(lengths):
            found.folders.append(f"{below}/")
            parts.append((names, lengths))
    _join(parts, found)
    return found


def _folders_below(
    begin: str, folder: str, entries: Names, seen: set[Inode], waiting: list[str], found: ClassFolder
) -> Iterator[tuple[str, Names]]:
    """Yields the folder, then those that are put into `waiting`, with what is in each; none twice."""
    yield folder, entries
    records = Records()
    while waiting:
        below = waiting.pop()
        records.clear()
        try:
            inode = _read(begin + below, records, seen)
        except OSError as error:
            found.unreadable.append(f"{shown(begin + below)}: {error.strerror}")
            continue
        if inode is not None:
            seen.add(inode)
            yield below, records.names()[0]


def is_clutter_folder(name: str) -> bool:
    """Returns whether a folder of this name is hidden or another system's: it is passed over without a word."""
    return name.startswith(".") or name.lower() in _CLUTTER_FOLDERS


def shown(name: str) -> str:
    """Returns a name as one line of a message holds it: a line break or what is no text is written as an escape."""
    return name if name.isprintable() else repr(name)[1:-1]


def _look_into(names: Names, path: str, prefix: str, found: ClassFolder) -> tuple[list[str], Bytes, Lengths]:
    """Returns a folder's subfolders, and its pictures' names in natural order: all bytes, and the length of each.

    Whatever is not plainly a picture is looked at by itself; so is all in a folder of few names.
    """
    plain = _plain_pictures(names) if len(names) > _FEW else np.zeros(len(names), np.bool_)
    many = names.take(plain)
    entries = [(names.name(i), int(names.kinds[i])) for i in np.flatnonzero(~plain).tolist()]
    folders: list[str] = []
    pictures: list[str] = []
    for name, kind in entries:
        text = os.fsdecode(name)
        if kind in (LINK, UNKNOWN):
            kind = _kind_behind(name, path)  # noqa: PLW2901
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
    if not len(many):
        return folders, *_few_in_order(pictures)
    if pictures:
        every = [many.name(i) for i in range(len(many))] + [text.encode() for text in pictures]
        many = names_of(every, np.full(len(every), FILE, np.uint8))
    return folders, *_many_in_order(many, path, found)


def _kind_behind(name: bytes, path: str) -> int:
    try:
        return kind_of(os.stat(os.path.join(os.fsencode(path), name)).st_mode)  # noqa: PTH116, PTH118  # not all is text
    except OSError:
        return FILE  # a link that leads nowhere is kept, to be named when it is read


def _keep(text: str, what: str, kept: list[str], path: str, found: ClassFolder) -> None:
    if is_text(text):
        kept.append(text)
    else:
        found.misnamed.append(f"{shown(path)}: the {what} name {text!r} is not UTF-8")


def _few_in_order(pictures: list[str]) -> tuple[Bytes, Lengths]:
    names = [text.encode() for text in sorted(pictures, key=natural_key)]
    return np.frombuffer(b"".join(names), np.uint8), np.array([len(name) for name in names], np.uint16)


def _many_in_order(names: Names, path: str, found: ClassFolder) -> tuple[Bytes, Lengths]:
    names = names.take(natural_order(names))
    data = names.compact()
    if data.max() < _ASCII:
        return data, names.lengths()
    kept: list[str] = []
    for index in range(len(names)):
        _keep(os.fsdecode(names.name(index)), "file", kept, path, found)
    return (data, names.lengths()) if len(kept) == len(names) else _few_in_order(kept)


def _plain_pictures(names: Names) -> npt.NDArray[np.bool_]:
    """Returns a mask of what is a file, not hidden, and named as pictures are."""
    plain: npt.NDArray[np.bool_] = (names.kinds == FILE) & (names.data[names.starts] != ord("."))
    plain &= _named_as_pictures(names)
    return plain


def _named_as_pictures(names: Names) -> npt.NDArray[np.bool_]:
    """Returns a mask of the names that end as pictures' do: `is_image_name` for a whole folder, hidden files aside."""
    # The last bytes of each name as one number. Folders hold few endings, and each is looked at once.
    endings = words_at(names.data, names.ends - 8) >> np.uint64(8 * (8 - _LONGEST_SUFFIX))
    if not len(endings):
        return np.zeros(0, np.bool_)
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
    counts, num_folders = [len(part) for part in parts], [len(part.folders) for part in parts]
    folder_of = np.concatenate([part.folder_of for part in parts])
    folder_of += np.repeat(np.cumsum([0, *num_folders[:-1]], dtype=np.int32), counts)
    return PathTable(
        np.concatenate([part.names for part in parts]),
        np.concatenate([part.lengths for part in parts]),
        folder_of,
        [folder for part in parts for folder in part.folders],
    )


def _join(parts: list[tuple[Bytes, Lengths]], found: ClassFolder) -> None:
    """Puts the pictures of all folders of a class into `found`, in the natural order of their paths."""
    if not parts:
        return
    if len(parts) == 1:
        found.names, found.lengths = parts[0]
        found.folder_of = np.zeros(len(found.lengths), np.int32)
        return
    found.names = np.concatenate([names for names, _ in parts])
    found.lengths = np.concatenate([lengths for _, lengths in parts])
    found.folder_of = np.repeat(np.arange(len(parts), dtype=np.int32), [len(lengths) for _, lengths in parts])
    ends = np.cumsum(found.lengths, dtype=np.int64)
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
