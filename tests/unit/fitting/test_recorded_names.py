from __future__ import annotations

import pytest

from holdfast.errors import CheckpointMismatch
from holdfast.fitting.recorded_names import match_recorded_names

SHAPES = {"fc.weight": (2, 3), "fc.bias": (2,)}


@pytest.mark.parametrize("front", ["", "model.", "module.", "net.module.", "_orig_mod."])
def test_words_in_front_are_looked_through(front: str) -> None:
    """On the optimizer's side, and on the file's."""
    recorded = {front + name: shape for name, shape in SHAPES.items()}
    assert match_recorded_names(recorded, SHAPES, None, "f") == {front + name: name for name in SHAPES}
    assert match_recorded_names(SHAPES, recorded, None, "f") == {name: front + name for name in SHAPES}


def test_a_name_with_another_shape_is_another_parameter() -> None:
    """What has no known shape is believed."""
    assert match_recorded_names({"fc.weight": (3, 2), "fc.bias": None}, SHAPES, None, "f") == {"fc.bias": "fc.bias"}


def test_the_part_that_fits_is_taken() -> None:
    """Two models in one optimizer: the one whose names and shapes are the file's; none where nothing fits."""
    recorded = {"a.fc.weight": (9, 9), "a.fc.bias": (2,), "b.fc.weight": (2, 3), "b.fc.bias": (2,)}
    assert match_recorded_names(recorded, SHAPES, None, "f") == {
        "b.fc.weight": "fc.weight",
        "b.fc.bias": "fc.bias",
    }
    assert match_recorded_names({"x.y": None}, SHAPES, None, "f") == {}


def test_two_parts_that_fit_alike_need_a_role() -> None:
    """The role decides; without it both are named."""
    recorded = {f"{part}.{name}": shape for part in ("a", "b") for name, shape in SHAPES.items()}
    found = match_recorded_names(recorded, SHAPES, "b", "f")
    assert found == {"b.fc.weight": "fc.weight", "b.fc.bias": "fc.bias"}
    with pytest.raises(CheckpointMismatch, match=r"its parameters a\.\*, b\.\* all fit the model that is loaded"):
        match_recorded_names(recorded, SHAPES, None, "f")
