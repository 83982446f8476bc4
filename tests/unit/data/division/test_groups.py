import re

import pytest

from holdfast.data.division.groups import group_names
from holdfast.errors import ConfigError, DataError

PATHS = ["ants/p1_a.jpg", "ants/p1_b.jpg", "bees/p2_a.jpg", "bees/loose.jpg"]


def test_the_first_capture_group_names_the_group() -> None:
    """Pictures whose paths hold the same text there are one group, whatever folder they lie in."""
    assert group_names(PATHS[:3], r"p(\d+)_(\w)") == ["1", "1", "2"]


def test_without_a_capture_group_the_whole_match_names_it() -> None:
    """The text that matched is the name."""
    assert group_names(PATHS[:3], r"p\d+") == ["p1", "p1", "p2"]


def test_a_path_without_a_match_is_alone_and_counted() -> None:
    """It is a group of its own, named by its path; the notice counts such pictures and names the first."""
    notices: list[str] = []
    assert group_names(PATHS, r"p(\d+)_", None, notices) == ["1", "1", "2", "bees/loose.jpg"]
    assert notices == [
        "1 of 4 pictures has no match of 'p(\\d+)_' in the path: it is a group of its own (bees/loose.jpg)"
    ]


def test_a_capture_group_that_took_no_part_or_nothing_is_no_group() -> None:
    """An optional capture that is missing or empty would put strangers together under one empty name."""
    assert group_names(["a1", "b", "c"], r"a(\d)|b|c()") == ["1", "b", "c"]


def test_a_column_goes_before_a_regular_expression() -> None:
    """A name that is a column is the column; cells are trimmed, an empty one is a group of its own."""
    notices: list[str] = []
    names = group_names(PATHS, "p", {"p": ["x", " x ", "y", ""]}, notices)
    assert names == ["x", "x", "y", "bees/loose.jpg"]
    assert notices == ["1 of 4 pictures has an empty cell in column 'p': it is a group of its own (bees/loose.jpg)"]


def test_grouping_fails_when_nothing_matches() -> None:
    """A mistyped column is a regular expression that matches no path: the columns and a path are shown."""
    with pytest.raises(DataError) as caught:
        group_names(PATHS, "pateint", {"path": PATHS, "patient": ["1", "1", "2", "2"]})
    assert str(caught.value) == (
        "Grouping by 'pateint': every picture has no match of 'pateint' in the path. Expected a regular expression on "
        "paths such as 'ants/p1_a.jpg', or one of the columns path, patient."
    )


def test_grouping_fails_when_a_column_is_empty() -> None:
    """A column without one filled cell groups nothing."""
    with pytest.raises(DataError, match=r"every picture has an empty cell in column 'p'\. Fill the column"):
        group_names(PATHS, "p", {"p": ["", " ", "", ""]})


def test_grouping_fails_when_it_is_no_regular_expression() -> None:
    """What is wrong with it, and what else it may be, is said."""
    with pytest.raises(ConfigError, match=r"--group-by 'p\(' is not a regular expression .* or a column of a CSV"):
        group_names(PATHS, "p(")
    with pytest.raises(ConfigError, match="or one of the columns patient"):
        group_names(PATHS, "p(", {"patient": ["1"] * 4})


def test_a_regular_expression_is_told_as_it_was_written() -> None:
    """Backslashes are not doubled, so that what is said can be copied back."""
    with pytest.raises(
        DataError, match=re.escape(r"Grouping by 'p(\d+)_': every picture has no match of 'p(\d+)_' in")
    ):
        group_names(["a/1.jpg"], r"p(\d+)_", {})
