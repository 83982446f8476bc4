"""A folder that cannot be trained on, walked to the end all the same: every problem of its structure at once."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from holdfast.data.check.finding import Finding, Item, Severity, shown
from holdfast.data.files import is_image_name, is_unread_kind, natural_key
from holdfast.data.folders.folder import elsewhere, is_dead, set_of_folder
from holdfast.data.folders.scan import is_clutter_folder, is_text, paths_of, scan_class
from holdfast.data.sample import SET_NAMES
from holdfast.words import count


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

    def add(self, paths: Sequence[str], class_name: str, set_name: str) -> None:
        """Adds pictures of one class and set."""
        self.paths += paths
        self.class_names += [class_name] * len(paths)
        self.sets += [set_name] * len(paths)

    def note(self, severity: Severity, code: str, title: str, advice: str, lines: Sequence[str] = ()) -> None:
        """Adds a finding with a line a case."""
        self.findings.append(Finding(severity, code, title, advice, [Item(shown(line)) for line in lines]))


@dataclass
class _Trouble:
    """What cannot be read, named or followed, and what was passed over, one line each."""

    unreadable: list[str] = field(default_factory=list)
    misnamed: list[str] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)


def walk_folder(root: Path, asked: Sequence[str] | None = None) -> LenientFolder:
    """Walks all of `root`; links are followed, loops are not. Args: `asked`, the class list of --classes."""
    found, trouble = LenientFolder(), _Trouble()
    set_folders = _set_folders(root, trouble)
    by_set: dict[str, dict[str, int]] = {}
    for folder, set_name in set_folders:
        by_class = by_set.setdefault(set_name, {})
        class_folders, loose = _look_into(root, folder, trouble)
        above = {(s.st_dev, s.st_ino) for s in map(os.stat, (root / folder / "x").absolute().parents)}
        for class_name in class_folders:
            part = scan_class(str(root), f"{folder}/{class_name}" if folder else class_name, above)
            trouble.unreadable += [line.removeprefix(f"{root}/") for line in part.unreadable]
            trouble.misnamed += [line.removeprefix(f"{root}/") for line in part.misnamed]
            trouble.odd += part.odd
            trouble.others += part.others
            by_class[class_name] = by_class.get(class_name, 0) + len(part)
            found.add(list(paths_of([part])) if len(part) else [], class_name, set_name)
        found.add([f"{folder}/{name}" if folder else name for name in loose], "", set_name)
    train = by_set.get("train", by_set.get("", {}))
    others = {c for classes in by_set.values() for c in classes if c not in train}
    found.classes = [*sorted(train, key=natural_key), *sorted(others, key=natural_key)]
    _judge_sets(root, found, trouble, set_folders, by_set)
    _judge_classes(root, found, trouble, by_set, train)
    if asked is not None:
        _compare_with_list(found, asked, train)
    _tell(found, trouble)
    return found


def _judge_sets(
    root: Path,
    found: LenientFolder,
    trouble: _Trouble,
    set_folders: list[tuple[str, str]],
    by_set: dict[str, dict[str, int]],
) -> None:
    """Adds a finding where train is missing, a set has two folders, or there is no class at all."""
    if "" not in by_set and "train" not in by_set:
        there = ", ".join(shown(folder) for folder, _ in set_folders)
        title = f"{shown(str(root))} has {there} and no train folder"
        found.note("error", "no-train", title, "Add a folder train with one folder a class.")
    folders: dict[str, list[str]] = defaultdict(list)
    for folder, set_name in set_folders:
        folders[set_name].append(folder)
    twice = [f"{name}: {' and '.join(of)}" for name, of in folders.items() if len(of) > 1]
    if twice:
        title = f"{count(len(twice), 'set has', 'sets have')} more than one folder"
        found.note("error", "set-folder-twice", title, "Keep one of each.", twice)
    loose = [path for path, name in zip(found.paths, found.class_names, strict=True) if not name]
    if not found.classes and trouble.unreadable:
        pass  # there may be some where we cannot look, and that is told
    elif not found.classes:
        what = f"{count(len(loose), 'picture')} directly in it and no" if loose else "no class folders and no"
        where = f"{shown(str(root))}: {what} {'class folders' if loose else 'pictures in it'}"
        found.note("error", "no-classes", where, f"Make one folder a class: cats/1.jpg.{elsewhere(root)}")
    elif loose:
        title = f"{count(len(loose), 'picture')} in no class folder"
        found.note("warning", "loose-pictures", title, "Move into a class folder.", loose)


def _judge_classes(
    root: Path, found: LenientFolder, trouble: _Trouble, by_set: dict[str, dict[str, int]], train: dict[str, int]
) -> None:
    """Adds a finding for each way in which classes are too few, empty, or others than train's."""
    unread = {line.rpartition(": ")[0] for line in trouble.unreadable}
    if len(train) == 1 and len(found.classes) == 1 and not unread and not trouble.misnamed:
        title = f"there is one class only ({found.classes[0]!r})"
        deeper = _deeper(root / found.classes[0]) if "" in by_set else None
        advice = "A classifier needs two; each is a folder of its own."
        if deeper is not None:
            advice = f"Is {shown(str(deeper))} meant? The class folders seem to lie there."
        found.note("error", "one-class", title, advice)
    empty = [f"{s}/{name}" if s else name for s, of in by_set.items() for name, number in of.items() if not number]
    empty = [path for path in empty if path not in unread]
    if empty:
        title = f"{count(len(empty), 'class folder')} without pictures"
        found.note("error", "empty-class", title, "Add pictures, or take the folder away in every set.", empty)
    unknown = [f"{s}/{name}" for s, of in by_set.items() if "train" in by_set for name in of if name not in train]
    if unknown and not any(set_of_folder(path) == "train" for path in unread):
        title = f"{count(len(unknown), 'class', 'classes')} that train does not have"
        advice = "Give every set the same class folders; a model cannot learn a class that train lacks."
        found.note("error", "class-not-in-train", title, advice, unknown)


