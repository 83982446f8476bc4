"""Dividing labelled things among sets: each class in its share, what belongs together whole. Numbers in, numbers out.

Groups of several go first, the largest first, each to the set that it takes nearest to its targets; what stands alone
fills what is left, exactly; and last, groups move to where a class would otherwise be missing. All arithmetic that
decides is exact or correctly rounded, and ties go by keys that the caller gives: no version of any library and no
order of the input changes the result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from holdfast.data.sample import Indices

Keys = npt.NDArray[np.uint64]
Targets = list[list[Fraction]]


def stratify(labels: Indices, together: Indices, keys: Keys, targets: Targets, *, train_first: bool) -> Indices:
    """Returns the set of each of N things, `[N]` int64 in [0, S).

    Things with one number in `together` are in one set. Where nothing belongs together, every class has exactly its
    target in every set.

    Args:
        labels: `[N]` classes in [0, K).
        together: `[N]`; equal numbers, one group.
        keys: `[N]`, all different, in whose order things are dealt out.
        targets: S lists of K: how many of each class each set should have. For each class they add up to its count.
        train_first: set 0 is for training: no class is ever without it, and where there are too few of a class for
            all sets, earlier sets go first. Otherwise sets are equals, and are kept equally large.
    """
    division = _Division(labels, together, keys, targets, train_first)
    division.deal_groups()
    division.deal_singles()
    division.mend()
    return division.set_of[division.group_of]


@dataclass(frozen=True)
class _Group:
    """How many of which class."""

    classes: list[int]
    counts: list[int]


class _Division:
    """Sets as they fill: `filled[s][k]` things of class k are in set s."""

    def __init__(self, labels: Indices, together: Indices, keys: Keys, targets: Targets, train_first: bool) -> None:
        self.targets = targets
        self.train_first = train_first
        self.num_sets, self.num_classes = len(targets), len(targets[0]) if targets else 0
        # Targets below one half of a thing would make one thing too many cost more than all else.
        self.weights = [[1 / max(float(target), 0.5) for target in row] for row in targets]
        self.filled = [[0] * self.num_classes for _ in targets]
        _, self.group_of, sizes = np.unique(together, return_inverse=True, return_counts=True)
        self.group_of = self.group_of.reshape(-1)
        self.set_of = np.full(len(sizes), -1, dtype=np.int64)
        order = np.lexsort((keys, self.group_of))
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        group_keys = keys[order][starts[:-1]] if len(order) else keys
        dealt = np.argsort(group_keys, kind="stable")
        alone = sizes[dealt] == 1
        self.singles = dealt[alone]
        self.single_labels = labels[order][starts[self.singles]]
        several = dealt[~alone]
        self.several = several[np.argsort(-sizes[several], kind="stable")].tolist()
        self.groups: dict[int, _Group] = {}
        self.open_groups = np.bincount(self.single_labels, minlength=self.num_classes).tolist()
        for group in self.several:
            classes, counts = np.unique(labels[order[starts[group] : starts[group + 1]]], return_counts=True)
            self.groups[group] = _Group(classes.tolist(), counts.tolist())
            for k in self.groups[group].classes:
                self.open_groups[k] += 1

    def deal_groups(self) -> None:
        """Puts each group of several where it takes the counts nearest to their targets."""
        for index in self.several:
            group = self.groups[index]
            last_for_train = self.train_first and any(
                self.open_groups[k] == 1 and not self.filled[0][k] for k in group.classes
            )
            choices = range(1 if last_for_train else self.num_sets)
            self._put(index, min(choices, key=lambda s: (self._cost(group, s), s)))
            for k in group.classes:
                self.open_groups[k] -= 1

    def deal_singles(self) -> None:
        """Deals out what stands alone, class by class: to every set what it lacks."""
        order = np.argsort(self.single_labels, kind="stable")
        cuts = np.searchsorted(self.single_labels[order], np.arange(1, self.num_classes))
        by_class = np.split(self.singles[order], cuts)
        lacking = [sum(row, Fraction(0)) - sum(filled) for row, filled in zip(self.targets, self.filled, strict=True)]
        for k in range(self.num_classes):
            members = by_class[k]
            quotas = self._quotas(k, len(members), lacking)
            start = 0
            # Later sets take first: the order in which pictures were ever dealt out, test before val before train.
            for s in reversed(range(self.num_sets)):
                self.set_of[members[start : start + quotas[s]]] = s
                self.filled[s][k] += quotas[s]
                lacking[s] -= quotas[s]
                start += quotas[s]

    def mend(self) -> None:
        """Moves groups to sets that would otherwise be without a class, where no set loses its last of one."""
        with_class: dict[int, list[int]] = {}
        for index, group in self.groups.items():
            for k in group.classes:
                with_class.setdefault(k, []).append(index)
        for s in range(self.num_sets):
            for k in range(self.num_classes):
                if self.filled[s][k] or not self.targets[s][k]:
                    continue
                movable = [g for g in with_class.get(k, []) if self._can_leave(g)]
                if movable:
                    best = min(movable, key=lambda g: self._cost(self.groups[g], s) + self._gain(g))
                    self._take(best)
                    self._put(best, s)

    def _quotas(self, k: int, num: int, lacking: Sequence[Fraction]) -> list[int]:
        """Returns how many of the `num` lone things of class k each set gets."""
        wanted = [max(self.targets[s][k] - self.filled[s][k], Fraction(0)) for s in range(self.num_sets)]
        quotas = [0] * self.num_sets
        order = sorted(range(self.num_sets), key=lambda s: (0 if self.train_first else -lacking[s], s))
        for s in order:
            if num > sum(quotas) and not self.filled[s][k] and self.targets[s][k] > 0:
                quotas[s] = 1
        rest = num - sum(quotas)
        wanted = [max(want - quota, Fraction(0)) for want, quota in zip(wanted, quotas, strict=True)]
        if rest and not sum(wanted):
            wanted[0] = Fraction(1)  # every set has its share: what is over is trained on
        shares = [want * rest / sum(wanted) if rest else Fraction(0) for want in wanted]
        quotas = [quota + math.floor(share) for quota, share in zip(quotas, shares, strict=True)]
        remainders = sorted(order, key=lambda s: math.floor(shares[s]) - shares[s])
        for s in remainders[: num - sum(quotas)]:
            quotas[s] += 1
        return quotas

    def _cost(self, group: _Group, s: int) -> float:
        """Returns by how much the set's distance to its targets (chi-squared) grows when the group comes in."""
        return math.fsum(
            count * (count - 2 * float(self.targets[s][k] - self.filled[s][k])) * self.weights[s][k]
            for k, count in zip(group.classes, group.counts, strict=True)
        )

    def _gain(self, index: int) -> float:
        """Returns by how much the distance of the group's set to its targets grows when it leaves."""
        group, s = self.groups[index], int(self.set_of[index])
        return math.fsum(
            count * (count + 2 * float(self.targets[s][k] - self.filled[s][k])) * self.weights[s][k]
            for k, count in zip(group.classes, group.counts, strict=True)
        )

    def _can_leave(self, index: int) -> bool:
        group, s = self.groups[index], int(self.set_of[index])
        return all(self.filled[s][k] > count for k, count in zip(group.classes, group.counts, strict=True))

    def _put(self, index: int, s: int) -> None:
        self.set_of[index] = s
        for k, count in zip(self.groups[index].classes, self.groups[index].counts, strict=True):
            self.filled[s][k] += count

    def _take(self, index: int) -> None:
        s = int(self.set_of[index])
        for k, count in zip(self.groups[index].classes, self.groups[index].counts, strict=True):
            self.filled[s][k] -= count
