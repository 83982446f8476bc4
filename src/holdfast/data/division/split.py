"""Dividing a collection into train, val and test, or into folds: stratified, seeded, groups whole.

The result depends on the names, labels and groups of the pictures and on the seed, and on nothing else: not on the
order in which a folder is listed, nor on the version of any library.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from holdfast.data.division.stratify import Targets, stratify
from holdfast.data.loading.order import name_keys
from holdfast.data.sample import SET_NAMES, Collection, Indices, SetName
from holdfast.errors import DataError
from holdfast.words import count


@dataclass(frozen=True)
class Division:
    """What a collection is divided into.

    Attributes:
        sets: set name → indices, ascending; disjoint.
        folds: `[N]` int64: of each picture of train its fold, counted from 1, and 0 for the others; None without folds.
        groups: N names, equal ones for pictures that were kept together and "" for one alone; None when unknown.
    """

    sets: dict[SetName, Indices]
    folds: Indices | None = None
    groups: list[str] | None = None


def complete_sets(
    collection: Collection,
    *,
    val_fraction: float = 0.15,
    test_fraction: float = 0.15,
    seed: int = 0,
    together: Indices | None = None,
) -> dict[SetName, Indices]:
    """Returns the sets of `collection`, with those that are missing taken from train.

    Undivided data is divided into train, val and test. Where DATA has a train set, a missing val set is taken from
    it; a missing test set is not (what DATA calls train is trained on).

    Args:
        val_fraction, test_fraction: of each class, in [0, 1); a fraction above 0 takes one picture at least from
            every class that can spare one.
        seed: another seed, another division.
        together: `[N]`; pictures with equal numbers are put into one set. None when each stands alone.

    Raises:
        DataError: fractions that leave nothing to train on.
    """
    if val_fraction < 0 or test_fraction < 0 or val_fraction + test_fraction >= 1:
        raise DataError(
            f"Dividing the data: val {val_fraction} and test {test_fraction} leave nothing for training; "
            "expected fractions that add up to less than 1."
        )
    sets = dict(collection.sets)
    if not sets:
        everything = _usable(collection)
        sets = _hold_out(collection, everything, {"val": val_fraction, "test": test_fraction}, seed, together)
    elif "train" not in sets:
        raise DataError(f"Dividing the data: there is a {', '.join(sets)} set and no train set. Add one to train on.")
    elif "val" not in sets:
        sets |= _hold_out(collection, sets["train"], {"val": val_fraction}, seed, together)
    return {name: sets[name] for name in SET_NAMES if name in sets and len(sets[name])}


def divide_into_folds(
    collection: Collection,
    num_folds: int,
    *,
    test_fraction: float = 0.0,
    seed: int = 0,
    together: Indices | None = None,
) -> Division:
    """Divides the training pictures into folds of equal size, each of which can validate what the others train.

    The set "train" holds the pictures of all folds. A test set is DATA's own, or taken out first.

    Args:
        num_folds: 2 or more.
        test_fraction, seed, together: see `complete_sets`.

    Raises:
        DataError: DATA has a val set of its own, or there are fewer pictures than folds.
    """
    if "val" in collection.sets:
        raise DataError(
            "Dividing the data into folds: DATA has a val set of its own, which the folds would replace. Divide all "
            "of it anew with --pool, or leave --folds out."
        )
    sets = complete_sets(collection, val_fraction=0.0, test_fraction=test_fraction, seed=seed, together=together)
    train = sets["train"]
    if num_folds < 2 or num_folds > len(train):
        raise DataError(
            f"Dividing {count(len(train), 'picture')} into {count(num_folds, 'fold')}: expected 2 to {len(train):,}."
        )
    counts = np.bincount(collection.pictures.labels[train], minlength=len(collection.pictures.classes)).tolist()
    targets: Targets = [[Fraction(number, num_folds) for number in counts] for _ in range(num_folds)]
    folds = np.zeros(len(collection.pictures), dtype=np.int64)
    folds[train] = 1 + _deal(collection, train, targets, seed, together, train_first=False)
    return Division(sets, folds)


def sets_of_fold(division: Division, fold: int) -> dict[SetName, Indices]:
    """Returns the sets when fold `fold`, counted from 1, validates and the others train.

    Raises:
        DataError: there is no such fold.
    """
    num_folds = 0 if division.folds is None else int(division.folds.max(initial=0))
    if division.folds is None or not 1 <= fold <= num_folds:
        there = f"its folds are 1 to {num_folds}" if num_folds else "it is not divided into folds"
        raise DataError(f"There is no fold {fold}: {there}.")
    train = division.sets.get("train", np.flatnonzero(division.folds))
    sets: dict[SetName, Indices] = {
        "train": train[division.folds[train] != fold],
        "val": np.flatnonzero(division.folds == fold),
    }
    return sets | ({"test": division.sets["test"]} if "test" in division.sets else {})


def _usable(collection: Collection) -> Indices:
    if collection.usable is not None:
        return collection.usable
    return np.arange(len(collection.pictures), dtype=np.int64)


def _hold_out(
    collection: Collection, indices: Indices, fractions: dict[SetName, float], seed: int, together: Indices | None
) -> dict[SetName, Indices]:
    labels = collection.pictures.labels[indices]
    wanted = [(name, fraction) for name, fraction in fractions.items() if fraction > 0]
    targets: Targets = [[] for _ in range(len(wanted) + 1)]
    for number in np.bincount(labels, minlength=len(collection.pictures.classes)).tolist():
        left = number
        held: list[int] = []
        for _, fraction in reversed(wanted):  # test, then val
            # One at least, while one at least is left for each set still to come and for train.
            to_come = len(wanted) - len(held)
            held.append(max(min(max(round(number * fraction), 1), left - to_come), 0))
            left -= held[-1]
        for target, num in zip(targets, (left, *reversed(held)), strict=True):
            target.append(Fraction(num))
    set_of = _deal(collection, indices, targets, seed, together, train_first=True)
    return {name: indices[set_of == s] for s, (name, _) in enumerate([("train", 1.0), *wanted])}


def _deal(
    collection: Collection,
    indices: Indices,
    targets: Targets,
    seed: int,
    together: Indices | None,
    *,
    train_first: bool,
) -> Indices:
    """Returns the number of the set of each of `indices`."""
    pictures = collection.pictures
    keys = name_keys(seed, [pictures.name(i) for i in indices.tolist()])
    groups = indices if together is None else together[indices]
    return stratify(pictures.labels[indices], groups, keys, targets, train_first=train_first)
