from __future__ import annotations

import collections
import datetime
import decimal
import enum
import functools
import pickle
import pickletools
import types
from argparse import Namespace
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pytest

from holdfast.errors import CheckpointCorrupt, CheckpointError
from holdfast.formats.arrays import InertArray
from holdfast.formats.inert import Global, InertObject
from holdfast.formats.limits import Limits
from holdfast.formats.pickle_literals import LITERALS, TEXTS
from holdfast.formats.pickle_machine import read_pickle
from holdfast.formats.pickle_operations import OPERATIONS

PROTOCOLS = range(6)
PLAIN = [
    None, True, False, 0, 1, -1, 255, 256, 65535, 65536, -(2**31), 2**31, 2**63, -(2**900), 0.0, -1.5, float("inf"),
    "", "text", "ümläut \n \\ \x00 \U0001f600", "x" * 300, b"", b"bytes\xff\n", b"y" * 300, bytearray(b"abc"),
    (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], [1, [2, [3]]], {}, {"a": {"b": [1, None]}, 3: "c", (1, "x"): 4},
    set(), {1, 2, "a"}, frozenset({1, "b"}), 1 + 2j, slice(1, None, 3), range(2, 9, 3),
    collections.OrderedDict([("b", 1), ("a", 2)]),
]  # fmt: skip


class Colour(enum.Enum):
    """An enumeration of the test's own."""

    RED = "red"


class Slotted:
    """A class with slots and no dict."""

    __slots__ = ("left", "right")


class Settings(dict):  # type: ignore[type-arg]
    """A dict with a name of its own and an attribute."""


def read(data: bytes, **how: Any) -> Any:
    """Returns the value of one pickle."""
    return read_pickle(data, "here.pkl", **how).value


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "value", PLAIN, ids=lambda v: f"set of {len(v)}" if "set" in type(v).__name__ else repr(v)[:30]
)
def test_plain_values_come_back_as_they_were(value: object, protocol: int) -> None:
    """Every plain value is read from every protocol with its own type."""
    found = read(pickle.dumps(value, protocol))
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_containers_that_are_shared_or_contain_themselves_stay_so(protocol: int) -> None:
    """What stood in two places is one object again, and a cycle is a cycle."""
    shared, cycle = [1], [2]
    cycle.append(cycle)  # type: ignore[arg-type]
    found = read(pickle.dumps([shared, shared, cycle], protocol))
    assert found[0] is found[1]
    assert found[2][1] is found[2]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_contents_of_counters_deques_and_default_dicts_are_plain(protocol: int) -> None:
    """A Counter and a defaultdict are dicts, a deque is a list."""
    default = collections.defaultdict(list, {"a": [1]})
    found = read(pickle.dumps([collections.Counter("abca"), default, collections.deque([1, 2], 9)], protocol))
    assert found == [{"a": 2, "b": 1, "c": 1}, {"a": [1]}, [1, 2]]
    assert [type(v) for v in found] == [dict, dict, list]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_objects_are_records_of_their_class_and_attributes(protocol: int) -> None:
    """A Namespace and a SimpleNamespace are inert, and their attributes can be read."""
    found = read(pickle.dumps([Namespace(lr=0.1, arch="vgg"), types.SimpleNamespace(a=1)], protocol))
    assert [(type(v), v.full_name, v.attributes) for v in found] == [
        (InertObject, "argparse.Namespace", {"lr": 0.1, "arch": "vgg"}),
        (InertObject, "types.SimpleNamespace", {"a": 1}),
    ]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_subclasses_of_containers_keep_items_and_attributes(protocol: int) -> None:
    """A dict with a class of its own is a record with both its items and its attributes."""
    settings = Settings(a=1)
    settings.note = "kept"  # type: ignore[attr-defined]
    found = read(pickle.dumps(settings, protocol))
    assert found.name == "Settings"
    assert found.attributes == {"note": "kept"}
    assert found.items == [("a", 1)] or found.args == ({"a": 1},)


