from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from holdfast.data.division.stratify import stratify


def dealt(labels: list[int], together: list[int], targets: list[list[float]], *, train_first: bool = True) -> list[int]:
    """The set of each thing, dealt in the order they stand."""
    keys = np.arange(len(labels), dtype=np.uint64)
    exact = [[Fraction(target) for target in row] for row in targets]
    return stratify(
        np.array(labels, np.int64), np.array(together, np.int64), keys, exact, train_first=train_first
    ).tolist()


def test_things_that_stand_alone_meet_their_targets_exactly() -> None:
    """Each class has just what was asked for, and the last set takes first."""
    assert dealt([0, 0, 0, 1, 1, 1], [0, 1, 2, 3, 4, 5], [[2, 1], [1, 2]]) == [1, 0, 0, 1, 1, 0]


def test_a_giant_group_goes_to_train_and_the_rest_fills_the_others() -> None:
    """A group larger than the other sets' targets is trained on; what stands alone makes up for it elsewhere."""
    assert dealt([0] * 10, [0] * 6 + [1, 2, 3, 4], [[6], [2], [2]]) == [0] * 6 + [2, 2, 1, 1]


def test_a_class_that_is_one_group_is_trained_on() -> None:
    """Even where another set would fit better: what is not trained on cannot be measured."""
    assert dealt([0, 0, 1, 1], [0, 0, 1, 1], [[0, 0], [2, 2]]) == [0, 0, 0, 0]


def test_a_group_moves_where_a_class_would_be_missing() -> None:
    """Two large groups of one class would both be trained on; one of them validates instead."""
    found = dealt([0] * 20, [0] * 10 + [1] * 10, [[17], [3]])
    assert sorted([found[0], found[10]]) == [0, 1]


def test_no_set_loses_its_last_group_of_a_class() -> None:
    """With two groups for three sets the third goes without."""
    found = dealt([0] * 20, [0] * 10 + [1] * 10, [[14], [3], [3]])
    assert sorted({found[0], found[10]}) == [0, 1]


def test_folds_are_kept_equally_large() -> None:
    """The remainders of many classes of three go to different folds of two."""
    labels = [k for k in range(6) for _ in range(3)]
    targets = [[1.5] * 6, [1.5] * 6]
    assert sum(dealt(labels, list(range(18)), targets, train_first=False)) == 9


@pytest.mark.parametrize("num", [0, 1])
def test_nothing_and_one_are_divided(num: int) -> None:
    """An empty collection has no sets to be in; a lone thing is trained on."""
    assert dealt([0] * num, [0] * num, [[num], [0]]) == [0] * num


def test_stratified_group_k_fold_of_scikit_learn_is_not_more_even() -> None:
    """On 120 groups of four uneven classes our folds are as even as those of the usual library, or more so."""
    from sklearn.model_selection import StratifiedGroupKFold

    random = np.random.default_rng(5)
    sizes = random.integers(1, 12, 120)
    groups = np.repeat(np.arange(120), sizes)
    labels = random.choice(4, p=[0.6, 0.25, 0.1, 0.05], size=len(groups))
    counts = np.bincount(labels, minlength=4)

    def unevenness(folds: list[np.ndarray]) -> float:
        return sum(float(((np.bincount(labels[f], minlength=4) - counts / 5) ** 2 / (counts / 5)).sum()) for f in folds)

    targets = [[float(Fraction(int(c), 5)) for c in counts] for _ in range(5)]
    ours = np.array(dealt(labels.tolist(), groups.tolist(), targets, train_first=False))
    theirs = StratifiedGroupKFold(5, shuffle=True, random_state=0).split(labels, labels, groups)
    assert unevenness([np.flatnonzero(ours == k) for k in range(5)]) <= unevenness([test for _, test in theirs])
