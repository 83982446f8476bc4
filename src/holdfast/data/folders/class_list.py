"""The one list of classes that all sets of a folder share, or everything that keeps them from having one."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from holdfast.data.folders.scan import shown
from holdfast.data.notice import Notice
from holdfast.data.sample import SetName
from holdfast.errors import DataError, first_of

Members = Mapping[str, Mapping[str, int]]  # set folder → class folder → how many pictures
_SHOWN = 12


def agree_on_classes(
    root: Path,
    found: Mapping[str, SetName | None],
    members: Members,
    asked: Sequence[str] | None,
    notices: list[str],
) -> list[str]:
    """Returns the one class list of all sets; what is odd and no error is added to `notices`.

    Args:
        found: set folder → set name, train first; `{"": None}` when there are no sets.
        asked: the list that the user gave, in the order wanted.

    Raises:
        DataError: a class is empty, listed but absent, listed twice, there but not listed, or not in train; or there is
            one class only. All problems at once.
    """
    train = next(iter(found))
    problems = [
        f"{shown(str(root / set_folder / name))}: no pictures in this class"
        for set_folder, classes in members.items()
        for name, count in classes.items()
        if not count
    ]
    names = list(members[train])
    if asked is not None:
        names = list(asked)
        problems += _against_the_list(root / train, names, members[train])
    for set_folder, set_name in found.items():
        if set_folder == train:
            continue
        near = {alike(name): name for name in members[train]}
        for name in members[set_folder]:
            if name not in members[train]:
                other = near.get(alike(name))
                hint = f"; train has {other!r}" if other is not None else ""
                where = shown(str(root / set_folder / name))
                problems.append(f"class {name!r} is in {set_name} but not in train ({where}){hint}")
        absent = [name for name in members[train] if name not in members[set_folder]]
        if len(absent) == 1:
            text = f"class {absent[0]!r} has no pictures in {set_name}; indices stay as they are in train"
            notices.append(Notice(text, "class-missing"))
        elif absent:
            first = ", ".join(map(repr, absent[:_SHOWN])) + (", …" if len(absent) > _SHOWN else "")
            text = f"{len(absent):,} classes have no pictures in {set_name}; indices stay as they are in train: {first}"
            notices.append(Notice(text, "class-missing"))
    if problems:
        raise DataError(
            f"The class folders of {root} do not agree ({len(problems)} problem{'s' if len(problems) > 1 else ''}):\n"
            f"{first_of(problems)}\nMake every set's class folders the same, or give the list with --classes."
        )
    if len(names) < 2:
        raise DataError(
            f"{root / train} has one class only ({names[0]!r}). A classifier needs two; add a second class folder."
        )
    notices += _oddities(names)
    return names


def alike(name: str) -> str:
    """Returns what is the same in names that a person would take for one: no case, single spaces, one Unicode form."""
    if not name.isascii():  # ASCII has one form
        name = unicodedata.normalize("NFKC", name)
    return " ".join(name.casefold().split())


def _against_the_list(folder: Path, asked: Sequence[str], there: Iterable[str]) -> list[str]:
    known, listed = set(there), set(asked)
    near = {alike(name): name for name in known}
    problems = []
    for name in dict.fromkeys(asked):
        if name not in known:
            other = near.get(alike(name))
            hint = f"; there is {other!r}" if other is not None else ""
            problems.append(f"class {name!r} is listed but {shown(str(folder / name))} is not there{hint}")
    problems += [f"class {name!r} is listed twice" for name, count in Counter(asked).items() if count > 1]
    problems += [
        f"class {name!r} is in {folder} but not in the list of classes" for name in there if name not in listed
    ]
    return problems


def _oddities(names: Sequence[str]) -> list[str]:
    notices: list[str] = []
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(alike(name), []).append(name)
    notices += [
        Notice(
            f"classes {' and '.join(map(repr, same))} differ only in case, spaces or accents' encoding; each is a "
            "class of its own",
            "class-names-alike",
        )
        for same in groups.values()
        if len(same) > 1
    ]
    if all(name.isdecimal() for name in names):
        order = ", ".join(f"{name}→{index}" for index, name in enumerate(names[:_SHOWN]))
        more = ", …" if len(names) > _SHOWN else ""
        text = f"class folders are numbers; folder → index in natural order: {order}{more}"
        notices.append(Notice(text, "class-names-numeric"))
    return notices
