from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import holdfast


@pytest.mark.parametrize("name", holdfast.__all__)
def test_every_public_name_can_be_imported_and_explains_itself(name: str) -> None:
    """Each name of `holdfast.__all__` is there, and has a docstring of its own."""
    found = getattr(holdfast, name)
    assert found.__name__ == name
    assert inspect.getdoc(found)


def test_the_names_are_sorted_and_each_stands_once() -> None:
    """The list reads like an index, and agrees with the table of where each name lives."""
    assert holdfast.__all__ == sorted(set(holdfast.__all__))
    assert set(holdfast.__all__) == set(holdfast._HOMES)


def test_the_names_the_design_promises_are_public() -> None:
    """The loop, the state, the store, the data, models and predictions are one import away."""
    promised = {
        "train_steps", "evaluate", "TrainState", "StepResult", "CheckpointStore", "Checkpoint", "Stateful",
        "ImageFolder", "Loader", "build_model", "Predictor", "HoldfastError",
    }  # fmt: skip
    assert promised <= set(holdfast.__all__)


def test_a_name_that_is_not_there_fails() -> None:
    """A misspelt name is an AttributeError that repeats it."""
    with pytest.raises(AttributeError, match="module 'holdfast' has no attribute 'train_step'"):
        holdfast.train_step  # noqa: B018


def test_import_holdfast_loads_no_torch() -> None:
    """`import holdfast`, its errors and its settings cost no import of torch, NumPy or Pillow."""
    program = (
        "import sys, holdfast, holdfast.errors, holdfast.config, holdfast.stateful\n"
        "print(sorted({'torch', 'numpy', 'PIL', 'torchvision', 'timm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
