from __future__ import annotations

import collections
import datetime
import enum
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from holdfast.checkpoints.flatten import flatten, unflatten
from holdfast.errors import CheckpointCorrupt, UnsupportedState

NUMBERS = [
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64",
    "complex64", "complex128",
]  # fmt: skip


def _round_trip(tree: Any) -> Any:
    flat = flatten(tree, "part")
    skeleton = json.loads(json.dumps(flat.skeleton, allow_nan=False))
    return unflatten(skeleton, flat.tensors | {alias: flat.tensors[name] for alias, name in flat.aliases.items()})


@pytest.mark.parametrize(
    "value",
    [
        None, True, False, 0, -1, 2**200, 10**4000, 0.1, -0.0, 5e-324, "", "grüße", "$tensor", b"", b"\0\xff", 1j,
        complex(-0.0, float("inf")), [], [[]], (), (1, (2, [3])), {}, {"": 1}, {0: "a", "0": "b"}, {True: 1, None: 2},
        {(1, 2): 3}, {"$tensor": "x"}, {"$weird": 1, "b": 2}, {1, 2}, set(), frozenset({1}), {frozenset({1})},
        {frozenset({1}): 2}, torch.float16, torch.Size([2, 3]), collections.OrderedDict(b=1, a=2),
    ],
    ids=repr,
)  # fmt: skip
def test_plain_values_come_back_as_they_were(value: Any) -> None:
    """Every plain value comes back equal and of its own type, down to the order of a dict's keys."""
    read = _round_trip({"v": value})["v"]
    assert read == value
    assert type(read) is (dict if isinstance(value, dict) else type(value))
    assert repr(read) == repr(dict(value) if isinstance(value, dict) else value)


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_floats_without_a_json_word_come_back(value: float) -> None:
    """Infinities and not-a-number survive, though JSON has no word for them."""
    read = _round_trip(value)
    assert read == value or (math.isnan(read) and math.isnan(value))


@pytest.mark.parametrize("name", NUMBERS)
def test_numpy_scalars_come_back_with_their_dtype(name: str) -> None:
    """A NumPy scalar comes back as the same number of the same dtype."""
    value = np.dtype(name).type(1)
    read = _round_trip(value)
    assert type(read) is type(value)
    assert read == value


@pytest.mark.parametrize("name", ["bool", "int8", "uint16", "uint64", "float16", "float32", "float64", "complex64"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3)])
def test_numpy_arrays_come_back_as_arrays(name: str, shape: tuple[int, ...]) -> None:
    """An array comes back as an array of the same dtype, shape and values that may be written to."""
    array = np.arange(math.prod(shape)).reshape(shape).astype(name)
    read = _round_trip({"a": array})["a"]
    assert isinstance(read, np.ndarray)
    assert (read.dtype, read.shape) == (array.dtype, shape)
    assert np.array_equal(read, array)
    read[...] = 0


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6)[::-2],
        np.arange(6).reshape(2, 3).T,
        np.arange(3, dtype=">i4"),
        np.broadcast_to(np.arange(3), (2, 3)),
        np.arange(1)[::-1],
    ],
    ids=["backwards", "transposed", "big-endian", "read-only", "one value backwards"],
)
def test_numpy_arrays_of_any_layout_come_back_with_their_values(array: np.ndarray) -> None:
    """Backwards, transposed, foreign-endian and read-only arrays keep their values."""
    assert np.array_equal(_round_trip(array), array)


def test_numpy_random_state_comes_back() -> None:
    """A generator that is put back from what was stored goes on with the same numbers."""
    generator = np.random.default_rng(5)
    generator.random(3)
    legacy = np.random.RandomState(5)
    state, old = _round_trip([generator.bit_generator.state, legacy.get_state()])
    expected = generator.random(4), legacy.random_sample(4)
    generator.bit_generator.state = state
    legacy.set_state(old)
    assert np.array_equal(generator.random(4), expected[0])
    assert np.array_equal(legacy.random_sample(4), expected[1])


class _Mood(enum.StrEnum):
    CALM = "calm"


class _Level(enum.IntEnum):
    LOW = 1


def test_enumerations_of_plain_values_are_stored_as_the_values() -> None:
    """A text or integer enumeration is stored as its text or integer."""
    assert _round_trip({"mood": _Mood.CALM, "level": _Level.LOW, "name": np.str_("x")}) == {
        "mood": "calm",
        "level": 1,
        "name": "x",
    }


def test_tensors_are_named_by_their_path_and_not_copied() -> None:
    """The tensor of `{"a": [t]}` is called `a.0` and is the very object."""
    tensor = torch.ones(2)
    flat = flatten({"a": [tensor]}, "part")
    assert flat.tensors["a.0"] is tensor
    assert flat.skeleton == {"a": [{"$tensor": "a.0"}]}


def test_a_lone_tensor_is_called_value() -> None:
    """A tree that is one tensor has it under `value`."""
    tensor = torch.ones(2)
    assert flatten(tensor, "part").tensors == {"value": tensor}


