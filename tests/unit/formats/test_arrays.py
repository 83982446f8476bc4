from __future__ import annotations

import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from holdfast.errors import CheckpointError
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


class Written:
    """Pickles as a call with a state."""

    def __init__(self, *made: Any) -> None:
        self.made = made

    def __reduce__(self) -> Any:
        return self.made


def _array_of(kind: Any, data: bytes) -> Any:
    """Returns what pickles as an array `[2]` of a type that is written as its class, as those of ml_dtypes are."""
    dtype = Written(np.dtype, (kind, False, True), (3, "<", None, None, None, -1, -1, 0))
    return Written(np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), (1, (2,), dtype, False, data))


def test_an_array_of_a_type_that_jax_adds_is_a_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    """bfloat16 bit for bit; a class that nobody knows leaves the array a record, and the file around it is read."""
    module = types.ModuleType("ml_dtypes")
    for name in ("bfloat16", "own_type"):
        monkeypatch.setattr(module, name, type(name, (), {"__module__": "ml_dtypes"}), raising=False)
    monkeypatch.setitem(sys.modules, "ml_dtypes", module)
    truth = torch.tensor([1.5, -2.0], dtype=torch.bfloat16)
    data = truth.view(torch.uint8).numpy().tobytes()
    found = read({"a": _array_of(module.bfloat16, data), "b": _array_of(module.own_type, data), "step": 3})
    assert torch.equal(found["a"].as_tensor().to_torch(), truth)
    assert (found["b"].as_tensor(), found["step"]) == (None, 3)
    for array in (found["a"], found["b"]):
        with pytest.raises(CheckpointError, match="is not made"):
            array.to_numpy()


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_a_matrix_and_a_memory_map_are_arrays(tmp_path: Path) -> None:
    """They keep the same state as an array."""
    mapped = np.memmap(tmp_path / "m", "f4", "w+", shape=(2, 3))
    mapped[:] = GRID
    for array in (np.asmatrix(GRID.astype("f4")), mapped):
        assert read(array).as_tensor().to_torch().tolist() == GRID.tolist()
