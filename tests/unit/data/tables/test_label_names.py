from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from holdfast.data.tables.label_names import label_notices, unlisted, written_differently


def family(*labels: str) -> list[str]:
    """What is said of these labels, in lines 2, 3 …"""
    return written_differently(enumerate(labels, 2))


def test_a_family_is_told_once_with_all_its_spellings() -> None:
    """Each spelling with how many rows have it and where it stands first; other labels are left alone."""
    [line] = family("Cat", "dog", "cat", "CAT", "cat")
    assert line.startswith(
        "labels 'Cat' (1×, first in line 2), 'cat' (2×, first in line 4), 'CAT' (1×, first in line 5) differ in case"
    )


def test_numbers_are_one_family_by_their_value() -> None:
    """1, 1.0, 01 and +1 are one number, 0.5 and .50 another; 10 and 1e1 are not guessed at."""
    assert len(family("1", "1.0", "01", "+1", "0.5", ".50", "10", "1e1")) == 2
    assert family("0", "-0") != []


@given(st.lists(st.text("abAB 01.", min_size=1, max_size=4).map(str.strip), max_size=12))
def test_labels_of_which_nothing_is_said_are_different_words(labels: list[str]) -> None:
    """When no family is told, no two labels of more than a letter are equal but for case."""
    if not family(*labels):
        words = {label for label in labels if len(label) > 1}
        assert len({word.casefold() for word in words}) == len(words)


def test_single_letters_are_left_alone() -> None:
    """`a` and `A` are classes of handwriting; a digit has no case."""
    assert family("a", "A", "b", "1", "2") == []


def test_what_is_not_listed_is_told_with_what_is_near() -> None:
    """Every row, and the listed class that was probably meant."""
    assert unlisted([(2, "cat"), (3, "Cat"), (4, "cow"), (5, "")], ["cat", "dog"]) == [
        "line 3: label 'Cat' is not in the list of classes; 'cat' is",
        "line 4: label 'cow' is not in the list of classes",
    ]


def test_numbers_and_missing_values_are_noticed() -> None:
    """The mapping of numbers, of many the first twelve; and names that programs write for nothing."""
    assert label_notices({"1.0": 0, "2.0": 1}, {}) == ["labels are numbers; 1.0→0, 2.0→1"]
    assert label_notices({str(k): k for k in range(13)}, {})[0].endswith("11→11, …")
    [notice] = label_notices({"cat": 0, "NaN": 1}, {"NaN": 7})
    assert notice.startswith("label 'NaN' (7 rows) is taken for a class name")
