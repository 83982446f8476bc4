import pytest

from holdfast.words import count, wrapped


@pytest.mark.parametrize(
    ("number", "words", "said"),
    [
        (1, ("picture",), "1 picture"),
        (0, ("picture",), "0 pictures"),
        (1204, ("picture",), "1,204 pictures"),
        (1, ("class is", "classes are"), "1 class is"),
        (2, ("class is", "classes are"), "2 classes are"),
    ],
)
def test_one_is_said_in_the_singular(number: int, words: tuple[str, ...], said: str) -> None:
    """One has no s, nothing and many have one, thousands have a comma."""
    assert count(number, *words) == said


@pytest.mark.parametrize("width", [30, 40, 80])
def test_lines_break_between_words(width: int) -> None:
    """No line is longer than it may be, no word is cut or lost, and what goes on stands further in."""
    text = "  note: 68 points: if they are those of a face as 300-W numbers them, pictures may be mirrored\nand more"
    lines = wrapped(text, width).split("\n")
    assert max(map(len, lines)) <= width
    assert " ".join(lines).split() == text.split()
    assert lines[0].startswith("  note: ") and lines[1].startswith(" " * 6) and lines[-1] == "and more"


def test_what_is_copied_stays_whole() -> None:
    """A path that is longer than a line is not cut, nor is a command in backticks."""
    path, command = "a/" * 40 + "b.jpg", "`holdfast check DATA --split split.csv --fold 1`"
    lines = wrapped(f"pictures that look the same are in two sets: {command} shows them, such as {path}", 60).split(
        "\n"
    )
    assert any(command in line for line in lines)
    assert any(path in line for line in lines)


def test_what_goes_on_may_stand_under_its_column() -> None:
    """The margin is kept, up to half of a line."""
    text = "  lr 0.001  usual for adamw at a batch of eight pictures"
    assert wrapped(text, 30, margin=12).split("\n")[1] == " " * 12 + "batch of eight"
    assert wrapped(text, 30, margin=99).split("\n")[1].startswith(" " * 15 + "b")
