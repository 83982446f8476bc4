"""Which columns make a point, and which points mirror one another."""

from __future__ import annotations

import pytest

from holdfast.data.tables.point_names import (
    FACE_68_PAIRS,
    pairs_from_names,
    parse_eyes,
    parse_flip_pairs,
    point_columns,
)
from holdfast.errors import ConfigError

FACE = ["left_eye", "right_eye", "nose", "mouth_left", "mouth_right"]


@pytest.mark.row("D3")
@pytest.mark.parametrize(
    ("header", "names"),
    [
        (["image_name", "part_0_x", "part_0_y", "part_1_x", "part_1_y"], ["part_0", "part_1"]),
        (["file", "x1", "y1", "x2", "y2"], ["1", "2"]),
        (["file", "x_1", "x_2", "y_1", "y_2"], ["1", "2"]),
        (["file", "left_eye_x", "left_eye_y", "nose.x", "nose.y"], ["left_eye", "nose"]),
        (["file", "X_nose", "Y_nose", "leftEyeX", "leftEyeY"], ["nose", "leftEye"]),
        (["file", "p1x", "p1y", "x", "y"], ["p1", "point"]),
        (["file", "label", "box", "size_x", "index"], []),
        (["set", "prefix", "suffix", "company", "boy", "box"], []),
    ],
)
def test_pairs_of_columns_are_points_in_the_order_of_the_table(header: list[str], names: list[str]) -> None:
    """Every usual way to write x and y is known, words that end in x are not, and a lone x is no point."""
    found = point_columns(header)
    assert list(found) == names
    for name, (x, y) in found.items():
        assert name == "point" or (name in header[x] and name in header[y])
        assert "x" in header[x].lower() and "y" in header[y].lower()


@pytest.mark.row("D3")
def test_the_68_pairs_are_a_mirror_image_of_the_usual_numbering() -> None:
    """Each of the 68 points has at most one partner; those on the middle line have none."""
    used = [place for pair in FACE_68_PAIRS for place in pair]
    assert len(used) == len(set(used)) == 58
    assert sorted(set(range(68)) - set(used)) == [8, 27, 28, 29, 30, 33, 51, 57, 62, 66]


def test_the_68_pairs_mirror_the_mean_face(real_data) -> None:
    """On the real faces' mean shape, exchanging the pairs and mirroring x gives the same shape, to 3 % of its size."""
    from holdfast.data import read_landmarks

    values = read_landmarks(real_data / "faces/face_landmarks.csv").pictures.targets.values  # type: ignore[attr-defined]
    shape = values - values.mean(1, keepdims=True)
    shape = (shape / (shape**2).sum((1, 2), keepdims=True) ** 0.5).mean(0)
    mirrored = shape * [-1, 1]
    for a, b in FACE_68_PAIRS:
        mirrored[[a, b]] = mirrored[[b, a]]
    assert abs(mirrored - shape).max() < 0.03


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (FACE, ((0, 1), (3, 4))),
        (["l_eye", "r_eye", "nose"], ((0, 1),)),
        (["LeftEye", "RightEye", "chin"], ((0, 1),)),
        (["part_0", "part_1", "left_only"], ()),
        (["ear.l", "ear.r", "curl", "curr"], ((0, 1),)),
    ],
)
def test_left_and_right_in_names_make_pairs(names: list[str], pairs: tuple[tuple[int, int], ...]) -> None:
    """Names that differ by left and right, or by l and r as a word, are pairs; letters within words are not."""
    assert pairs_from_names(names) == pairs


@pytest.mark.parametrize(
    ("text", "pairs"),
    [("names", ((0, 1), (3, 4))), ("none", ()), ("0-1,3-4", ((0, 1), (3, 4))), ("left_eye-right_eye", ((0, 1),))],
)
def test_flip_pairs_are_read_by_word_name_and_place(text: str, pairs: tuple[tuple[int, int], ...]) -> None:
    """Every way to write them means the same."""
    assert parse_flip_pairs(text, FACE) == pairs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("68", "there are 5 points"),
        ("0-9", "'0-9' is no pair"),
        ("left_eye", "is no pair"),
        ("0-1,1-2", "right_eye stands in it twice"),
        ("", "is no pair"),
    ],
)
def test_fails_on_pairs_that_cannot_be_meant(text: str, message: str) -> None:
    """A point that is not there, one that has two partners, the wrong number of points."""
    with pytest.raises(ConfigError, match=message):
        parse_flip_pairs(text, FACE)


def test_fails_on_names_without_sides() -> None:
    """`names` is refused where no names say left and right."""
    with pytest.raises(ConfigError, match="no two names differ"):
        parse_flip_pairs("names", ["part_0", "part_1"])


def test_eyes_by_name_and_by_place() -> None:
    """Two points, however they are called; anything else is refused."""
    assert parse_eyes(["left_eye", "1"], FACE) == (0, 1)
    for wrong in (["0"], ["0", "0"], ["0", "7"], ["a", "b"]):
        with pytest.raises(ConfigError, match="eyes"):
            parse_eyes(wrong, FACE)
