"""What a table says of its pictures besides a class: several labels, numbers or points, counted and measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from holdfast.data.check.classes import TINY_CLASS, num_by_set
from holdfast.data.check.finding import Finding, Item, shown
from holdfast.data.check.layout import Layout
from holdfast.data.targets import Targets
from holdfast.words import count

_NAMED = 5  # points of a picture


def num_by_label(layout: Layout) -> dict[str, dict[str, int]]:
    """Returns set → label → number of pictures that have it; the one set is "" where DATA is not divided."""
    targets, sets = layout.targets, np.array(layout.sets, dtype=object)
    if targets is None or targets.task != "multilabel":
        return {}
    sums = {name: targets.values[sets == name].sum(0) for name in num_by_set(layout)}
    return {name: dict(zip(targets.names, (int(n) for n in found), strict=True)) for name, found in sums.items()}


def target_rows(targets: Targets) -> list[dict[str, Any]]:
    """Returns a row for each label, column or point, as JSON values.

    Labels: `num_pictures`. Columns: `num_missing`, `min`, `mean`, `max`. Points: `num_missing`, `num_off` (off their
    picture), and `min`, `mean`, `max` of `x` and `y` in pixels. None where there is no number.
    """
    if targets.task == "multilabel":
        numbers = targets.values.sum(0)
        return [{"name": n, "num_pictures": int(k)} for n, k in zip(targets.names, numbers, strict=True)]
    if targets.task == "regression":
        columns = zip(targets.names, targets.values.T, strict=True)
        return [{"name": n, "num_missing": int(np.isnan(c).sum()), **_range(c)} for n, c in columns]
    off, missing = targets.off_picture(), np.isnan(targets.values).any(-1)
    return [
        {
            "name": name,
            "num_missing": int(missing[:, k].sum()),
            "num_off": int(off[:, k].sum()),
            "x": _range(targets.values[:, k, 0]),
            "y": _range(targets.values[:, k, 1]),
        }
        for k, name in enumerate(targets.names)
    ]


def target_lines(targets: Targets) -> list[tuple[str, str]]:
    """Returns what holds of all labels, columns or points together: a word, and a line of text."""
    values = targets.values
    if targets.task == "multilabel":
        each = values.sum(1)
        none = int((each == 0).sum())
        more = f"; {count(none, 'picture')} without any" if none else ""
        return [("labels", f"{each.min():.0f} – {each.max():.0f} a picture, {each.mean():.2f} on the average{more}")]
    if targets.task != "landmarks":
        return []
    off, missing = targets.off_picture(), np.isnan(values).any(-1)
    told = [f"{len(targets.names):,} a picture, {missing.size:,} in all"]
    for found, what in ((missing, "missing"), (off, "off the picture")):
        number = int(found.sum())
        where = f" (on {count(int(found.any(1).sum()), 'picture')})" if number else ""
        told.append(f"{number:,} {what}{where}")
    lines = [("points", ", ".join(told))]
    for k, axis in enumerate("xy"):
        one = _range(values[..., k])
        if one["min"] is not None:
            lines.append((axis, f"{one['min']:,.1f} – {one['max']:,.1f} px, mean {one['mean']:,.1f}"))
    return lines


def target_findings(layout: Layout) -> list[Finding]:
    """Returns what is odd about labels, numbers or points; nothing for classes."""
    targets = layout.targets
    if targets is None:
        return []
    return {"multilabel": _labels, "regression": _columns, "landmarks": _points}[targets.task](layout, targets)


def _labels(layout: Layout, targets: Targets) -> list[Finding]:
    counts = num_by_label(layout)
    learned = next(name for name in ("train", *counts) if name in counts)
    where = f" in {learned}" if learned else ""
    missing = [
        Item(f"{shown(label)}: none" + (f" in {name}" if name else ""))
        for name, by_label in counts.items()
        for label, number in by_label.items()
        if not number
    ]
    findings = []
    if missing:
        title = f"{count(len({item.text.split(':')[0] for item in missing}), 'label')} on no picture of a set"
        advice = "Nothing is learned of a label that train lacks, and nothing known of one that val or test lacks."
        findings.append(Finding("warning", "label-missing", title, advice, missing))
    tiny = {k: n for k, label in enumerate(targets.names) if 0 < (n := counts[learned][label]) < TINY_CLASS}
    if tiny:
        in_set = np.array(layout.sets, dtype=object) == learned
        items = [
            Item(
                f"{shown(targets.names[k])}: on {count(number, 'picture')}{where}",
                tuple(np.flatnonzero((targets.values[:, k] > 0) & in_set).tolist()),
            )
            for k, number in sorted(tiny.items(), key=lambda one: one[1])
        ]
        title = f"{count(len(tiny), 'label is', 'labels are')} on fewer than {TINY_CLASS} pictures{where}"
        findings.append(Finding("warning", "tiny-label", title, "Add pictures, or leave the label out.", items))
    return findings


def _columns(layout: Layout, targets: Targets) -> list[Finding]:
    findings = []
    constant = [row for row in target_rows(targets) if row["min"] is not None and row["min"] == row["max"]]
    if constant:
        items = [Item(f"{shown(row['name'])}: {row['min']:.6g}") for row in constant]
        title = f"{count(len(constant), 'column')} of one and the same number"
        findings.append(Finding("warning", "constant-column", title, "There is nothing to learn; leave it out.", items))
    return findings + _some(layout, targets.names, np.isnan(targets.values), "number", "missing")


def _points(layout: Layout, targets: Targets) -> list[Finding]:
    missing = np.isnan(targets.values).any(-1)
    never = [shown(name) for name, lacks in zip(targets.names, missing.all(0), strict=True) if lacks]
    findings = []
    if never:
        title = f"{count(len(never), 'point')} on no picture"
        findings.append(Finding("warning", "point-missing", title, "Leave its columns out.", [Item(n) for n in never]))
    findings += _some(layout, targets.names, missing, "point", "missing")
    return findings + _some(layout, targets.names, targets.off_picture(), "point", "off the picture")


def _some(layout: Layout, names: Sequence[str], found: npt.NDArray[np.bool_], noun: str, what: str) -> list[Finding]:
    """Returns a note on the cells `[N, K]` that are missing or off the picture, a case for each picture."""
    if not found.any():
        return []
    items = []
    for index in np.flatnonzero(found.any(1)).tolist():
        which = [shown(names[k]) for k in np.flatnonzero(found[index]).tolist()]
        more = f" and {len(which) - _NAMED} more" if len(which) > _NAMED else ""
        items.append(Item(f"{shown(layout.names[index])}: {', '.join(which[:_NAMED])}{more}", (index,)))
    number = int(found.sum())
    title = f"{count(number, f'{noun} is', f'{noun}s are')} {what}, on {count(len(items), 'picture')}"
    advice = "They count for nothing." if what == "missing" else "They are kept, and learned, where they are."
    return [Finding("note", f"{noun}s-{what.split()[0]}", title, advice, items)]


def _range(values: npt.NDArray[np.floating[Any]]) -> dict[str, float | None]:
    known = values[~np.isnan(values)]
    if not len(known):
        return {"min": None, "mean": None, "max": None}
    return {"min": float(known.min()), "mean": float(known.mean()), "max": float(known.max())}
