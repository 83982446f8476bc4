import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.data import ArrayPictures, Collection, complete_sets
from holdfast.errors import DataError


def collection_of(*counts: int, **sets: list[int]) -> Collection:
    """A collection with so many pictures in each class."""
    labels = np.repeat(np.arange(len(counts)), counts)
    pictures = ArrayPictures(np.zeros((len(labels), 2, 2), np.uint8), labels, [str(k) for k in range(len(counts))])
    return Collection(pictures, {name: np.array(members) for name, members in sets.items()})


@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=5).filter(any),
    val=st.sampled_from([0.0, 0.01, 0.15, 0.3, 0.49]),
    test=st.sampled_from([0.0, 0.01, 0.15, 0.3, 0.5]),
    seed=st.integers(0, 10),
)
def test_a_division_covers_everything_once_and_gives_every_set_every_class_it_can(
    counts: list[int], val: float, test: float, seed: int
) -> None:
    """Sets are sorted, disjoint and cover; each class has a picture in train, and in val and test if it has enough."""
    collection = collection_of(*counts)
    sets = complete_sets(collection, val_fraction=val, test_fraction=test, seed=seed)
    everything = np.concatenate(list(sets.values()))
    assert sorted(everything.tolist()) == list(range(sum(counts)))
    assert all((np.diff(members) > 0).all() for members in sets.values())
    wanted = {"val": val, "test": test}
    num_wanted = 1 + sum(fraction > 0 for fraction in wanted.values())
    for label, count in enumerate(counts):
        found = {name: int((collection.pictures.labels[m] == label).sum()) for name, m in sets.items()}
        if count:
            assert found["train"] >= 1
        for name, fraction in wanted.items():
            if fraction == 0:
                assert name not in sets
            elif count >= num_wanted:
                assert found[name] >= 1
                spare = count - num_wanted + 1
                assert found[name] == min(max(round(count * fraction), 1), spare) or val + test > 0.6


def test_a_division_takes_its_share_of_each_class() -> None:
    """Of 100 and 20 pictures 15 % are 15 and 3, for val and for test."""
    collection = collection_of(100, 20)
    sets = complete_sets(collection)
    counts = {name: np.bincount(collection.pictures.labels[members]).tolist() for name, members in sets.items()}
    assert counts == {"train": [70, 14], "val": [15, 3], "test": [15, 3]}
    assert list(sets) == ["train", "val", "test"]


def test_the_division_is_frozen() -> None:
    """A seed divides as it always did, under every version of every library."""
    sets = complete_sets(collection_of(8, 5), seed=3)
    assert {name: members.tolist() for name, members in sets.items()} == {
        "train": [0, 2, 4, 5, 6, 7, 8, 9, 12],
        "val": [3, 11],
        "test": [1, 10],
    }


def test_another_seed_divides_otherwise() -> None:
    """The seed decides which pictures are held out."""
    collection = collection_of(50, 50)
    first, again, other = (complete_sets(collection, seed=seed)["val"].tolist() for seed in (0, 0, 1))
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, {"train": 1}), (2, {"train": 1, "val": 1}), (3, {"train": 1, "val": 1, "test": 1})],
)
def test_a_small_class_serves_train_first_then_val_then_test(count: int, expected: dict[str, int]) -> None:
    """One picture trains, a second one validates, a third one tests."""
    sets = complete_sets(collection_of(count))
    assert {name: len(members) for name, members in sets.items()} == expected


def test_a_large_fraction_leaves_one_for_each_set() -> None:
    """With nine tenths for test, three pictures of a class still serve three sets."""
    sets = complete_sets(collection_of(3), test_fraction=0.9, val_fraction=0.05)
    assert {name: len(members) for name, members in sets.items()} == {"train": 1, "val": 1, "test": 1}


def test_sets_that_the_data_has_stay_as_they_are() -> None:
    """Data divided into train, val and test is not divided again."""
    given_sets = {"train": [0, 1, 2], "val": [3], "test": [4, 5]}
    sets = complete_sets(collection_of(3, 3, **given_sets))
    assert {name: members.tolist() for name, members in sets.items()} == given_sets


def test_a_missing_val_set_is_taken_from_train_alone() -> None:
    """val comes out of train; the test set stays as it is."""
    collection = collection_of(20, 20, train=[*range(15), *range(20, 35)], test=[*range(15, 20), *range(35, 40)])
    sets = complete_sets(collection)
    assert sets["test"].tolist() == collection.sets["test"].tolist()
    assert sorted([*sets["train"], *sets["val"]]) == collection.sets["train"].tolist()
    assert np.bincount(collection.pictures.labels[sets["val"]]).tolist() == [2, 2]
    assert collection.sets["train"].size == 30


def test_a_missing_test_set_is_not_made_up() -> None:
    """Where DATA has train and val, what it calls train is trained on, all of it."""
    sets = complete_sets(collection_of(5, 5, train=[0, 1, 2, 5, 6, 7], val=[3, 4, 8, 9]))
    assert list(sets) == ["train", "val"]
    assert sets["train"].tolist() == [0, 1, 2, 5, 6, 7]


def test_no_val_set_is_made_when_none_is_wanted() -> None:
    """A fraction of zero makes no set."""
    sets = complete_sets(collection_of(10, 10, train=list(range(20))), val_fraction=0)
    assert {name: len(members) for name, members in sets.items()} == {"train": 20}


def test_only_usable_pictures_are_divided() -> None:
    """Pictures that cannot be read are in no set."""
    collection = collection_of(10, 10)
    collection.usable = np.array([i for i in range(20) if i not in (3, 12)])
    sets = complete_sets(collection)
    assert sorted(np.concatenate(list(sets.values())).tolist()) == collection.usable.tolist()


@pytest.mark.parametrize(("val", "test"), [(0.5, 0.5), (1.0, 0.0), (-0.1, 0.2), (0.1, -0.2), (0.9, 0.2)])
def test_dividing_fails_when_nothing_is_left_for_training(val: float, test: float) -> None:
    """Fractions below zero, or that add up to one or more, are refused with their values."""
    with pytest.raises(DataError, match=f"val {val} and test {test} leave nothing for training; expected fractions"):
        complete_sets(collection_of(10), val_fraction=val, test_fraction=test)


def test_dividing_fails_when_the_data_has_no_train_set() -> None:
    """A lone test set is nothing to train on, and the message says which set there is."""
    with pytest.raises(DataError, match="there is a test set and no train set"):
        complete_sets(collection_of(10, test=list(range(10))))
