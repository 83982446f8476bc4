"""Pictures that are there more than once: in several sets, under several labels, or simply twice.

Equal files with different labels are an error: no model can learn both, and one is wrong. Copies in two sets are a
warning: training works, and its scores are too good. Pictures that only look the same are a matter of judgement, so
they are warnings at most.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from holdfast.data.check.finding import Finding, Item, Severity, shown
from holdfast.data.check.layout import Layout
from holdfast.data.check.probe import Facts
from holdfast.data.division.duplicates import NEAR_DISTANCE, exact_duplicates, near_duplicates
from holdfast.data.division.groups import group_names
from holdfast.data.division.likeness import MIN_SIDE, Likeness
from holdfast.data.sample import SET_NAMES, Indices
from holdfast.data.targets import Task
from holdfast.words import count

_SHOWN_IN_A_LINE = 6
_WORDS: dict[Task, tuple[str, str]] = {  # what may differ, and how it does not
    "classification": ("labels", "one label"),
    "multilabel": ("labels", "the same labels"),
    "regression": ("numbers", "the same numbers"),
    "landmarks": ("points", "the same points"),
}
_UNDIVIDED = {  # what a division of our own makes of them
    "duplicate": "They count more than once. `train` and `split` keep them in one set; other divisions may not.",
    "near-duplicate": "They count more than once, and a random division may put them on two sides: "
    "`holdfast split --near-duplicates` keeps them in one set.",
}


def exact_findings(layout: Layout, digests: Sequence[str]) -> list[Finding]:
    """Returns findings on pictures with equal contents. Args: `digests`, one a picture; "" compares with none."""
    return _findings(layout, exact_duplicates(digests), "duplicate", ("error", "warning", "note"))


def near_findings(layout: Layout, facts: Sequence[Facts], distance: int = NEAR_DISTANCE) -> list[Finding]:
    """Returns findings on pictures that look the same and differ in their bytes. Args: `distance`, in bits."""
    too_small = sum(not one.fault and one.likeness is None for one in facts)
    found: list[Finding] = []
    if too_small:
        title = (
            f"{count(too_small, 'picture')} below {MIN_SIDE} pixels, or of numbers, compared for equal contents only"
        )
        found.append(Finding("note", "not-compared", title))
    return found + look_alikes(layout, [one.digest for one in facts], [one.likeness for one in facts], distance)


def look_alikes(
    layout: Layout, digests: Sequence[str], likenesses: Sequence[Likeness | None], distance: int = NEAR_DISTANCE
) -> list[Finding]:
    """Returns findings on pictures that look the same and differ in their bytes. Args: one digest and likeness each."""
    known = [(i, likeness) for i, likeness in enumerate(likenesses) if likeness is not None]
    if len(known) < 2:
        return []
    places = np.array([i for i, _ in known])
    bits = np.array([likeness.bits for _, likeness in known], dtype=np.uint64)
    near = near_duplicates(bits, np.stack([likeness.thumbnail for _, likeness in known]), distance=distance)
    groups = [_first_of_each(places[group], digests) for group in near]
    groups = [group for group in groups if len(group) > 1]
    return _findings(layout, groups, "near-duplicate", ("warning", "warning", "note"))


def _first_of_each(group: Indices, digests: Sequence[str]) -> Indices:
    """Leaves out what was told as an exact copy already: those that differ in their bytes remain."""
    return np.array(list({digests[i]: int(i) for i in group[::-1]}.values())[::-1], dtype=np.int64)


def _findings(
    layout: Layout, groups: list[Indices], code: str, severities: tuple[Severity, Severity, Severity]
) -> list[Finding]:
    """Sorts groups by what is wrong with them; a group may have other labels and stand in several sets as well."""
    cases: dict[str, list[Item]] = defaultdict(list)
    # Numbers and points of pictures that only look the same may well differ.
    told_apart = code == "duplicate" or layout.task in ("classification", "multilabel")
    for group in groups:
        labels = {int(layout.answers[i]) for i in group if layout.answers[i] >= 0} if told_apart else set()
        sets = {layout.sets[i] for i in group} - {""}  # a picture in no set leaks nowhere
        kinds = [kind for kind, wrong in (("labels", len(labels) > 1), ("sets", len(sets) > 1)) if wrong]
        for kind in kinds or ["plain"]:
            cases[kind].append(Item(_line(layout, group, kind), tuple(int(i) for i in group)))
    what = "pictures with equal contents" if code == "duplicate" else "pictures that look the same"
    noun, same = _WORDS[layout.task]
    if layout.task in ("regression", "landmarks"):  # measured twice, not contradicted: what is learned lies between
        severities = ("warning", *severities[1:])
    alike = f", with {same}" if told_apart else ""
    texts = {
        "labels": (severities[0], f"{code}-labels", f"{what} and different {noun}",
                   f"Decide which {noun.removesuffix('s')} is right and take the others away."
                   if layout.task == "classification" else f"Decide which {noun} are right and take the others away."),
        "sets": (severities[1], f"{code}-across-sets", f"{what} in more than one set",
                 "Scores on val and test will be too good. Keep each on one side."),
        "plain": (severities[2], f"{code}-within-set" if any(layout.sets) else code, f"{what}{alike}"
                  + (" in one set" if any(layout.sets) else ""),
                  "They count more than once." if any(layout.sets) else _UNDIVIDED[code]),
    }  # fmt: skip
    return [
        Finding(texts[kind][0], texts[kind][1], f"{count(len(cases[kind]), 'group')} of {texts[kind][2]}",
                texts[kind][3], cases[kind])
        for kind in texts if cases[kind]
    ]  # fmt: skip


def _line(layout: Layout, group: Indices, kind: str) -> str:
    def named(index: int) -> str:
        label, where = layout.told(index), layout.sets[index]
        extra = [label] * (kind == "labels" and bool(label)) + [where] * (kind == "sets" and bool(where))
        return shown(layout.names[index]) + (f" ({', '.join(map(shown, extra))})" if extra else "")

    first = group[:_SHOWN_IN_A_LINE]
    if kind != "plain":  # one of each label or set before more of the same
        value: Callable[[int], object] = (
            (lambda i: layout.answers[i]) if kind == "labels" else (lambda i: layout.sets[i])
        )
        different = list({value(int(i)): int(i) for i in group[::-1]}.values())[::-1]
        first = np.array([*different, *(i for i in group if i not in different)], dtype=np.int64)[:_SHOWN_IN_A_LINE]
    more = len(group) - len(first)
    return "  =  ".join(named(int(i)) for i in first) + (f"  … and {more:,} more" if more else "")


def group_findings(layout: Layout, spec: str) -> list[Finding]:
    """Returns a finding on groups in more than one set. Raises ConfigError and DataError as `group_names` does."""
    if not layout.names:
        return []
    notices: list[str] = []
    names = group_names(layout.names, spec, layout.columns, notices)
    members: dict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(names):
        members[name].append(index)
    items = []
    for name, indices in members.items():
        sets = Counter(layout.sets[i] for i in indices if layout.sets[i])
        if len(sets) > 1:
            told = ", ".join(f"{sets[s]:,} in {s}" for s in SET_NAMES if sets[s])
            one_of_each = {layout.sets[i]: i for i in reversed(indices) if layout.sets[i]}
            items.append(Item(f"{shown(name)}: {told}", tuple(sorted(one_of_each.values()))))
    findings = [Finding("note", "groups", shown(line)) for line in notices]
    findings.append(Finding("note", "groups", f"{count(len(members), 'group')} by {spec}"))
    if items:
        findings.append(
            Finding(
                "warning",
                "group-across-sets",
                f"{count(len(items), 'group')} of {len(members):,} (by {spec}) in more than one set",
                "Scores on val and test will be too good. Keep each group on one side.",
                items,
            )
        )
    return findings
