from __future__ import annotations

import numpy as np
import pytest

from holdfast.data import ArrayPictures, Collection
from holdfast.data.division.together import keep_together
from holdfast.errors import ConfigError


def collection_of(labels: list[int], **columns: list[str]) -> Collection:
    """Pictures #0, #1 … of the classes ant and bee."""
    pictures = ArrayPictures(np.zeros((len(labels), 2, 2), np.uint8), np.array(labels), ["ant", "bee"])
    return Collection(pictures, columns=columns)


def test_without_groups_and_duplicates_each_stands_alone() -> None:
    """Everyone leads itself, the table has no names, and nothing is said."""
    together = keep_together(collection_of([0, 1, 0]), digests=["a", "b", "c"])
    assert (together.leader.tolist(), together.names, together.notices) == ([0, 1, 2], ["", "", ""], [])


def test_equal_digests_belong_together_and_are_named_by_the_first() -> None:
    """Copies have one number and one name, and are counted; two files that could not be read are no copies."""
    together = keep_together(collection_of([0, 0, 0, 0, 0]), digests=["a", "", "a", "", "b"])
    assert together.leader.tolist() == [0, 1, 0, 3, 4]
    assert together.names == ["#0", "", "#0", "", ""]
    assert together.notices == ["1 picture is the same file as another, and kept beside it (#0, #2)"]


def test_a_copy_under_another_label_is_said() -> None:
    """One of the two labels is wrong, and nobody else can know which."""
    notices = keep_together(collection_of([0, 0, 1]), digests=["a", "a", "a"]).notices
    assert notices[0].startswith("2 pictures are the same file as another, and kept beside it (#0, #1 …)")
    assert notices[1] == "1 of them stands under two labels (#1 is 'ant', #2 is 'bee'): one is wrong"


def test_groups_have_the_names_of_the_column() -> None:
    """Also those of one picture, so that the table can be read; a picture without a group is one by itself."""
    together = keep_together(collection_of([0, 1, 0, 1], patient=["x", "y", "x", ""]), group_by="patient")
    assert (together.leader.tolist(), together.names) == ([0, 1, 0, 3], ["x", "y", "x", "#3"])
    assert together.notices[-1] == "3 groups by 'patient', each in one set"


def test_a_copy_joins_two_groups() -> None:
    """A picture of two patients ties them together, and so does what looks the same."""
    collection = collection_of([0] * 6, patient=["x", "x", "y", "y", "z", "z"])
    together = keep_together(collection, group_by="patient", digests=["1", "2", "2", "3", "4", "5"])
    assert (together.leader.tolist(), together.names) == ([0, 0, 0, 0, 4, 4], ["x + y"] * 4 + ["z"] * 2)
    together = keep_together(collection, group_by="patient", near=[np.array([0, 3]), np.array([2, 5])])
    assert set(together.leader.tolist()) == {0}
    assert together.names[0] == "x + y + z"
    assert "2 pictures are nearly the same picture as another" in together.notices[1]


def test_keeping_together_fails_when_the_groups_make_no_sense() -> None:
    """What is no column and no regular expression is refused as it is everywhere."""
    with pytest.raises(ConfigError, match="is not a regular expression"):
        keep_together(collection_of([0]), group_by="(")
