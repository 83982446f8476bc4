"""Dividing a collection into train, val and test: stratified, seeded, the same under every library version."""

from __future__ import annotations

import numpy as np

from holdfast.data.order import split_order
from holdfast.data.sample import Collection, Indices, SetName
from holdfast.errors import DataError


def complete_sets(
    collection: Collection, *, val_fraction: float = 0.15, test_fraction: float = 0.15, seed: int = 0
) -> dict[SetName, Indices]:
    """Returns the sets of `collection`, with those that are missing taken from train.

    Undivided data is divided into train, val and test. Where DATA has a train set, a missing val set is taken from
    it; a missing test set is not (what DATA calls train is trained on).

    Args:
        val_fraction, test_fraction: of each class, in [0, 1); a fraction above 0 takes one picture at least from
            every class that can spare one.
        seed: another seed, another division.

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
        everything = (
            np.arange(len(collection.pictures), dtype=np.int64) if collection.usable is None else collection.usable
        )
        sets = _divide(collection, everything, {"test": test_fraction, "val": val_fraction}, seed)
    elif "train" not in sets:
        raise DataError(f"Dividing the data: there is a {', '.join(sets)} set and no train set. Add one to train on.")
    elif "val" not in sets:
        sets |= _divide(collection, sets["train"], {"val": val_fraction}, seed)
    return {name: sets[name] for name in ("train", "val", "test") if name in sets and len(sets[name])}


def _divide(
    collection: Collection, indices: Indices, fractions: dict[SetName, float], seed: int
) -> dict[SetName, Indices]:
    taken: dict[SetName, list[Indices]] = {name: [] for name in (*fractions, "train")}
    labels = collection.pictures.labels[indices]
    for label in np.unique(labels):
        members = indices[labels == label]
        members = members[split_order(seed, int(label), len(members))]
        to_come = sum(fraction > 0 for fraction in fractions.values())
        for name, fraction in fractions.items():
            # One at least, while one at least is left for each set still to come and for train.
            count = max(round(len(labels[labels == label]) * fraction), 1 if fraction else 0)
            to_come -= fraction > 0
            count = min(count, max(len(members) - to_come - 1, 0))
            taken[name].append(members[:count])
            members = members[count:]
        taken["train"].append(members)
    return {name: np.sort(np.concatenate(parts)) for name, parts in taken.items()}
