"""What is odd about the classes: their names, and how many pictures each has in each set."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict

from holdfast.data.check.finding import Finding, Item, shown
from holdfast.data.check.layout import Layout
from holdfast.data.sample import SET_NAMES
from holdfast.words import count

TINY_CLASS = 10  # pictures to train on; fewer leave validation one or two, whose accuracy is a toss of a coin
IMBALANCE = 10  # times: where plain cross entropy begins to overlook the rare class


def counts_by_set(layout: Layout) -> dict[str, dict[str, int]]:
    """Returns set → class → number of pictures; the one set is "" where DATA is not divided."""
    counts = Counter(zip(layout.sets, layout.labels.tolist(), strict=True))
    sets = [name for name in ("", *SET_NAMES) if name in set(layout.sets)] or [""]
    return {name: {c: counts[name, k] for k, c in enumerate(layout.classes)} for name in sets}


def num_by_set(layout: Layout) -> dict[str, int]:
    """Returns set → number of pictures; the one set is "" where DATA is not divided."""
    counts = Counter(layout.sets)
    return {name: counts[name] for name in ("", *SET_NAMES) if counts[name]} or {"": 0}


def class_findings(layout: Layout) -> list[Finding]:
    """Returns findings on class names and on the sizes of classes."""
    counts = counts_by_set(layout)
    return [*_names(layout.classes), *_missing(counts), *_sizes(counts, layout)]


def _names(classes: list[str]) -> list[Finding]:
    alike: dict[str, list[str]] = defaultdict(list)
    for name in classes:
        folded = unicodedata.normalize("NFKC", name).casefold()
        key = "".join(c for c in folded if c.isalnum()) or folded
        alike[str(int(key)) if key.isdecimal() else key].append(name)
    items = [Item("  =  ".join(map(_told_apart, names))) for names in alike.values() if len(names) > 1]
    findings = []
    if items:
        groups = count(len(items), "group")
        title = f"{groups} of class names that differ only in case, spaces, punctuation or leading zeros"
        findings.append(
            Finding("warning", "class-names-alike", title, "If one class is meant, join; else rename one.", items)
        )
    odd = [Item(repr(name)) for name in classes if name != name.strip() or not name.isprintable()]
    if odd:
        title = f"{count(len(odd), 'class name')} with spaces at an end or characters that do not show"
        findings.append(Finding("warning", "class-name-odd", title, "Rename.", odd))
    numbers = [name for name in classes if name.strip().isdecimal()]
    if numbers and len(numbers) == len(classes):
        shown_first = ", ".join(f"{name}→{k}" for k, name in enumerate(classes[:12]))
        title = f"class names are numbers, and index is not name where they differ: {shown_first}"
        if any(name != str(k) for k, name in enumerate(classes)):
            findings.append(Finding("warning", "class-names-numeric", title, "Results are told by name, not by index."))
        else:
            findings.append(Finding("note", "class-names-numeric", f"class names are numbers ({len(classes)} of them)"))
    return findings


def _told_apart(name: str) -> str:
    """Returns the name quoted; one that only its encoding tells from another that looks the same, with escapes."""
    return repr(name) if unicodedata.is_normalized("NFC", name) else ascii(name)


def _missing(counts: dict[str, dict[str, int]]) -> list[Finding]:
    items = [
        Item(f"{shown(name)}: none in {set_name}")
        for set_name, by_class in counts.items()
        if set_name in ("val", "test")
        for name, number in by_class.items()
        if not number and counts.get("train", {}).get(name, 1)
    ]
    if not items:
        return []
    words = f"{count(len(items), 'class is', 'classes are')} missing in val or test"
    advice = "Nothing will be known of how well these are told apart. Indices stay as they are in train."
    return [Finding("warning", "class-missing", words, advice, items)]


def _sizes(counts: dict[str, dict[str, int]], layout: Layout) -> list[Finding]:
    name, by_class = next(((n, counts[n]) for n in ("train", "") if n in counts), ("", {}))
    there = {c: number for c, number in by_class.items() if number}
    where = f" in {name}" if name else ""
    findings = []
    tiny = sorted((number, c) for c, number in there.items() if number < TINY_CLASS)
    if tiny:
        members = defaultdict(list)
        for index, (label, set_name) in enumerate(zip(layout.labels.tolist(), layout.sets, strict=True)):
            if label >= 0 and set_name == name and there[layout.classes[label]] < TINY_CLASS:
                members[layout.classes[label]].append(index)
        items = [Item(f"{shown(c)}: {count(number, 'picture')}{where}", tuple(members[c])) for number, c in tiny]
        title = f"{count(len(tiny), 'class has', 'classes have')} fewer than {TINY_CLASS} pictures{where}"
        findings.append(Finding("warning", "tiny-class", title, "Add pictures, or leave the class out.", items))
    if len(there) > 1:
        least, most = min(there.items(), key=lambda c: c[1]), max(there.items(), key=lambda c: c[1])
        ratio = most[1] / least[1]
        if ratio >= IMBALANCE:
            title = (
                f"the largest class{where} ({shown(most[0])}, {most[1]:,}) has {ratio:.0f} times the pictures of the "
                f"smallest ({shown(least[0])}, {least[1]:,})"
            )
            findings.append(
                Finding("warning", "imbalance", title, "Accuracy will overlook rare classes; look at each class's own.")
            )
    return findings