@pytest.mark.parametrize("protocol", range(2, 6))
def test_slots_are_attributes(protocol: int) -> None:
    """The state of a class with slots is read as attributes too."""
    slotted = Slotted()
    slotted.left, slotted.right = 1, "r"
    assert read(pickle.dumps(slotted, protocol)).attributes == {"left": 1, "right": "r"}


def test_calls_are_records_with_their_arguments() -> None:
    """Members of enumerations, paths, dates, decimals and partials are names with arguments."""
    values = [Colour.RED, PurePosixPath("a/b"), datetime.date(2020, 1, 2), decimal.Decimal("1.5")]
    colour, path, date, number = read(pickle.dumps(values, 4))
    assert (colour.name, colour.args) == ("Colour", ("red",))
    assert (path.full_name, path.args) == ("pathlib.PurePosixPath", ("a", "b"))
    assert (date.full_name, date.args) == ("datetime.date", (b"\x07\xe4\x01\x02",))
    assert (number.full_name, number.args) == ("decimal.Decimal", ("1.5",))
    partial = read(pickle.dumps(functools.partial(print, 1, end=""), 4))
    assert partial.full_name == "functools.partial"
    assert partial.args == (Global("builtins", "print"),)
    assert partial.state[1:3] == ((1,), {"end": ""})


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype="<f4").reshape(2, 3), np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.array(3, ">i2"),
        np.array(["a", "ümlaut"]), np.zeros((0, 3)), np.array([True, False]), np.array([1 + 2j]),
        np.array([b"xy", b"z"]),
    ],
    ids=str,
)  # fmt: skip
def test_arrays_are_described_and_made_when_asked(array: np.ndarray[Any, Any], protocol: int) -> None:
    """A NumPy array comes back with its type, shape and values."""
    found = read(pickle.dumps(array, protocol))
    assert type(found) is InertArray
    made = found.to_numpy()
    assert (made.dtype, made.shape, made.tolist()) == (array.dtype, array.shape, array.tolist())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numpy_scalars_are_numbers_when_asked(protocol: int) -> None:
    """The one value of a NumPy scalar is a Python number."""
    found = read(pickle.dumps([np.float64(2.5), np.int16(-3), np.bool_(True), np.float16(0.5)], protocol))
    assert [v.item() for v in found] == [2.5, -3, True, 0.5]


def test_arrays_of_objects_and_structures_are_refused_only_when_made() -> None:
    """Such an array has a record, and says that there is no more when asked for."""
    for array in (np.array([{}, None], object), np.zeros(2, [("a", "i4")])):
        found = read(pickle.dumps(array, 4))
        with pytest.raises(CheckpointError, match=r"An array of structures or of Python objects.* is not made"):
            found.to_numpy()


def test_strings_of_python_2_are_text_or_bytes() -> None:
    """What Python 2 called str is text when it is UTF-8, and bytes otherwise."""
    assert read(b"U\x03abc.") == "abc"
    assert read(b"T\x02\x00\x00\x00\xff\xfe.") == b"\xff\xfe"
    assert read(b"S'it\\'s\\n'\n.") == "it's\n"


