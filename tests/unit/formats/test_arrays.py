from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from holdfast.formats.arrays import InertArray
from holdfast.formats.pickle_machine import read_pickle

GRID = np.arange(6).reshape(2, 3)


def read(value: Any, protocol: int = 4) -> Any:
    """Returns what is read of a value that was pickled."""
    return read_pickle(pickle.dumps(value, protocol), "a.pkl").value


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "array",
    [
        GRID.astype("<f4"), GRID.astype(">f8"), GRID.astype(">i2"), np.asfortranarray(GRID.astype("f2")),
        GRID.astype(">c16"), GRID.astype(bool), np.array(7, "u8"), np.empty((0, 3), "f4"),
    ],
    ids=lambda array: f"{array.dtype}{list(array.shape)}",
)  # fmt: skip
def test_an_array_of_numbers_is_a_tensor(array: Any, protocol: int) -> None:
    """Type, shape and values, in both byte orders and both orders in memory."""
    tensor = read(array, protocol).as_tensor()
    made = tensor.to_torch()
    assert str(made.dtype) == f"torch.{array.dtype.newbyteorder('=')}"
    assert tuple(made.shape) == array.shape
    assert made.tolist() == array.tolist()


def test_an_array_in_two_places_is_one_tensor() -> None:
    """Tied weights that were pickled as one array are tied again."""
    found = read({"a": GRID, "b": GRID})
    assert found["a"].as_tensor() is found["b"].as_tensor()


@pytest.mark.parametrize("array", [np.array(["ants"]), np.array([{}], object), np.zeros(2, [("x", "f4")])])
def test_text_structures_and_objects_are_no_tensors(array: Any) -> None:
    """What torch has no type for stays an array's record."""
    found = read(array)
    assert isinstance(found, InertArray)
    assert found.as_tensor() is None


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.array(["ants", "b"]), ["ants", "b"]), (np.array("one"), "one"), (np.array([b"x"]), ["x"]),
        (np.array([["a"], ["b"]]), [["a"], ["b"]]), (np.array(["q"], ">U3"), ["q"]), (np.empty((0,), "U1"), []),
        (np.ones(2), None), (np.array([{}], object), None),
    ],
)  # fmt: skip
def test_an_array_of_text_is_lists_of_texts(array: Any, text: Any) -> None:
    """As deep as its axes; other arrays are no text."""
    assert read(array).text() == text
