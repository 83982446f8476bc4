"""What a division came to: counts of each class in each set, and what could not be had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from holdfast.data.division.split import Division
from holdfast.data.sample import Collection, Indices
from holdfast.data.targets import NAMES, targets_of
from holdfast.words import count

_SHOWN_CLASSES = 40
_TOLERATED = 0.02  # how far a set may lie from the share asked for, in parts of all pictures, before it is said


def count_classes(collection: Collection, division: Division) -> dict[str, list[int]]:
    """Returns "train", "val", "test" (or "fold 1", "fold 2" … and "test") → how many pictures of each class."""
    labels, num = collection.pictures.labels, len(collection.pictures.classes)
    parts: dict[str, Indices] = {str(name): members for name, members in division.sets.items()}
    if division.folds is not None:
        folds = division.folds
        parts = {f"fold {k}": np.flatnonzero(folds == k) for k in range(1, int(folds.max()) + 1)}
        parts |= {"test": division.sets["test"]} if "test" in division.sets else {}
    return {name: np.bincount(labels[members], minlength=num).tolist() for name, members in parts.items()}


def shortfalls(collection: Collection, division: Division, leader: Indices, asked: Mapping[str, float]) -> list[str]:
    """Returns what could not be had, one line each: classes missing in a set, shares missed, groups that DATA divides.

    Args:
        leader: see `Together`.
        asked: "val" and "test" → the share that was asked for; sets that DATA itself makes are left out.
    """
    counts = count_classes(collection, division)
    lines = _missing_classes(collection, division, leader, counts, asked)
    total = sum(map(sum, counts.values()))
    largest = int(np.bincount(leader).max(initial=0))
    for name, share in asked.items():
        is_share = sum(counts.get(name, [])) / max(total, 1)
        if share and abs(is_share - share) > _TOLERATED and largest > 1:
            lines.append(
                f"{name} has {is_share:.1%} of the pictures and not {share:.1%}: what belongs together stays so (the "
                f"largest group holds {largest / max(total, 1):.1%})"
            )
    set_of = np.full(len(leader), -1)
    for place, members in enumerate(division.sets.values()):
        set_of[members] = place
    divided = np.flatnonzero((set_of >= 0) & (set_of[leader] >= 0) & (set_of != set_of[leader]))
    if len(divided):
        one, other = (collection.pictures.name(int(i)) for i in (leader[divided[0]], divided[0]))
        names = list(division.sets)
        lines.append(
            f"{count(len(np.unique(leader[divided])), 'group or duplicate stands', 'groups or duplicates stand')} in "
            f"several of DATA's own sets, which are kept "
            f"({one} in {names[set_of[leader[divided[0]]]]}, {other} in {names[set_of[divided[0]]]}); --pool "
            "divides all anew"
        )
    return lines


def table_lines(classes: Sequence[str], counts: Mapping[str, Sequence[int]]) -> list[str]:
    """Returns the counts as a table of text: a line a class, the sum and the shares; of many classes the first.

    Args:
        classes: none where no classes are learned: then the sums alone.
    """
    parts = [*counts, "all"]
    columns = [*counts.values(), [sum(row) for row in zip(*counts.values(), strict=True)]]
    sums = [sum(column) for column in columns]
    rows: list[list[str]] = [["class" if classes else "", *parts]]
    shown = len(classes) if len(classes) <= _SHOWN_CLASSES else _SHOWN_CLASSES - 1
    for k, name in enumerate(classes[:shown]):
        rows.append([_shown(name), *(f"{column[k]:,}" for column in columns)])
    if shown < len(classes):
        rest = [sum(column[shown:]) for column in columns]
        rows.append([f"({len(classes) - shown} more)", *(f"{number:,}" for number in rest)])
    rows.append(["" if classes else "pictures", *(f"{number:,}" for number in sums)])
    rows.append(["", *(f"{number / max(sums[-1], 1):.1%}" for number in sums)])
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in rows
    ]


def summary_json(
    collection: Collection, counts: Mapping[str, Sequence[int]], leader: Indices, notes: Sequence[str]
) -> dict[str, Any]:
    """Returns the same as JSON values, under the names that `check` gives them; classes where they are learned."""
    targets = targets_of(collection.pictures)
    value: dict[str, Any] = {
        "task": targets.task,
        "num_pictures": sum(map(sum, counts.values())),
        "num_groups": len(np.unique(leader)),
        NAMES[targets.task]: targets.names,
        "num_by_set": {name: sum(column) for name, column in counts.items()},
    }
    if targets.task == "classification":
        by_class = (dict(zip(targets.names, column, strict=True)) for column in counts.values())
        value["num_by_class"] = dict(zip(counts, by_class, strict=True))
    return {**value, "notes": list(notes)}


def _missing_classes(
    collection: Collection,
    division: Division,
    leader: Indices,
    counts: Mapping[str, Sequence[int]],
    asked: Mapping[str, float],
) -> list[str]:
    wanted = [name for name in counts if division.folds is not None] or ["train", *(n for n, f in asked.items() if f)]
    lines = []
    for k, name in enumerate(collection.pictures.classes):
        total = sum(column[k] for column in counts.values())
        absent = [part for part in wanted if not counts.get(part, [0] * (k + 1))[k]]
        if not total or not absent:
            continue
        members = np.flatnonzero(collection.pictures.labels == k)
        num_groups = len(np.unique(leader[members]))
        held = count(total, "picture")
        if num_groups < total:
            held += f" in {count(num_groups, 'group')}"
        line = f"class {name!r} has {held}: none in {', '.join(absent)}"
        if division.folds is not None and len(absent) >= len(wanted) - 1:
            line += "; when its own fold validates, nothing teaches it"
        lines.append(line)
    return lines


def _shown(name: str) -> str:
    plain = "".join(c if c.isprintable() else "�" for c in name)
    return plain if len(plain) <= 40 else plain[:39] + "…"
