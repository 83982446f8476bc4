from __future__ import annotations

import collections
import collections.abc
import datetime
import enum
import inspect
import json
import math
import sys
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from holdfast.checkpoints.flatten import flatten, unflatten
from holdfast.errors import CheckpointCorrupt, CheckpointError, UnsupportedState

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


@pytest.mark.parametrize("name", NUMBERS)
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


class _Rate(float, enum.Enum):
    HALF = 0.5


class _Suit(enum.Enum):
    HEARTS = 1


class _Count(int):
    def __int__(self) -> int:
        return -1


class _Share(float):
    def __float__(self) -> float:
        return -1.0


class _Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "another"


def test_enumerations_of_plain_values_are_stored_as_the_values() -> None:
    """A text or integer enumeration is stored as its text or integer."""
    read = _round_trip({_Mood.CALM: [_Mood.CALM, _Level.LOW, _Rate.HALF], "keys": {_Level.LOW: 2}})
    assert read == {"calm": ["calm", 1, 0.5], "keys": {1: 2}}
    assert [type(item) for item in read["calm"]] == [str, int, float]
    assert [type(key) for key in (*read, *read["keys"])] == [str, str, int]


def test_subclasses_of_plain_values_are_stored_as_the_plain_values() -> None:
    """What a subclass says of itself when it is converted does not matter; its value does."""
    tree = [_Count(5), _Share(0.5), _Text("x"), np.str_("y"), np.bytes_(b"z"), bytearray(b"b")]
    read = _round_trip(tree)
    assert read == [5, 0.5, "x", "y", b"z", b"b"]
    assert [type(item) for item in read] == [int, float, str, str, bytes, bytes]
    assert _round_trip(collections.defaultdict(list, {_Text("k"): 1})) == {"k": 1}


def test_numpy_booleans_and_numbers_keep_their_types() -> None:
    """A NumPy boolean is no Python boolean, before and after."""
    read = _round_trip([np.True_, np.float64(0.1), np.complex128(1j), True])
    assert [type(item) for item in read] == [np.bool_, np.float64, np.complex128, bool]
    assert read == [True, 0.1, 1j, True]


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
        (lambda t: t.flatten()[:2], lambda t: t.flatten()[::2]),
    ],
    ids=["transposed", "another row", "narrowed", "conjugated", "negated", "empty", "strided"],
)
def test_views_with_other_values_are_not_taken_for_tied(one: Any, other: Any) -> None:
    """Views of one memory that do not show the same values are stored apart."""
    base = torch.tensor([[1 + 2j, 3 + 4j], [5 + 6j, 7 + 8j]])
    tree = {"one": one(base), "other": other(base)}
    flat = flatten(tree, "part")
    assert list(flat.tensors) == ["one", "other"]
    assert flat.aliases == {}


def test_what_a_file_cannot_say_of_a_tensor_stands_in_the_skeleton() -> None:
    """The word for a tensor is its name, or its name with the facts that its file has no word for."""
    image = torch.zeros(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    flat = flatten({"w": image, "z": torch.zeros(2, dtype=torch.complex128), "x": torch.zeros(2)}, "part")
    assert flat.skeleton == {
        "w": {"$tensor": {"name": "w", "strides": [60, 1, 15, 3]}},
        "z": {"$tensor": {"name": "z", "dtype": "complex128"}},
        "x": {"$tensor": "x"},
    }
    assert flat.tensors["w"] is image
    assert (flat.tensors["z"].dtype, flat.tensors["z"].shape) == (torch.float64, (2, 2))


def test_scales_of_channels_are_tensors_under_names_of_their_own() -> None:
    """The file holds the integers under the tensor's name, and scales and zero points beside them."""
    flat = flatten({"w": _by_channel(2), "w.scales": torch.ones(1)}, "part")
    assert flat.skeleton["w"] == {
        "$tensor": {"name": "w", "dtype": "qint8", "axis": 0, "scales": "w.scales", "zero_points": "w.zero_points"}
    }
    assert flat.skeleton["w.scales"] == {"$tensor": "w.scales_"}
    assert [tensor.dtype for tensor in flat.tensors.values()] == [torch.int8, torch.float64, torch.int64, torch.float32]


def _by_channel(num_channels: int, scale: float = 0.5) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated
        scales = torch.full((num_channels,), scale, dtype=torch.float64)
        values = torch.arange(num_channels * 3, dtype=torch.int8).view(num_channels, 3)
        zeros = torch.zeros(num_channels, dtype=torch.int64)
        return torch._make_per_channel_quantized_tensor(values, scales, zeros, 0)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(2, 3).T,
        torch.ones(2, dtype=torch.complex128),
        torch.ones(2, dtype=torch.complex128).conj(),
        torch.zeros(3, dtype=torch.uint8).view(torch.float4_e2m1fn_x2),
        _by_channel(2),
    ],
    ids=["transposed", "complex128", "conjugated", "float4", "quantised"],
)
def test_tied_tensors_with_facts_are_stored_once_and_come_back_tied(tensor: torch.Tensor) -> None:
    """Facts of tied tensors do not part them."""
    flat = flatten({"encoder": tensor, "decoder": tensor.detach()}, "part")
    assert "decoder" not in flat.tensors
    assert flat.aliases == {"decoder": "encoder"}
    read = _round_trip({"encoder": tensor, "decoder": [tensor]})
    assert read["encoder"] is read["decoder"][0]
    assert read["encoder"].stride() == tensor.stride()


