"""What points are called: which columns make a point, which points mirror one another, which two are the eyes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from holdfast.data.files import natural_key
from holdfast.errors import ConfigError

# The 68 points of a face as Multi-PIE, 300-W and dlib number them (from 0): jaw, brows, nose, eyes, mouth.
# Source: C. Sagonas et al., 300 Faces in-the-Wild Challenge, ICCVW 2013, figure 1.
FACE_68_PAIRS: tuple[tuple[int, int], ...] = (
    *((k, 16 - k) for k in range(8)),
    *((17 + k, 26 - k) for k in range(5)),
    *((31, 35), (32, 34)),
    *((36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)),
    *((48, 54), (49, 53), (50, 52), (55, 59), (56, 58)),
    *((60, 64), (61, 63), (65, 67)),
)
FACE_68_EYES = (36, 45)  # the outer corners of the eyes, whose distance 300-W divides errors by

_SUFFIX = re.compile(r"(.+?)[ _.:-]([xyXY])|(.*\d)([xyXY])|(.*[a-z])([XY])")
_PREFIX = re.compile(r"([xyXY])[ _.:-]?(\d.*)|([xyXY])[ _.:-](.+)")


def point_columns(header: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Returns point name → places of its x and y column, in the order of the header.

    `part_0_x,part_0_y`, `left_eye.x,left_eye.y`, `x1,y1`, `x_nose,y_nose`, and `x,y` alone (called "point"). A column
    without its partner is no point.
    """
    found: dict[str, dict[str, int]] = {}
    for place, column in enumerate(header):
        if match := _SUFFIX.fullmatch(column) or _PREFIX.fullmatch(column):
            first, second = (part for part in match.groups() if part is not None)
            axis, name = (first, second) if first in "xyXY" and match.re is _PREFIX else (second, first)
        elif column.lower() in ("x", "y"):
            axis, name = column, "point"
        else:
            continue
        found.setdefault(name, {}).setdefault(axis.lower(), place)
    return {name: (places["x"], places["y"]) for name, places in found.items() if len(places) == 2}


def pairs_from_names(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Returns the pairs of points whose names differ by left and right (or l and r) alone."""
    places = {name.lower(): place for place, name in enumerate(names)}
    pairs = []
    for place, name in enumerate(names):
        other = places.get(_mirrored(name.lower()))
        if other is not None and place < other:
            pairs.append((place, other))
    return tuple(pairs)


def parse_flip_pairs(text: str, names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Reads what a person writes after `--flip-pairs`.

    `68` (the points of a face as 300-W numbers them), `names` (by left and right in their names), `none`, or pairs
    `left_eye-right_eye` or `0-16,1-15`, by name or by place counted from 0.

    Raises:
        ConfigError: it is none of these, or names a point twice.
    """
    if text == "none":
        return ()
    if text == "68":
        if len(names) != 68:
            raise ConfigError(f"flip_pairs is 68, and there are {len(names)} points. Give pairs, such as 0-16,1-15.")
        return FACE_68_PAIRS
    if text == "names":
        pairs = pairs_from_names(names)
        if not pairs:
            raise ConfigError(
                f"flip_pairs is names, and no two names differ by left and right alone: {', '.join(names[:10])}. Give "
                "pairs, such as 0-16,1-15."
            )
        return pairs
    pairs = tuple(_pair(word.strip(), names) for word in text.split(","))
    used = [place for pair in pairs for place in pair]
    twice = sorted({place for place in used if used.count(place) > 1})
    if twice:
        raise ConfigError(
            f"flip_pairs is {text!r}: {', '.join(names[place] for place in twice)} stands in it twice. Each point has "
            "one partner, and a point on the middle line has none."
        )
    return pairs


def parse_eyes(words: Sequence[str], names: Sequence[str]) -> tuple[int, int]:
    """Reads two points, by name or by place counted from 0. Raises ConfigError when there are not two."""
    if len(words) != 2 or words[0] == words[1]:
        raise ConfigError(f"eyes is {','.join(words)!r}; expected two points, such as 36,45 or left_eye,right_eye.")
    return _place(words[0], names, "eyes"), _place(words[1], names, "eyes")


def _pair(word: str, names: Sequence[str]) -> tuple[int, int]:
    # A name may hold the sign itself: the pair is where both halves are points.
    for cut in (place for place, sign in enumerate(word) if sign == "-"):
        a, b = word[:cut].strip(), word[cut + 1 :].strip()
        if _is_point(a, names) and _is_point(b, names):
            return _place(a, names, "flip_pairs"), _place(b, names, "flip_pairs")
    raise ConfigError(
        f"flip_pairs: {word!r} is no pair of points. Expected 68, names, none, or pairs such as 0-16 or "
        f"left_eye-right_eye; the points are {', '.join(names[:10])}{' …' if len(names) > 10 else ''}."
    )


def _is_point(word: str, names: Sequence[str]) -> bool:
    return word in names or (word.isascii() and word.isdecimal() and int(word) < len(names))


def _place(word: str, names: Sequence[str], setting: str) -> int:
    if not _is_point(word, names):
        raise ConfigError(
            f"{setting}: there is no point {word!r}; there are {', '.join(sorted(names, key=natural_key)[:10])}"
            f"{' …' if len(names) > 10 else ''} (or places from 0 to {len(names) - 1})."
        )
    return list(names).index(word) if word in names else int(word)


def _mirrored(name: str) -> str:
    """Returns the name with left for right and right for left; other names as they are."""
    swapped = re.sub(r"left|right", lambda m: "right" if m[0] == "left" else "left", name)
    if swapped != name:
        return swapped
    return re.sub(r"(?<![a-z])[lr](?![a-z])", lambda m: "r" if m[0] == "l" else "l", name)
