from __future__ import annotations

import datetime
import decimal
import enum
import os
import pickle
import subprocess
import sys
import textwrap
import webbrowser
from argparse import Namespace
from collections import OrderedDict
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pytest
import torch

from holdfast.errors import CheckpointError
from holdfast.formats.inert import InertObject
from holdfast.formats.pickle_machine import read_pickle
from holdfast.formats.plain import plain


class Mode(enum.Enum):
    """An enumeration of the test's own."""

    FAST = "fast"


class Config(dict):  # type: ignore[type-arg]
    """A dict with a name of its own."""


def seen(value: Any) -> Any:
    """Returns what is made of a value after it has been pickled and read."""
    return plain(read_pickle(pickle.dumps(value, 4), "x.pkl").value, "x.pkl")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Namespace(lr=0.1, inner=Namespace(a=(1, 2))), {"lr": 0.1, "inner": {"a": [1, 2]}}),
        (np.float32(1.5), 1.5),
        (Mode.FAST, "fast"),
        (PurePosixPath("/data/x"), "/data/x"),
        (PurePosixPath("a/b"), "a/b"),
        (datetime.datetime(2024, 3, 9, 14, 5, 6, 70), "2024-03-09T14:05:06.000070"),
        (datetime.datetime(2024, 3, 9), "2024-03-09T00:00:00"),
        (OrderedDict(a={1: "b"}), {"a": {1: "b"}}),
        ({None: 1, 2.5: 2, (1, 2): 3}, {"None": 1, "2.5": 2, "<tuple>": 3}),
        (Config(a=1), {"a": 1}),
        (torch.float16, "torch.float16"),
        (torch.device("cuda", 1), "cuda:1"),
        ([True, None, "x", b"y"], [True, None, "x", b"y"]),
    ],
    ids=lambda v: repr(v)[:40],
)
def test_records_say_what_they_hold(value: object, expected: object) -> None:
    """Arguments, paths, dates, members of enumerations, NumPy's and torch's small things are plain values."""
    assert seen(value) == expected


def test_what_says_nothing_plain_stays_a_record() -> None:
    """An object that cannot be said in plain values is left as it is."""
    assert type(seen(complex)) is not InertObject
    assert isinstance(seen(slice(1, 2)), slice)
    assert type(seen(datetime.date(2020, 1, 1))) is InertObject


def test_what_contains_itself_is_said_so_and_what_is_shared_stays_shared() -> None:
    """A cycle is cut with a word; a value in two places is one value."""
    ring: list[Any] = [1]
    ring.append(ring)
    shared = [1]
    found = seen({"ring": ring, "a": shared, "b": shared})
    assert found["ring"] == [1, "<contains itself>"]
    assert found["a"] is found["b"]


def test_values_nested_beyond_belief_are_refused() -> None:
    """A hundred levels are enough for any settings."""
    deep: list[Any] = []
    for _ in range(150):
        deep = [deep]
    with pytest.raises(CheckpointError, match=r"Reading x.pkl: its values are nested more than 100 levels deep"):
        seen(deep)


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (os.system, ("touch x",)),
        (subprocess.Popen, ("touch x",)),
        (subprocess.Popen, (["touch", "x"],)),
        (eval, ("1 + 1",)),
        (webbrowser.open, ("http://x",)),
        (textwrap.dedent, ("x",)),
        (torch.hub.load, ("x",)),
    ],
)
def test_a_call_stays_a_call(function: Any, args: Any) -> None:
    """A function of Python or of anybody else is no value, whatever state the file gives it: its name stays."""

    class Trap:
        def __init__(self, *state: Any) -> None:
            self.rest = state

        def __reduce__(self) -> Any:
            return function, args, *self.rest

    states = [(), ({"looks": "harmless"},)] if function.__module__ in sys.stdlib_module_names else [()]
    for state in states:
        found = seen({"a": Trap(*state)})["a"]
        assert isinstance(found, InertObject)
        assert found.name == function.__name__ and found.args == args


def test_numbers_of_a_kind_are_their_digits() -> None:
    """A decimal number is what it was made of; a path's name does not make a call in it a path."""
    assert seen(decimal.Decimal("1.50")) == "1.50"
    assert isinstance(plain(InertObject("pathlib", "os.system", ("touch x",)), "x"), InertObject)
