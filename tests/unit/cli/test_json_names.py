"""The names in the JSON of the commands that look at data: one name means one thing in all of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Settings of `train` and places in a list have the names that they have there.
SETTINGS = {"img_size", "batch_size", "decode_size", "workers", "short_side"}
# Numbers by the words of the data, not by names of ours, and lists of a shape or a range.
BY_WORD = {"num_by_set", "num_by_class", "num_by_label", "tables"}
SHAPES = {"width", "height", "first_shape", "batch_shape"}


def _whole_numbers(value: Any, name: str = "") -> Iterator[str]:
    """Yields the names under which whole numbers stand."""
    if isinstance(value, dict):
        for key, one in value.items():
            if key not in BY_WORD:
                yield from _whole_numbers(one, key)
    elif isinstance(value, list):
        for one in value:
            yield from _whole_numbers(one, name)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield name


@pytest.fixture
def said(holdfast: Callable[..., Any], picture_folder: Path) -> dict[str, dict[str, Any]]:
    """What each command says of one folder."""
    commands = {
        "check": ("check", picture_folder),
        "split": ("split", picture_folder),
        "show": ("show", picture_folder),
        "bench": ("bench", "data", picture_folder, "--num", "4", "--workers", "0"),
        "cache": ("cache", "--cache-dir", picture_folder.parent / "cache"),
    }
    return {name: json.loads(holdfast(*command, "--json").out) for name, command in commands.items()}


def test_one_name_means_one_thing(said: dict[str, dict[str, Any]], picture_folder: Path) -> None:
    """What several commands say of the same folder, they say under the same name and with the same value."""
    for name in ("check", "split", "show", "bench"):
        assert (said[name]["data"], said[name]["num_pictures"]) == (str(picture_folder), 24), name
        assert said[name]["task"] == "classification", name
    for name in ("check", "split", "show"):
        assert said[name]["classes"] == ["blue", "green", "red"], name
    for name in ("check", "split"):
        by_set, by_class = said[name]["num_by_set"], said[name]["num_by_class"]
        assert by_set == {part: sum(numbers.values()) for part, numbers in by_class.items()}, name
        assert sum(by_set.values()) == 24


def test_counts_and_sizes_are_named_as_such(said: dict[str, dict[str, Any]]) -> None:
    """A whole number is a count (`num_…`), a size (`…_bytes`), a setting of `train` or a part of a shape."""
    for command, value in said.items():
        odd = {
            name
            for name in _whole_numbers(value)
            if not name.startswith("num_") and not name.endswith("_bytes") and name not in SETTINGS | SHAPES
        }
        assert odd == set(), command
