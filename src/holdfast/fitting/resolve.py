"""Which tensor of a file is which of a model: by name and shape, whatever words stand in between, never by order.

Wrappers' words are left out on both sides, names of reparametrized weights are brought to one form, and what is left in
front of the names on either side (`backbone.`) is found as the pair of prefixes under which the most values fit.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from holdfast.fitting.reparametrized import one_form
from holdfast.formats.names import ALWAYS, EMA, IN_FRONT, WHERE_ALONE

Shapes = Mapping[str, tuple[int, ...]]
Words = tuple[str, ...]

_WRAPPERS = ALWAYS | WHERE_ALONE
_MAX_ALIKE = 16  # names that end alike; more say nothing about which is which
_ENOUGH = 0.3  # of the values of the smaller side must fit, or a prefix that is no wrapper's was found by chance


@dataclass
class Matching:
    """Pairs of names.

    Attributes:
        pairs: target's name → source's name. Their shapes may differ.
        rule_of: target's name → why, in words; "" where the names are the same.
        fresh: target's names without a partner, in order.
        unused: source's names without a partner, in order.
        ambiguous: what stands in front of the source's names of several models that fit as well as one another; the
            pairs are those of the first. Empty when there is no doubt.
        branches: what stands in front of the target's names of several parts that the source fits as well as one
            another: the first of them gets it. Empty when it is one.
    """

    pairs: dict[str, str] = field(default_factory=dict)
    rule_of: dict[str, str] = field(default_factory=dict)
    fresh: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    ambiguous: list[str] = field(default_factory=list)
    branches: list[str] = field(default_factory=list)


def resolve_names(source: Shapes, target: Shapes) -> Matching:
    """Returns the best pairing of a file's names with a model's.

    Args:
        source: names in the file → shapes.
        target: names in the model (or in a file whose names are wanted) → shapes.
    """
    ours, theirs = _words(target), _words(source)
    found = sorted(_alignments(theirs, ours, source, target), key=lambda a: (-a.num_values, len(a.rule)))
    rivals = _equally_good(found)
    best, matching = found[0], Matching(ambiguous=[_as_written(front, theirs) for front in rivals])
    _pair_up(matching, best, theirs, ours)
    for front in sorted({words[:1] for words in theirs.values() if words and words[0] in IN_FRONT}):
        # A file may hold the model under a word, and something of it beside: `model.fc.weight` and `fc.bias`.
        _pair_up(matching, _Alignment(front, (), 0), theirs, ours)
    _pair_up(matching, _Alignment((), (), 0), theirs, ours)
    _pair_without_punctuation(matching, source, target)
    taken = set(matching.pairs.values())
    matching.branches = _equal_branches(found, best, ours)
    matching.pairs = {name: matching.pairs[name] for name in target if name in matching.pairs}
    matching.fresh = [name for name in target if name not in matching.pairs]
    matching.unused = [name for name in source if name not in taken]
    return matching


def _equally_good(found: list[_Alignment]) -> list[Words]:
    """Returns the fronts of the file's names that fit as well as the best one, if the best one has any.

    An average beside the model itself is no rival: who wants it asks for it.
    """
    best = found[0]
    rivals = [a for a in found if a.ours == best.ours and a.num_values == best.num_values and a.theirs]
    if not best.theirs or not best.num_values:
        return []
    models = [a for a in rivals if not any(word in EMA for word in a.theirs)]
    if len(models) == 1:
        found.sort(key=lambda a: a is not models[0])
        return []
    return [a.theirs for a in rivals] if len(rivals) > 1 else []


def _equal_branches(found: list[_Alignment], best: _Alignment, ours: dict[str, Words]) -> list[str]:
    """Returns the fronts of the target's names under which the source fits as well as under the best one."""
    alike = [a for a in found if a.theirs == best.theirs and a.num_values == best.num_values and a.ours]
    return [_as_written(a.ours, ours) for a in alike] if best.ours and best.num_values and len(alike) > 1 else []


def _as_written(front: Words, theirs: dict[str, Words]) -> str:
    """Returns what stands in front of the names as the file has it, with the words of wrappers."""
    name = next(name for name, words in theirs.items() if words[: len(front)] == front and len(words) > len(front))
    own, left = name.split("."), list(front)
    taken = []
    while left:
        taken.append(own.pop(0))
        if taken[-1] == left[0]:
            left.pop(0)
    return ".".join(taken) + "."


@dataclass(frozen=True)
class _Alignment:
    """What stands in front of the names on each side, and how many values fit under it."""

    theirs: Words
    ours: Words
    num_values: int

    @property
    def rule(self) -> str:
        gone = f"{'.'.join(self.theirs)}. left out" if self.theirs else ""
        added = f"{'.'.join(self.ours)}. added" if self.ours else ""
        return ", ".join(filter(None, (gone, added)))


