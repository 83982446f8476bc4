"""A folder of class folders: `root/<class>/*`, or `root/train|val|test/<class>/*`.

Read-only. The order of classes is natural ("2" before "10") unless a list is given, and every set shares it, so a
class that one set lacks never shifts another's index.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from holdfast.data.files import FilePictures, is_image_name, labels_array, natural_key
from holdfast.data.sample import SET_NAMES, Collection, Indices, SetName
from holdfast.errors import DataError, first_of

_SET_FOLDERS: dict[str, SetName] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_CLUTTER = frozenset({"thumbs.db", "desktop.ini"})


def read_folder(root: Path, classes: Sequence[str] | None = None) -> Collection:
    """Finds the pictures, classes and sets below `root`.

    Args:
        root: the folder; links are followed, loops are not.
        classes: the class names in the order wanted; by default the names found, in natural order.

    Raises:
        DataError: there are no pictures; a class is listed but absent, present but not listed, empty, or known only
            to val or test. All problems at once.
    """
    found = _find_sets(root)
    notices: list[str] = []
    files: dict[str, dict[str, list[str]]] = {}
    for set_folder in found:
        files[set_folder] = {c: [] for c in _class_folders(root / set_folder)}
        if loose := _loose_pictures(root / set_folder):
            notices.append(f"pictures in no class folder of {root / set_folder}, left out: {_listed(loose)}")
        for class_name, paths in files[set_folder].items():
            paths.extend(_scan(root / set_folder / class_name, root, notices))
    names = _agree_on_classes(root, found, files, classes, notices)
    paths, labels, sets = [], [], {}
    for set_folder, set_name in found.items():
        start = len(paths)
        for label, class_name in enumerate(names):
            members = files[set_folder].get(class_name, [])
            paths.extend(members)
            labels.extend([label] * len(members))
        if set_name is not None:
            sets[set_name] = np.arange(start, len(paths))
    if all(name.isdecimal() for name in names):
        shown = ", ".join(f"{name}→{index}" for index, name in enumerate(names[:12])) + (
            ", …" if len(names) > 12 else ""
        )
        notices.append(f"class folders are numbers; folder → index in natural order: {shown}")
    return Collection(FilePictures(root, paths, labels_array(labels), names), sets, notices)


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


def _find_sets(root: Path) -> dict[str, SetName | None]:
    """Returns set folder → set name; `{"": None}` when the class folders lie directly in `root`."""
    if not root.is_dir():
        raise DataError(
            f"{root} is not a folder. Expected a folder of class folders, such as {root}/cats and {root}/dogs."
        )
    found: dict[str, SetName | None] = {}
    for name in _subfolders(root):
        set_name = _SET_FOLDERS.get(name.lower())
        # A class may be called "train" too: it is a set only when class folders lie below it.
        if set_name and _subfolders(root / name):
            if set_name in found.values():
                raise DataError(f"{root} has two folders for the {set_name} set. Keep one of them.")
            found[name] = set_name
    if "train" not in found.values():
        if found:
            raise DataError(f"{root} has {_listed(list(found))} but no train folder. Add {root}/train/<class>/….")
        return {"": None}
    return dict(sorted(found.items(), key=lambda item: SET_NAMES.index(item[1] or "train")))


def _class_folders(folder: Path) -> list[str]:
    names = sorted(_subfolders(folder), key=natural_key)
    if not names:
        loose = len(_loose_pictures(folder))
        found = f"{loose} pictures directly in it and no class folders" if loose else "no class folders in it"
        raise DataError(f"Reading {folder}: {found}. Expected one folder a class, such as {folder}/cats/1.jpg.")
    return names


def _loose_pictures(folder: Path) -> list[str]:
    return sorted((e.name for e in os.scandir(folder) if is_image_name(e.name) and not e.is_dir()), key=natural_key)


def _scan(folder: Path, root: Path, notices: list[str]) -> Iterator[str]:
    """Yields the pictures at any depth below a class folder, as paths below `root`, in natural order."""
    # A link to a folder above this one would bring in the other classes' pictures under this class's name.
    seen = {(s.st_dev, s.st_ino) for s in map(os.stat, folder.absolute().parents)}
    others: list[str] = []
    paths: list[str] = []

    def fail(error: OSError) -> None:
        raise DataError(f"Reading {error.filename}: {error.strerror}. Make it readable or move it out of DATA.")

    for directory, subfolders, names in os.walk(folder, followlinks=True, onerror=fail):
        status = os.stat(directory)  # noqa: PTH116
        if (status.st_dev, status.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        prefix = os.path.relpath(directory, root).replace(os.sep, "/")
        for name in names:
            if not _is_text(name):
                raise DataError(f"Reading {directory}: the file name {name!r} is not UTF-8. Rename the file.")
            if is_image_name(name):
                paths.append(f"{prefix}/{name}")
            elif not name.startswith(".") and name.lower() not in _CLUTTER:
                others.append(f"{prefix}/{name}")
    if others:
        notices.append(f"not pictures by their names, left out: {_listed(sorted(others, key=natural_key))}")
    yield from sorted(paths, key=natural_key)


def _agree_on_classes(
    root: Path,
    found: dict[str, SetName | None],
    files: dict[str, dict[str, list[str]]],
    asked: Sequence[str] | None,
    notices: list[str],
) -> list[str]:
    """Returns the one class list of all sets, or raises with everything that is wrong with it."""
    train = next(iter(found))
    problems: list[str] = []
    for set_folder, classes in files.items():
        problems.extend(
            f"{root / set_folder / name}: no pictures in this class" for name, paths in classes.items() if not paths
        )
    names = list(asked) if asked is not None else list(files[train])
    if asked is not None:
        problems.extend(
            f"class {name!r} is listed but {root / train / name} is not there"
            for name in names
            if name not in files[train]
        )
        problems.extend(f"class {name!r} is listed twice" for name in dict.fromkeys(names) if names.count(name) > 1)
        problems.extend(
            f"class {name!r} is in {root / train} but not in the list of classes"
            for name in files[train]
            if name not in names
        )
    for set_folder, set_name in found.items():
        if set_folder == train:
            continue
        for name in files[set_folder]:
            if name not in files[train]:
                problems.append(f"class {name!r} is in {set_name} but not in train ({root / set_folder / name})")
        for name in files[train]:
            if name not in files[set_folder]:
                notices.append(f"class {name!r} has no pictures in {set_name}; indices stay as they are in train")
    if problems:
        raise DataError(
            f"The class folders of {root} do not agree ({len(problems)} problem{'s' if len(problems) > 1 else ''}):\n"
            f"{first_of(problems)}\nMake every set's class folders the same, or give the list with --classes."
        )
    if len(names) < 2:
        raise DataError(
            f"{root / train} has one class only ({names[0]!r}). A classifier needs two; add a second class folder."
        )
    return names


def _subfolders(folder: Path) -> list[str]:
    try:
        return sorted(e.name for e in os.scandir(folder) if e.is_dir() and not e.name.startswith((".", "__")))
    except OSError as error:
        raise DataError(f"Reading {folder}: {error.strerror}. Make it readable.") from error


def _listed(names: list[str], limit: int = 5) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _is_text(name: str) -> bool:
    """Whether a file name is UTF-8; Python reads other bytes as lone surrogates, which no table can hold."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
