from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from holdfast.formats import open_checkpoint
from holdfast.formats.inert import InertObject
from holdfast.toolbox.outline import json_of, lines_of, short


def test_values_become_json_of_the_same_meaning(save: Callable[..., Path]) -> None:
    """Numbers, text and containers stay; tensors, bytes and numbers that JSON lacks become words."""
    path = save(
        "a.pt", {"t": {"x": [torch.zeros(2, 3)]}, "n": float("nan"), "b": b"abc", "big": 1 << 80, "k": {1: None}}
    )
    found = json_of(open_checkpoint(path).tree)
    assert found == {
        "t": {"x": [{"tensor": "float32", "shape": [2, 3]}]},
        "n": "nan",
        "b": "<3 bytes>",
        "big": hex(1 << 80),
        "k": {"1": None},
    }
    json.dumps(found, allow_nan=False)


def test_objects_of_classes_become_their_names() -> None:
    """A record of a class that is not looked up is shown by its name, and a long text by its beginning."""
    assert json_of(InertObject("some.where", "Thing")) == "<some.where.Thing>"
    call = InertObject("posix", "system", ("rm \x1b" + "x" * 200,), {"k": [1, "a", (2,), None, 5]})
    assert json_of(call) == f"posix.system('rm \\x1b{'x' * 56}'…, k=[1, 'a', tuple, None, …])  (a call, not made)"
    assert json_of("x" * 20_000) == "x" * 10_000 + " … (20,000 letters)"


def test_a_value_in_a_thousand_places_ends_somewhere() -> None:
    """Sixty levels of lists that hold the next one twice are cut off after so many values, and say so."""
    value: Any = [1]
    for _ in range(60):
        value = [value, value]
    text = json.dumps(json_of(value))
    assert "left out: too many values" in text
    assert len(text) < 50_000_000


def test_tables_are_indented_and_the_rest_is_on_one_line() -> None:
    """Settings within settings get lines of their own; lists, tuples of a skeleton and tensors one."""
    value = {
        "epoch": 3,
        "args": {"lr": 0.125, "sizes": [1, 2], "betas": {"$tuple": [0.5, 0.75]}},
        "held": {"tensor": "float32", "shape": [2]},
        "one": {"only": {"a": 1}},
        "runs": [{"a": 1, "b": 2}],
    }
    assert list(lines_of(value, None)) == [
        "  epoch: 3",
        "  args:",
        "    lr: 0.125",
        "    sizes: 1, 2",
        "    betas: 0.5, 0.75",
        "  held: float32 [2]",
        "  one:",
        "    only: a 1",
        "  runs: 1 items",
        "    0:",
        "      a: 1",
        "      b: 2",
    ]


def test_lines_fit_the_terminal_and_are_not_endless() -> None:
    """No line is wider than the terminal, and after 400 the rest is left to --json."""
    assert list(lines_of({"name": "x" * 300}, 20)) == ["  name: xxxxxxxxxxx…"]
    lines = list(lines_of({str(n): n for n in range(1000)}, None))
    assert len(lines) == 401
    assert lines[-1] == "  … (more than 400 lines; --json has them)"


def test_terminal_commands_in_values_are_shown_as_text() -> None:
    """A value of a hostile file cannot move the cursor."""
    assert short("a\x1b[2J") == "a\\x1b[2J"
    assert list(lines_of({"k\n": "v\r"}, None)) == ["  k\\n: v\\r"]