def test_quantised_tensors_of_one_memory_with_other_scales_are_stored_apart() -> None:
    """The same integers under other scales, or quantised another way, are other values."""
    values = torch.ones(2, dtype=torch.int8)
    one, other, single = _by_channel(2, 0.25), _by_channel(2, 0.5), _by_channel(1)
    other.set_(one.untyped_storage(), 0, (2, 3), (3, 1))
    assert other.data_ptr() == one.data_ptr()
    assert flatten([one, other], "part").aliases == {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated
        wide, narrow = (torch._make_per_tensor_quantized_tensor(values, scale, 0) for scale in (1.0, 2.0))
    narrow.set_(wide.untyped_storage(), 0, (2,), (1,))
    assert flatten([wide, narrow], "part").aliases == {}
    assert single[:1].data_ptr() == single.data_ptr()
    assert single[:1].qscheme() is not single.qscheme()
    assert flatten([single, single[:1]], "part").aliases == {}


def test_tensors_that_exist_only_while_they_are_listed_are_not_taken_for_tied() -> None:
    """A mapping that makes its tensors anew each time may get the same memory for each; they are not one."""

    class Fresh(collections.abc.Mapping[str, torch.Tensor]):
        def __init__(self, number: int) -> None:
            self.number = number

        def __getitem__(self, key: str) -> torch.Tensor:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # deprecated
                values = torch.full((4096,), self.number, dtype=torch.int8)
                return torch._make_per_tensor_quantized_tensor(values, 0.5, 0)

        def __iter__(self) -> Any:
            return iter("a")

        def __len__(self) -> int:
            return 1

    read = _round_trip([Fresh(number) for number in range(50)])
    assert [int(table["a"].int_repr()[0]) for table in read] == list(range(50))


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
        (_Suit.HEARTS, "Store its .value."),
        (np.zeros(2, "V3"), "numpy.ndarray"),
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
    with pytest.raises(UnsupportedState, match=r"Saving part\.a\.key: .*4300 digits"):
        flatten({"a": {10**5000: 1}}, "part")
    with pytest.raises(UnsupportedState, match=r"Saving part\.a\.key: .*surrogates"):
        flatten({"a": {0: 1, "\udc80": torch.ones(1)}}, "part")


def test_flatten_fails_with_all_values_that_cannot_be_stored() -> None:
    """Every value is named by its path, the first ten of them one a line, with what was found and what to do."""
    tree = {"fine": torch.ones(1), "hooks": [print] * 9, "mood": _Suit.HEARTS, "point": {"p": _Point(1, 2)}}
    with pytest.raises(UnsupportedState) as caught:
        flatten(tree, "part")
    lines = str(caught.value).splitlines()
    assert lines[0] == "Saving part: 11 values cannot be stored:"
    assert [line.split(":")[0] for line in lines[1:11]] == [*(f"  part.hooks.{i}" for i in range(9)), "  part.mood"]
    assert lines[9] == (
        "  part.hooks.8: found a builtins.builtin_function_or_method; expected a tensor, a number, text, or lists and "
        "dicts of them. Leave it out of state_dict(), or store what it is made of."
    )
    assert lines[11:] == ["  … and 1 more", "Nothing has been written."]


def _circle(kind: str) -> Any:
    items: list[Any] = []
    table: dict[Any, Any] = {"items": items, 1: (items,)} if kind == "keys" else {"items": items}
    items.append((table,) if kind == "tuple" else table)
    return items if kind == "list" else table


@pytest.mark.parametrize(
    ("kind", "where"),
    [("list", "0.items"), ("dict", "items.0"), ("tuple", "items.0.0"), ("keys", "items.0")],
)
def test_flatten_fails_when_a_tree_contains_itself(kind: str, where: str) -> None:
    """What leads back to itself is named, and is no endless loop."""
    with pytest.raises(UnsupportedState) as caught:
        flatten(_circle(kind), "part")
    assert (
        f"part.{where}: found a {'list' if kind == 'list' else 'dict'} that contains itself; expected a tree."
        in str(caught.value)
    )


def test_a_value_in_two_places_is_no_circle() -> None:
    """The same list under two names is stored twice."""
    shared = [1, 2]
    assert _round_trip({"a": shared, "b": [shared, shared]}) == {"a": [1, 2], "b": [[1, 2], [1, 2]]}


def _nested(kind: str, depth: int) -> Any:
    value: Any = 1.5
    for _ in range(depth):
        value = {"list": [value], "dict": {"a": value}, "tuple": (value,), "keys": {1: value}}[kind]
    return value


@pytest.mark.parametrize(("kind", "deepest"), [("list", 500), ("dict", 500), ("tuple", 250), ("keys", 166)])
def test_a_tree_of_the_greatest_depth_comes_back_and_one_deeper_is_refused(kind: str, deepest: int) -> None:
    """What is accepted can be written and read; what is too deep is an error and no crash, however deep."""
    read = _round_trip(_nested(kind, deepest))
    for _ in range(deepest):
        (read,) = read.values() if isinstance(read, dict) else read
    assert read == 1.5
    for depth in (deepest + 1, 5000):
        with pytest.raises(UnsupportedState, match=r"Saving part(\.(a|0|1)){19}\.…: found more than 500 levels"):
            flatten(_nested(kind, depth), "part")


def test_flatten_fails_in_words_when_the_callers_stack_is_nearly_full() -> None:
    """A tree that is shallow enough, in a program that is deep already, is refused and no crash."""

    def call(levels: int) -> None:
        if levels:
            call(levels - 1)
        else:
            flatten(_nested("list", 400), "part")

    with pytest.raises(UnsupportedState, match="found more levels than this program's stack has room for"):
        call(sys.getrecursionlimit() - len(inspect.stack()) - 200)


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
        {"$scalar": ["int8", 300]},
        {"$tensor": 5},
        {"$tensor": None},
        {"$tensor": {}},
        {"$tensor": {"name": "gone", "dtype": "qint8"}},
        {"$tensor": {"name": "there", "dtype": "qint8"}},
        {"$tensor": {"name": "there", "dtype": 5}},
        {"$tensor": {"name": "there", "dtype": "qint8", "scale": 1, "zero_point": "x"}},
        {"$tensor": {"name": "there", "dtype": "qint8", "axis": 0, "scales": "gone", "zero_points": "gone"}},
        {"$tensor": {"name": "there", "dtype": "qint8", "axis": 9, "scales": "there", "zero_points": "there"}},
        {"$tensor": {"name": "there", "strides": [2**70, 1]}},
        {"$tensor": {"name": "row", "strides": [2**70, 1]}},
        {"$tensor": {"name": "there", "strides": {"$tensor": "there"}}},
    ],
    ids=json.dumps,
)
def test_unflatten_fails_when_the_skeleton_is_not_ours(skeleton: Any) -> None:
    """A skeleton that asks for a missing tensor, or says what we never say, is corrupt and not a crash."""
    with pytest.raises(CheckpointCorrupt, match="The state's skeleton does not fit its tensors"):
        unflatten({"deep": [skeleton]}, {"there": torch.ones(2, dtype=torch.int8), "row": torch.ones(1, 2)})


def test_unflatten_says_when_this_torch_is_too_old() -> None:
    """A tensor of a type that this torch does not have is not called damage."""
    with pytest.raises(CheckpointError, match=r"Reading a tensor of torch\.float2: ") as caught:
        unflatten({"$tensor": {"name": "w", "dtype": "float2"}}, {"w": torch.ones(2)})
    assert not isinstance(caught.value, CheckpointCorrupt)