def _words(shapes: Shapes) -> dict[str, Words]:
    """Returns the words of each name, without those of wrappers, in one form."""
    bare = {name: tuple(w for w in name.split(".") if w not in _WRAPPERS) or (name,) for name in shapes}
    alike = Counter(bare.values())
    unique = {name: words if alike[words] == 1 else tuple(name.split(".")) for name, words in bare.items()}
    return one_form(unique)


def _alignments(theirs: dict[str, Words], ours: dict[str, Words], source: Shapes, target: Shapes) -> list[_Alignment]:
    """Returns the pairs of prefixes worth a try: none at all, and those that the ends of names vote for."""
    by_end: dict[Words, list[str]] = defaultdict(list)
    for name, words in theirs.items():
        for start in range(len(words)):
            by_end[words[start:]].append(name)
    votes: Counter[tuple[Words, Words]] = Counter({((), ()): 0})
    for name, words in ours.items():
        size = _size(target[name])
        for start in range(len(words)):
            ends_alike = [other for other in by_end.get(words[start:], ()) if source[other] == target[name]]
            if ends_alike and len(ends_alike) <= _MAX_ALIKE:
                length = len(words) - start
                for other in ends_alike:
                    votes[theirs[other][:-length], words[:start]] += size
                break
    total = min(sum(map(_size, source.values())), sum(map(_size, target.values())))
    found = [_Alignment((), (), _fitting((), (), theirs, ours, source, target))]
    for (front, own), _ in votes.most_common(12):
        values = _fitting(front, own, theirs, ours, source, target)
        known = all(word in IN_FRONT for word in (*front, *own))
        if (front or own) and (known or values > _ENOUGH * total):
            found.append(_Alignment(front, own, values))
    return found


def _fitting(
    front: Words, own: Words, theirs: dict[str, Words], ours: dict[str, Words], source: Shapes, target: Shapes
) -> int:
    """Returns how many values have the same name behind the prefixes, and the same shape."""
    behind = {words[len(front) :]: name for name, words in theirs.items() if words[: len(front)] == front}
    names = ((name, behind.get(words[len(own) :])) for name, words in ours.items() if words[: len(own)] == own)
    return sum(_size(target[name]) for name, other in names if other is not None and source[other] == target[name])


def _pair_up(matching: Matching, alignment: _Alignment, theirs: dict[str, Words], ours: dict[str, Words]) -> None:
    """Adds the pairs that an alignment makes of names that have no partner yet."""
    front, own = alignment.theirs, alignment.ours
    taken = set(matching.pairs.values())
    behind = {
        words[len(front) :]: name
        for name, words in theirs.items()
        if words[: len(front)] == front and name not in taken
    }
    for name, words in ours.items():
        other = behind.get(words[len(own) :]) if words[: len(own)] == own else None
        if other is None or name in matching.pairs:
            continue
        matching.pairs[name] = other
        matching.rule_of[name] = "" if other == name else _rule(alignment, other, name)


def _rule(alignment: _Alignment, source: str, target: str) -> str:
    """Returns in words how one name became the other."""
    rules = [alignment.rule] if alignment.rule else []
    wrappers = [word for word in _WRAPPERS if word in source.split(".")]
    rules += [f"{word}. left out" for word in sorted(wrappers) if word not in target.split(".")]
    added = sorted(word for word in _WRAPPERS if word in target.split(".") and word not in source.split("."))
    rules += [f"{word}. added" for word in added]
    if source.rpartition(".")[2] != target.rpartition(".")[2] or "parametrizations" in f"{source}{target}":
        rules.append("reparametrized weight")
    return ", ".join(rules) or "wrappers' words left out"


def _pair_without_punctuation(matching: Matching, source: Shapes, target: Shapes) -> None:
    """Adds pairs of names that differ in dots, slashes and underscores only, where these leave no doubt."""
    taken = set(matching.pairs.values())
    theirs = _one_each(name for name in source if name not in taken)
    ours = _one_each(name for name in target if name not in matching.pairs)
    for bare, name in ours.items():
        other = theirs.get(bare)
        if other is not None and source[other] == target[name]:
            matching.pairs[name] = other
            matching.rule_of[name] = "other punctuation"


def _one_each(names: Iterable[str]) -> dict[str, str]:
    """Returns letters and digits → the one name that has these."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in names:
        found[re.sub(r"[^a-z0-9]", "", ".".join(w for w in name.split(".") if w not in _WRAPPERS).lower())].append(name)
    return {bare: alike[0] for bare, alike in found.items() if len(alike) == 1}


def _size(shape: tuple[int, ...]) -> int:
    return math.prod(shape)
