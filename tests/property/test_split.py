"""Laws of a division: whatever the labels, the groups and the shares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.data import ArrayPictures, Collection, complete_sets
from holdfast.data.division.split import divide_into_folds, sets_of_fold
from holdfast.data.sample import Indices


class NamedPictures(ArrayPictures):
    """Pictures with names of their own."""

    def __init__(self, labels: list[int], names: list[str]) -> None:
        super().__init__(np.zeros((len(labels), 2, 2), np.uint8), np.array(labels, dtype=np.int64), list("abcd"))
        self.names = names

    def name(self, index: int) -> str:
        """Returns the picture's name."""
        return self.names[index]


@dataclass
class Case:
    """Pictures and their groups: equal numbers in `together` belong together."""

    labels: list[int]
    together: Indices
    seed: int

    def collection(self, order: list[int] | None = None) -> Collection:
        """The pictures, listed in another order if asked."""
        order = list(range(len(self.labels))) if order is None else order
        return Collection(NamedPictures([self.labels[i] for i in order], [f"picture {i}" for i in order]))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Up to 60 pictures of four classes in groups of any size, many of them alone."""
    labels = draw(st.lists(st.integers(0, 3), min_size=4, max_size=60))
    groups = draw(st.lists(st.integers(0, draw(st.integers(1, 60))), min_size=len(labels), max_size=len(labels)))
    return Case(labels, np.array(groups, dtype=np.int64), draw(st.integers(0, 5)))


@settings(deadline=None)
@given(case=cases(), val=st.sampled_from([0.0, 0.1, 0.3]), test=st.sampled_from([0.0, 0.1, 0.4]))
def test_every_picture_is_in_one_set_every_group_whole_and_every_class_in_train(
    case: Case, val: float, test: float
) -> None:
    """A division is a partition; no group stands on two sides; and no class is without training."""
    sets = complete_sets(
        case.collection(), val_fraction=val, test_fraction=test, seed=case.seed, together=case.together
    )
    assert sorted(np.concatenate(list(sets.values())).tolist()) == list(range(len(case.labels)))
    set_of = np.empty(len(case.labels), dtype=int)
    for number, members in enumerate(sets.values()):
        set_of[members] = number
    for group in set(case.together.tolist()):
        assert len(set(set_of[case.together == group].tolist())) == 1
    labels = np.array(case.labels)
    assert set(labels[sets["train"]].tolist()) == set(case.labels)


@settings(deadline=None)
@given(case=cases(), folds=st.integers(2, 4))
def test_folds_are_disjoint_cover_everything_and_divide_no_group(case: Case, folds: int) -> None:
    """Each picture validates once and trains in all other folds; with it goes its group."""
    division = divide_into_folds(case.collection(), folds, seed=case.seed, together=case.together)
    everything = list(range(len(case.labels)))
    validated: list[int] = []
    assert division.folds is not None
    for fold in range(1, int(division.folds.max()) + 1):
        sets = sets_of_fold(division, fold)
        assert sorted([*sets["train"].tolist(), *sets["val"].tolist()]) == everything
        assert not set(case.together[sets["train"]].tolist()) & set(case.together[sets["val"]].tolist())
        validated += sets["val"].tolist()
    assert sorted(validated) == everything


@given(labels=st.lists(st.integers(0, 3), min_size=4, max_size=60), folds=st.integers(2, 4), seed=st.integers(0, 5))
def test_folds_of_pictures_that_stand_alone_differ_by_one(labels: list[int], folds: int, seed: int) -> None:
    """Without groups each class is spread within one picture, and the folds are equally large within one."""
    collection = Case(labels, np.arange(len(labels)), seed).collection()
    division = divide_into_folds(collection, folds, seed=seed)
    assert division.folds is not None
    sizes = np.bincount(division.folds, minlength=folds + 1)[1:]
    assert sizes.max() - sizes.min() <= 1
    for label in set(labels):
        counts = np.bincount(division.folds[np.array(labels) == label], minlength=folds + 1)[1:]
        assert counts.max() - counts.min() <= 1


@settings(deadline=None)
@given(case=cases(), data=st.data(), folds=st.booleans())
def test_the_order_in_which_pictures_are_listed_changes_nothing(case: Case, data: st.DataObject, folds: bool) -> None:
    """The same names, labels and groups in another order give every picture the same set, or the same fold."""
    order = data.draw(st.permutations(range(len(case.labels))))
    here, there = case.collection(), case.collection(order)
    together = case.together[order]
    if folds:
        one = divide_into_folds(here, 2, seed=case.seed, together=case.together).folds
        other = divide_into_folds(there, 2, seed=case.seed, together=together).folds
        assert one is not None and other is not None and one[order].tolist() == other.tolist()
        return
    one_sets = complete_sets(here, seed=case.seed, together=case.together)
    other_sets = complete_sets(there, seed=case.seed, together=together)
    assert list(one_sets) == list(other_sets)
    for name, members in other_sets.items():
        assert sorted(order[i] for i in members.tolist()) == one_sets[name].tolist()


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 3), min_size=30, max_size=60),
    labels=st.lists(st.integers(0, 1), min_size=60, max_size=60),
    seed=st.integers(0, 5),
)
def test_small_groups_leave_the_shares_within_a_group(sizes: list[int], labels: list[int], seed: int) -> None:
    """Groups of up to three pictures, one class each: every class misses its share by less than two groups."""
    group_of = np.repeat(np.arange(len(sizes)), sizes)
    of_picture = [labels[group] for group in group_of.tolist()]
    case = Case(of_picture, group_of, seed)
    sets = complete_sets(case.collection(), val_fraction=0.2, test_fraction=0.2, seed=seed, together=group_of)
    for label in set(of_picture):
        total = of_picture.count(label)
        for name in ("val", "test"):
            found = sum(of_picture[i] == label for i in sets.get(name, np.array([], int)).tolist())
            assert abs(found - 0.2 * total) < 6