def test_every_opcode_of_python_is_known() -> None:
    """The machine has an operation for each opcode that Python's own documentation lists."""
    known = {*LITERALS, *TEXTS, *OPERATIONS, ord(".")}
    assert {chr(code) for code in known} == {opcode.code for opcode in pickletools.opcodes}
    names = {code: entry[0] for table in (LITERALS, TEXTS, OPERATIONS) for code, entry in table.items()}
    assert all(names.get(ord(op.code), "STOP") == op.name for op in pickletools.opcodes)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"at byte 0 of its pickle \(the first byte\) found 1 bytes promised where 0 are left"),
        (b"\x80\x06N.", r"at byte 0 of its pickle \(PROTO\) found protocol 6"),
        (b"N\xffN.", r"at byte 1 of its pickle \(0xff\) found which is no opcode"),
        (b"]K\x01", r"at byte 3 of its pickle \(BININT1\) found 1 bytes promised where 0"),
        (b"X\xff\xff\xff\xff.", r"\(BINUNICODE\) found 4,294,967,295 bytes promised where 1 are left"),
        (b"NN.", r"\(STOP\) found 2 values left on the stack and 0 marks; expected one value"),
        (b".", r"\(STOP\) found 0 values left"),
        (b"(0N.", None),
        (b"R.", r"\(REDUCE\) found an empty stack"),
        (b"NNR.", r"\(REDUCE\) found arguments that are no tuple"),
        (b"h\x07.", r"\(BINGET\) found a reference to value 7, which was not kept"),
        (b"t.", r"\(TUPLE\) found no mark on the stack"),
        (b"}(K\x01u.", r"\(SETITEMS\) found a key without a value"),
        (b"}]K\x01s.", r"\(SETITEM\) found a list as a key"),
        (b"K\x01K\x02a.", r"\(APPEND\) found items for a int"),
        (b"K\x01}b.", r"\(BUILD\) found a state for a int"),
        (b"Ivier\n.", r"\(INT\) found b'vier' as a number"),
        (b"\x8b\xff\xff\xff\x7f.", r"\(LONG4\) found an integer of 2,147,483,647 bytes"),
        (b"Vabc", r"\(UNICODE\) found no end of the line"),
        (b"X\x01\x00\x00\x00\xff.", r"\(BINUNICODE\) found text that is not UTF-8"),
        (b"\x97.", r"\(NEXT_BUFFER\) found a buffer outside the pickle"),
        (b"P1\n.", r"\(PERSID\) found a reference to data outside the pickle"),
        (b"S'abc\n.", r"\(STRING\) found a string without its quotes"),
    ],
)  # fmt: skip
def test_what_is_no_pickle_is_refused_with_offset_and_opcode(data: bytes, message: str | None) -> None:
    """Every malformed stream is CheckpointCorrupt, naming the file, the byte and the opcode."""
    if message is None:
        assert read(data) is None
        return
    with pytest.raises(CheckpointCorrupt, match=f"^Reading here.pkl: .*{message}"):
        read(data)


def test_a_pickle_may_stand_behind_others() -> None:
    """Reading starts where it is told and says where it ended."""
    data = pickle.dumps("one") + pickle.dumps([2])
    first = read_pickle(data, "two.pkl")
    assert first.value == "one"
    assert read_pickle(data, "two.pkl", start=first.end) == ([2], len(data))


@pytest.mark.parametrize(
    ("data", "limits", "message"),
    [
        (pickle.dumps(list(range(100))), Limits(opcodes=50), "more than 50 steps"),
        (pickle.dumps("x" * 5000), Limits(memory=4000), "more than 4,000 bytes of memory"),
        (pickle.dumps([[] for _ in range(100)]), Limits(memo=50), "more than 50 values kept"),
    ],
)
def test_what_costs_too_much_is_refused(data: bytes, limits: Limits, message: str) -> None:
    """Steps, memory and memo have limits, and wider ones open the same file."""
    with pytest.raises(CheckpointError, match=f"Reading here.pkl: .* asks for {message}.*wider limits") as refused:
        read(data, limits=limits)
    assert not isinstance(refused.value, CheckpointCorrupt)
    assert read(data) is not None


def test_keys_whose_hashes_a_file_can_choose_are_limited() -> None:
    """A dictionary of huge integers, which could all share one hash, is refused beyond the limit."""
    many = {n * ((1 << 61) - 1): None for n in range(1, 200)}
    assert len(read(pickle.dumps(many))) == 199
    with pytest.raises(CheckpointCorrupt, match="more keys made of numbers than any checkpoint has"):
        read(pickle.dumps(many), limits=Limits(hard_keys=100))


def test_references_are_handed_to_whoever_knows_the_file() -> None:
    """A persistent id is given as it was written, and what comes back stands in its place."""
    seen: list[Any] = []
    assert read(b"(X\x01\x00\x00\x00aK\x05tQ.", persistent=lambda r: seen.append(r) or "made") == "made"
    assert seen == [("a", 5)]
