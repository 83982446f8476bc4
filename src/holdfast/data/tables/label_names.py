"""Labels as people write them: two spellings of one class must not become two classes in silence."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal

from holdfast.data.notice import Notice
from holdfast.words import count

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)", re.ASCII)
_MISSING = frozenset({"nan", "null", "none", "n/a", "#n/a"})  # what programs write for a missing value


def written_differently(labels: Iterable[tuple[int, str]]) -> list[str]:
    """Returns the labels that differ only in how they are written, one line a family, in the order of lines.

    `Cat` and `cat`, `red  panda` and `red panda`, 1 and 1.0 and 01 are such families. Single letters are not: `a` and
    `A` are classes of handwriting.

    Args:
        labels: (line, label) of every row, trimmed; empty labels are passed over.
    """
    first_line: dict[str, int] = {}
    num_rows: Counter[str] = Counter()
    for line, label in labels:
        if label:
            first_line.setdefault(label, line)
            num_rows[label] += 1
    families: dict[str, list[str]] = defaultdict(list)
    for label in first_line:
        families[_key(label)].append(label)
    problems = []
    for family in families.values():
        number = _NUMBER.fullmatch(family[0])
        if len(family) < 2 or (not number and all(len(label) == 1 for label in family)):
            continue
        listed = ", ".join(f"{label!r} ({num_rows[label]:,}×, first in line {first_line[label]})" for label in family)
        problems.append(
            f"labels {listed} differ in {'the form of a number' if number else 'case or spaces'} only; write one, or "
            "list each with --classes if they are classes of their own"
        )
    return problems


def unlisted(labels: Iterable[tuple[int, str]], classes: Iterable[str]) -> list[str]:
    """Returns the labels that are not in the list of classes, one line a row, with the class that was probably meant.

    Args:
        labels: (line, label) of every row, trimmed; empty labels are passed over.
    """
    names = set(classes)
    known = {_key(name): name for name in names}
    problems = []
    for line, label in labels:
        if label and label not in names:
            near = known.get(_key(label))
            problems.append(
                f"line {line}: label {label!r} is not in the list of classes" + (f"; {near!r} is" if near else "")
            )
    return problems


def label_notices(index: Mapping[str, int], num_rows: Mapping[str, int]) -> list[str]:
    """Returns what a user should know about class names that are numbers, or that stand for a missing value.

    Args:
        index: class name → its place.
        num_rows: class name → how many rows have it.
    """
    notices: list[str] = []
    if all(_NUMBER.fullmatch(name) for name in index):
        shown = ", ".join(f"{name}→{place}" for name, place in list(index.items())[:12])
        text = f"labels are numbers; {shown}{', …' if len(index) > 12 else ''}"
        notices.append(Notice(text, "class-names-numeric"))
    notices.extend(
        f"label {name!r} ({count(num_rows[name], 'row')}) is taken for a class name; if it means that the label is "
        "missing, leave these rows out"
        for name in index
        if name.casefold() in _MISSING
    )
    return notices


def _key(label: str) -> str:
    """Returns the same text for all labels of a family."""
    if _NUMBER.fullmatch(label):
        return str(Decimal(label).normalize() + 0)  # +0: of -0 and 0 one
    return " ".join(unicodedata.normalize("NFC", label).casefold().split())
