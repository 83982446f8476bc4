from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from holdfast import open_checkpoint
from holdfast.errors import CheckpointCorrupt
from holdfast.formats.inert import Damage, InertObject
from holdfast.formats.joblib_arrays import is_wrapper, read_array
from holdfast.formats.pickle_literals import PickleStream

joblib = pytest.importorskip("joblib")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_between_the_opcodes_come_back(protocol: int, tmp_path: Path) -> None:
    """Rows and columns, either byte order, numbers and text, without values: all as they were."""
    held = {
        "a.rows": np.arange(6.0).reshape(2, 3), "b.columns": np.asfortranarray(np.arange(6, dtype="f4").reshape(2, 3)),
        "c.big": np.arange(3, dtype=">i4"), "d.empty": np.zeros((0, 4)), "e.bool": np.array([True, False]),
    }  # fmt: skip
    joblib.dump({"model": held, "names": np.array(["ant", "bee"]), "epoch": 3}, tmp_path / "m.pkl", protocol=protocol)
    opened = open_checkpoint(tmp_path / "m.pkl")
    assert {name: t.tolist() for name, t in opened.weights().items()} == {n: v.tolist() for n, v in held.items()}
    assert opened.metadata["epoch"] == 3


def test_an_array_that_was_cut_is_damage(tmp_path: Path) -> None:
    """The bytes promised are counted, not trusted."""
    joblib.dump({"a.w": np.arange(1000.0)}, tmp_path / "m.pkl")
    data = (tmp_path / "m.pkl").read_bytes()
    (tmp_path / "m.pkl").write_bytes(data[:4000])
    with pytest.raises(CheckpointCorrupt, match=r"8,000 bytes promised where 3,\d\d\d are left"):
        open_checkpoint(tmp_path / "m.pkl")


def test_objects_in_an_array_are_told(tmp_path: Path) -> None:
    """They would be a pickle of their own in the middle of this one."""
    joblib.dump({"a.w": np.array([{}], object)}, tmp_path / "m.pkl")
    with pytest.raises(CheckpointCorrupt, match="only numbers and texts are read"):
        open_checkpoint(tmp_path / "m.pkl")


@pytest.mark.parametrize("state", [{}, {"dtype": None, "shape": (1,)}, {"shape": (-1,)}])
def test_a_record_without_type_or_shape_is_damage(state: dict[str, Any]) -> None:
    """Nothing is read behind it."""
    wrapper = InertObject("joblib.numpy_pickle", "NumpyArrayWrapper")
    wrapper.state = state
    assert is_wrapper(wrapper)
    with pytest.raises(Damage, match="without a type or a shape"):
        read_array(PickleStream(b"x" * 100), wrapper)
