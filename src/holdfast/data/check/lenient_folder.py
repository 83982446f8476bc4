"""A folder that cannot be trained on, walked to the end all the same: every problem of its structure at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from holdfast.data.check.finding import Finding, Item, Severity, shown
from holdfast.data.files import is_image_name, natural_key

_SET_FOLDERS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip


@dataclass
class LenientFolder:
    """What lies below a folder.

    Attributes:
        paths, class_names, sets: one a picture; a picture in no class folder has the class "", and the set "" where the
            folder is not divided.
        classes: those of train in natural order, then those that only other sets know.
        findings: what is wrong.
    """

    paths: list[str] = field(default_factory=list)
    class_names: list[str] = field(default_factory=list)
    sets: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def walk_folder(root: Path, asked: Sequence[str] | None = None) -> LenientFolder:
    """Walks all of `root`; links are followed, loops are not. Args: `asked`, the class list of --classes."""
    found = LenientFolder()
    unreadable: list[str] = []
    set_folders = _set_folders(root, unreadable)
    by_set: dict[str, dict[str, int]] = {}
    for folder, set_name in set_folders:
        by_class = by_set.setdefault(set_name, {})
        for class_name in _subfolders(root / folder, unreadable):
            paths = _pictures_below(root, f"{folder}/{class_name}" if folder else class_name, unreadable)
            by_class[class_name] = by_class.get(class_name, 0) + len(paths)
            _add(found, paths, class_name, set_name)
        loose = [name for name in _listed(root / folder, unreadable) if _is_picture_file(root / folder / name)]
        _add(found, [f"{folder}/{name}" if folder else name for name in loose], "", set_name)
    found.classes = sorted({c for classes in by_set.values() for c in classes}, key=natural_key)
    _note(found, "unreadable-folder", "{} cannot be read", "Make them readable or move them out of DATA.", unreadable)
    _judge(root, found, by_set, asked)
    return found


def _judge(root: Path, found: LenientFolder, by_set: dict[str, dict[str, int]], asked: Sequence[str] | None) -> None:
    """Adds a finding for each way in which the class lists are wrong."""
    train = by_set.get("train", by_set.get("", {}))
    if "" not in by_set and "train" not in by_set:
        found.findings.append(
            Finding("error", "no-train", f"{shown(str(root))} has {', '.join(by_set)} and no train folder",
                    "Add a folder train with one folder a class.")
        )  # fmt: skip
    loose = [path for path, name in zip(found.paths, found.class_names, strict=True) if not name]
    if not found.classes:
        what = f"{len(loose):,} pictures directly in it and no class folders" if loose else "no class folders in it"
        found.findings.append(
            Finding("error", "no-classes", f"{shown(str(root))}: {what}", "Make one folder a class: cats/1.jpg.")
        )
    elif len(train) == 1 and len(found.classes) == 1:
        found.findings.append(
            Finding("error", "one-class", f"there is one class only ({found.classes[0]!r})", "A classifier needs two.")
        )
    else:
        _note(found, "loose-pictures", "{} of no class folder", "Move them into a class folder.", loose, "warning")
    empty = [f"{s + '/' if s else ''}{name}" for s, of in by_set.items() for name, number in of.items() if not number]
    _note(found, "empty-class", "{} without pictures", "Add pictures, or take the folder away in every set.", empty,
          noun="class folder")  # fmt: skip
    unknown = [f"{s}/{name}" for s, of in by_set.items() if "train" in by_set for name in of if name not in train]
    _note(found, "class-not-in-train", "{} that train does not have",
          "Give every set the same class folders; a model cannot learn a class that train lacks.", unknown,
          noun="class", plural="classes")  # fmt: skip
    if asked is not None:
        wrong = [f"{name!r} is listed but not there" for name in asked if name not in train]
        wrong += [f"{name!r} is there but not listed" for name in train if name not in asked]
        wrong += [f"{name!r} is listed twice" for name in dict.fromkeys(asked) if list(asked).count(name) > 1]
        _note(found, "class-list", "{} between --classes and the folders", "Correct --classes.", wrong,
              noun="difference")  # fmt: skip


def _note(
    found: LenientFolder,
    code: str,
    title: str,
    advice: str,
    lines: list[str],
    severity: Severity = "error",
    noun: str = "path",
    plural: str = "",
) -> None:
    if lines:
        counted = f"{len(lines):,} {noun if len(lines) == 1 else plural or noun + 's'}"
        found.findings.append(Finding(severity, code, title.format(counted), advice, [Item(shown(x)) for x in lines]))


def _add(found: LenientFolder, paths: list[str], class_name: str, set_name: str) -> None:
    found.paths += paths
    found.class_names += [class_name] * len(paths)
    found.sets += [set_name] * len(paths)


def _set_folders(root: Path, unreadable: list[str]) -> list[tuple[str, str]]:
    names = [name for name in _subfolders(root, unreadable) if name.lower() in _SET_FOLDERS]
    sets = [(name, _SET_FOLDERS[name.lower()]) for name in names if _subfolders(root / name, [])]
    return sorted(sets, key=lambda one: ("train", "val", "test").index(one[1])) or [("", "")]


def _subfolders(folder: Path, unreadable: list[str]) -> list[str]:
    names = [n for n in _listed(folder, unreadable) if not n.startswith((".", "__")) and (folder / n).is_dir()]
    return sorted(names, key=natural_key)


def _listed(folder: Path, unreadable: list[str]) -> list[str]:
    try:
        return sorted(os.listdir(folder), key=natural_key)  # noqa: PTH208  # names, not paths
    except OSError as error:
        line = f"{folder} ({error.strerror})"
        if line not in unreadable:
            unreadable.append(line)
        return []


def _pictures_below(root: Path, folder: str, unreadable: list[str]) -> list[str]:
    """Returns the pictures at any depth below `root/folder`, by name, as paths below `root`."""
    seen = {(s.st_dev, s.st_ino) for s in map(os.stat, (root / folder).absolute().parents)}
    paths: list[str] = []
    waiting = [folder]
    while waiting:
        below = waiting.pop()
        try:
            status = (root / below).stat()
        except OSError as error:
            unreadable.append(f"{root / below} ({error.strerror})")
            continue
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        for name in _listed(root / below, unreadable):
            if not name.startswith(".") and (root / below / name).is_dir():
                waiting.append(f"{below}/{name}")
            elif _is_picture_file(root / below / name):
                paths.append(f"{below}/{name}")
    return sorted(paths, key=natural_key)


def _is_picture_file(path: Path) -> bool:
    return is_image_name(path.name) and not path.is_dir()