def _deeper(folder: Path) -> Path | None:
    """Returns the first folder below, down a chain of single folders, that holds several: an archive's own folder."""
    for _ in range(8):
        inside, loose = _look_into(folder, "", _Trouble())
        if loose or not inside:
            return None
        if len(inside) > 1:
            return folder
        folder /= inside[0]
    return None


def _compare_with_list(found: LenientFolder, asked: Sequence[str], train: dict[str, int]) -> None:
    wrong = [f"{name!r} is listed but not there" for name in dict.fromkeys(asked) if name not in train]
    wrong += [f"{name!r} is there but not listed" for name in train if name not in asked]
    wrong += [f"{name!r} is listed twice" for name in dict.fromkeys(asked) if list(asked).count(name) > 1]
    if wrong:
        title = f"{count(len(wrong), 'difference')} between --classes and the folders"
        found.note("error", "class-list", title, "Correct --classes.", wrong)


_PLURALS = {"pipe, socket or device": "pipes, sockets or devices"}


def _tell(found: LenientFolder, trouble: _Trouble) -> None:
    """Adds a finding for each kind of trouble."""
    kinds: tuple[tuple[Severity, str, list[str], str, str, str], ...] = (
        ("error", "unreadable-folder", trouble.unreadable, "folder", "that cannot be read",
         "Make readable, or move out of DATA."),
        ("error", "misnamed", trouble.misnamed, "name", "in other bytes than UTF-8", "Rename: no table can hold them."),
        ("warning", "dead-links", trouble.dead, "link", "leading nowhere, left out", "Mend: a class may be missing."),
        ("warning", "unread-kinds", [name for name in trouble.others if is_unread_kind(name)], "picture",
         "of kinds that are not read, left out", "Convert to JPEG or PNG."),
        ("note", "left-out", trouble.odd, "pipe, socket or device", "left out unopened", ""),
        ("note", "left-out", [name for name in trouble.others if not is_unread_kind(name)], "file",
         "left out: not named as pictures are", ""),
        ("note", "left-out", trouble.beside, "folder", "beside those of the sets, left out", ""),
    )  # fmt: skip
    for severity, code, lines, noun, what, advice in kinds:
        if lines:
            found.note(
                severity,
                code,
                f"{count(len(lines), noun, _PLURALS.get(noun))} {what}",
                advice,
                sorted(lines, key=natural_key),
            )


def _set_folders(root: Path, trouble: _Trouble) -> list[tuple[str, str]]:
    """Returns (folder, set), train first; `("", "")` where the class folders lie directly in `root`."""
    names = _look_into(root, "", _Trouble())[0]
    sets: list[tuple[str, str]] = []
    for name in names:
        unknown = _Trouble()
        # One that cannot be looked into is taken for a set: it has the name of one.
        if (set_name := set_of_folder(name)) and (_look_into(root, name, unknown)[0] or unknown.unreadable):
            sets.append((name, set_name))
    if not sets:
        return [("", "")]
    ours = {name for name, _ in sets}
    trouble.beside += [name for name in names if name not in ours]
    return sorted(sets, key=lambda one: [*SET_NAMES].index(one[1]))  # type: ignore[arg-type]


def _look_into(root: Path, folder: str, trouble: _Trouble) -> tuple[list[str], list[str]]:
    """Returns the folders and the pictures directly in `root/folder`, in natural order."""
    folders, loose = [], []
    try:
        names = sorted(os.listdir(root / folder), key=natural_key)  # noqa: PTH208  # names, not paths
    except OSError as error:
        trouble.unreadable.append(f"{folder or root}: {error.strerror}")
        return [], []
    for name in names:
        path, below = root / folder / name, f"{folder}/{name}" if folder else name
        if path.is_symlink() and is_dead(path):
            trouble.dead.append(below)
        elif path.is_dir():
            if is_clutter_folder(name):
                continue
            if is_text(name):
                folders.append(name)
            else:
                trouble.misnamed.append(f"{folder or root}: the folder name {name!r} is not UTF-8")
        elif is_image_name(name) and is_text(name):
            loose.append(name)
    return folders, loose
