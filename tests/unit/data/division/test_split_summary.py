from __future__ import annotations

import numpy as np

from holdfast.data import ArrayPictures, Collection
from holdfast.data.division.split import Division, complete_sets, divide_into_folds
from holdfast.data.division.split_summary import count_classes, shortfalls, summary_json, table_lines


def collection_of(*counts: int) -> Collection:
    """So many pictures of each of the classes a, b, c …"""
    labels = np.repeat(np.arange(len(counts)), counts)
    return Collection(ArrayPictures(np.zeros((len(labels), 2, 2), np.uint8), labels, list("abcdef"[: len(counts)])))


def test_the_table_has_a_line_a_class_a_sum_and_shares() -> None:
    """Numbers stand under their heads."""
    collection = collection_of(1400, 20)
    counts = count_classes(collection, Division(complete_sets(collection)))
    assert table_lines(["a", "b"], counts) == [
        "class  train    val   test     all",
        "a        980    210    210   1,400",
        "b         14      3      3      20",
        "         994    213    213   1,420",
        "       70.0%  15.0%  15.0%  100.0%",
    ]


def test_many_classes_are_told_by_the_first_and_a_rest() -> None:
    """A thousand lines are no table; names that would break the line are made harmless."""
    names = ["two\nlines", "x" * 60, *(f"class {k}" for k in range(98))]
    lines = table_lines(names, {"train": list(range(100)), "val": [1] * 100})
    assert len(lines) == 43
    assert [line.split("  ")[0] for line in (*lines[1:3], lines[40])] == ["two�lines", "x" * 39 + "…", "(61 more)"]
    assert lines[41].split() == ["4,950", "100", "5,050"]


def test_folds_are_columns() -> None:
    """Each fold is told, and the test set; the train set is all of the folds."""
    collection = collection_of(8, 8)
    division = divide_into_folds(collection, 2, test_fraction=0.25)
    counts = count_classes(collection, division)
    assert counts == {"fold 1": [3, 3], "fold 2": [3, 3], "test": [2, 2]}
    told = summary_json(collection, counts, np.arange(16), ["x"])
    assert (told["num_pictures"], told["num_by_set"], told["notes"]) == (
        16,
        {"fold 1": 6, "fold 2": 6, "test": 4},
        ["x"],
    )
    assert {name: by_class["a"] for name, by_class in told["num_by_class"].items()} == {
        "fold 1": 3, "fold 2": 3, "test": 2,
    }  # fmt: skip


def test_classes_too_small_for_every_set_are_said() -> None:
    """A class with two pictures, and one that is a single group, say what they lack and why."""
    collection = collection_of(20, 2, 6)
    leader = np.array([*range(22), *[22] * 6])
    division = Division(complete_sets(collection, together=leader))
    lines = shortfalls(collection, division, leader, {"val": 0.15, "test": 0.15})
    assert lines[:2] == [
        "class 'b' has 2 pictures: none in test",
        "class 'c' has 6 pictures in 1 group: none in val, test",
    ]


def test_a_giant_group_explains_the_shares() -> None:
    """A set that misses its share says so, with the size of the largest group."""
    collection = collection_of(100)
    leader = np.array([*[0] * 90, *range(90, 100)])
    division = Division(complete_sets(collection, together=leader))
    lines = shortfalls(collection, division, leader, {"val": 0.15, "test": 0.15})
    assert lines == [
        f"{name} has 5.0% of the pictures and not 15.0%: what belongs together stays so (the largest group holds 90.0%)"
        for name in ("val", "test")
    ]


def test_a_class_in_one_fold_is_said() -> None:
    """When its fold validates, nothing teaches it."""
    collection = collection_of(20, 3)
    leader = np.array([*range(20), *[20] * 3])
    [line] = shortfalls(collection, divide_into_folds(collection, 3, together=leader), leader, {})
    assert line.startswith("class 'b' has 3 pictures in 1 group: none in fold ")
    assert line.endswith("; when its own fold validates, nothing teaches it")


def test_groups_that_data_itself_divides_are_said() -> None:
    """The sets of DATA are kept, and a picture that stands in two of them is named."""
    collection = collection_of(4, 4)
    collection.sets = {"train": np.array([0, 1, 4, 5]), "val": np.array([2, 3, 6, 7])}
    leader = np.array([0, 1, 0, 3, 4, 5, 6, 7])
    [line] = shortfalls(collection, Division(complete_sets(collection, together=leader)), leader, {})
    assert line == (
        "1 group or duplicate stands in several of DATA's own sets, which are kept (#0 in train, #2 in val); --pool "
        "divides all anew"
    )


def test_where_no_classes_are_learned_the_sums_stand_alone() -> None:
    """Points and numbers have no classes to count."""
    assert table_lines([], {"train": [3], "val": [1]}) == [
        "          train    val     all",
        "pictures      3      1       4",
        "          75.0%  25.0%  100.0%",
    ]
