from __future__ import annotations

import pytest

from holdfast.toolbox.text import aligned, cut, printable, shortened, size_text


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 KB"),
        (46_807_640, "46.8 MB"),
        (999_949_999, "999.9 MB"),
        (999_950_000, "1.00 GB"),
        (2_147_483_648, "2.15 GB"),
    ],
)
def test_sizes_are_in_powers_of_a_thousand(num_bytes: int, text: str) -> None:
    """A size has the unit in which it is below a thousand, also at the edges."""
    assert size_text(num_bytes) == text


def test_control_characters_are_shown_and_not_sent_to_the_terminal() -> None:
    """A name that would clear the screen, break the line or is no UTF-8 is printed as escapes; others as they are."""
    assert printable("layer.wéight") == "layer.wéight"
    assert printable("a\x1b[2Jb\nc") == "a\\x1b[2Jb\\nc"
    assert printable("\udc80") == "\\udc80"
    assert printable("\u202eevil") == "\\u202eevil"


def test_long_names_lose_their_middle() -> None:
    """A shortened name fits exactly, and keeps its beginning and more of its end."""
    assert shortened("abcdefghij", 10) == "abcdefghij"
    assert shortened("abcdefghij", None) == "abcdefghij"
    assert shortened("abcdefghijklmnop", 10) == "abc…klmnop"
    assert [len(shortened("x" * 50, width)) for width in (1, 2, 5, 49)] == [1, 2, 5, 49]


def test_words_of_a_name_are_left_out_whole() -> None:
    """The first and the last stay where they fit; where not even the last fits, letters are left out."""
    name = "encoder.layer.3.attention.output.LayerNorm.weight"
    assert shortened(name, 48) == "encoder.….3.attention.output.LayerNorm.weight"
    assert shortened(name, 30) == "….output.LayerNorm.weight"
    assert shortened(name, 17) == "encoder.….weight"
    assert shortened(name, 9) == "….weight"
    assert len(shortened(name, 5)) == 5


def test_long_lines_lose_their_end() -> None:
    """A line is cut to the width, with an ellipsis in it."""
    assert cut("abcdef", 6) == "abcdef"
    assert cut("abcdefg", 6) == "abcde…"
    assert cut("abcdefg", None) == "abcdefg"


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    """Cells stand below one another, to the left or right, and rows that end early widen nothing."""
    rows = [["a", "10", "x"], ["bcd", "7", "yz"], ["e", "a remark that is long"]]
    assert aligned(rows[:2], (False, True, False)) == ["a    10  x", "bcd   7  yz"]
    assert aligned(rows, (False, True, False)) == ["a    10  x", "bcd   7  yz", "e    a remark that is long"]
    assert aligned([["a", "1"], ["b"], ["c", "22"]], (False, True)) == ["a   1", "b", "c  22"]
    assert aligned([], (False,)) == []