def test_paths_that_spell_the_same_name_get_names_of_their_own() -> None:
    """`{"a.b": x, "a": {"b": y}}` keeps x and y apart."""
    read = _round_trip({"a.b": torch.tensor(1), "a": {"b": torch.tensor(2)}, "a.b_": torch.tensor(3)})
    assert (read["a.b"].item(), read["a"]["b"].item(), read["a.b_"].item()) == (1, 2, 3)


def test_the_headers_own_name_is_given_to_no_tensor() -> None:
    """A tensor under the key `__metadata__` gets another name in the file, and comes back under its key."""
    tree = {"__metadata__": torch.tensor(1)}
    assert "__metadata__" not in flatten(tree, "part").tensors
    assert _round_trip(tree)["__metadata__"].item() == 1


def test_tied_tensors_are_stored_once_and_come_back_tied() -> None:
    """Two names of one tensor are stored as one, and come back as one."""
    weight = torch.ones(2, 2)
    flat = flatten({"encoder": weight, "decoder": weight.detach()}, "part")
    assert list(flat.tensors) == ["encoder"]
    assert flat.aliases == {"decoder": "encoder"}
    read = _round_trip({"encoder": weight, "decoder": weight})
    assert read["encoder"] is read["decoder"]


def test_a_tied_module_has_one_stored_tensor() -> None:
    """A module whose two layers share a weight stores it once."""
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    flat = flatten(dict(model.state_dict()), "model")
    assert list(flat.tensors) == ["0.weight"]
    assert flat.aliases == {"1.weight": "0.weight"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda t: t, lambda t: t.T),
        (lambda t: t[0], lambda t: t[1]),
        (lambda t: t, lambda t: t[:, :1]),
        (lambda t: t, lambda t: t.conj()),
        (lambda t: t.imag, lambda t: t.conj().imag),
        (lambda t: t[:0], lambda t: t[:0]),
    ],
    ids=["transposed", "another row", "narrowed", "conjugated", "negated", "empty"],
)
def test_views_with_other_values_are_not_taken_for_tied(one: Any, other: Any) -> None:
    """Views of one memory that do not show the same values are stored apart."""
    base = torch.tensor([[1 + 2j, 3 + 4j], [5 + 6j, 7 + 8j]])
    tree = {"one": one(base), "other": other(base)}
    flat = flatten(tree, "part")
    assert list(flat.tensors) == ["one", "other"]
    assert flat.aliases == {}


_Point = collections.namedtuple("_Point", "x y")


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (object(), "builtins.object"),
        (len, "builtins.builtin_function_or_method"),
        (datetime.date(2020, 1, 1), "datetime.date"),
        (_Point(1, 2), "_Point"),
        (np.array(["a"]), "numpy.ndarray"),
        (np.array([None]), "numpy.ndarray"),
        (np.longdouble(1), "numpy.longdouble"),
        (np.ones(2, np.longdouble), "numpy.ndarray"),
        (np.datetime64("2020"), "numpy.datetime64"),
        (np.ma.array([1, 2], mask=[0, 1]), "MaskedArray"),
        (torch.Generator(), "torch._C.Generator"),
        (nn.ReLU(), "torch.nn.modules.activation.ReLU"),
        (torch.zeros(2, dtype=torch.complex128), "torch.complex128"),
        (torch.zeros(2, 2).to_sparse(), "torch.sparse_coo"),
        (torch.zeros(2, device="meta"), "on the meta device"),
        ("\udc80", "surrogates not allowed"),
        (10**5000, "4300 digits"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.filterwarnings("ignore:Sparse")
def test_flatten_fails_with_the_path_of_a_value_that_cannot_be_stored(value: Any, found: str) -> None:
    """What cannot be stored is refused by its full path and its type."""
    with pytest.raises(UnsupportedState, match=r"Saving model\.layers\.0\.state: ") as caught:
        flatten({"fine": 1, "layers": [{"state": value}]}, "model")
    assert found in str(caught.value)


def test_flatten_fails_with_the_path_of_a_key_that_cannot_be_stored() -> None:
    """A key that is no storable text is refused too."""
    with pytest.raises(UnsupportedState, match=r"Saving part\.a\.\udc80: .*surrogates"):
        flatten({"a": {"\udc80": 1}}, "part")
    with pytest.raises(UnsupportedState, match=r"Saving part\.a\.key: found a builtins\.object"):
        flatten({"a": {object(): 1}}, "part")


@pytest.mark.parametrize(
    "skeleton",
    [
        {"$tensor": "gone"},
        {"$array": "gone"},
        {"$unheard": 1},
        {"$items": [1]},
        {"$items": [[[], 1]]},
        {"$tuple": 5},
        {"$float": "wide"},
        {"$complex": ["1"]},
        {"$bytes": "?"},
        {"$scalar": ["no such dtype", 1]},
        {"$dtype": "nn"},
        {"$dtype": 5},
        {"$set": [[1]]},
        {"$size": ["a"]},
    ],
    ids=json.dumps,
)
def test_unflatten_fails_when_the_skeleton_is_not_ours(skeleton: Any) -> None:
    """A skeleton that asks for a missing tensor, or says what we never say, is corrupt and not a crash."""
    with pytest.raises(CheckpointCorrupt, match="The state's skeleton does not fit its tensors"):
        unflatten({"deep": [skeleton]}, {})
