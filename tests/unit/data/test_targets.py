"""What a target is, and what a network's outputs mean."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from holdfast.data import ArrayPictures
from holdfast.data.targets import TASKS, Targets, TargetSpec, describe, targets_of
from holdfast.errors import DataError


def _some(task: str) -> Targets:
    values = {
        "classification": np.array([1, 0, 1]),
        "multilabel": np.array([[1, 0], [0, 0], [1, 1]], np.float32),
        "regression": np.array([[1.5, -2], [math.nan, 3], [4, 5]]),
        "landmarks": np.array([[[1, 2], [3, 4]], [[5, 6], [math.nan] * 2], [[7, 8], [9, 10]]], np.float64),
    }
    return Targets(task, ["a", "b"], values[task])  # type: ignore[arg-type]


def test_pictures_without_targets_of_their_own_have_their_classes() -> None:
    """Whatever has labels and classes is a classification."""
    targets = targets_of(ArrayPictures(np.zeros((3, 4, 4), np.uint8), [0, 1, 1], ["x", "y"]))
    assert (targets.task, targets.names, targets.values.tolist()) == ("classification", ["x", "y"], [0, 1, 1])
    assert describe(targets) == "2 classes"


@pytest.mark.parametrize("task", TASKS)
def test_a_spec_survives_json(task: str) -> None:
    """What travels in a checkpoint is rebuilt the same."""
    spec = TargetSpec(task, ("a", "b"), (0.5, 1.0), (2.0, 3.0), ((0, 1),), (0, 1))  # type: ignore[arg-type]
    assert TargetSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert spec.num_outputs == (4 if task == "landmarks" else 2)


@pytest.mark.parametrize("task", TASKS)
def test_targets_are_matched_by_name_never_by_place(task: str) -> None:
    """A model that knows the names in another order gets the values in its own."""
    targets = _some(task)
    aligned = targets.align(["b", "a"], np.array([2, 0]))
    if task == "classification":
        assert aligned.tolist() == [0, 0]
    else:
        np.testing.assert_array_equal(aligned, targets.values[[2, 0]][:, [1, 0]])


@pytest.mark.parametrize("task", TASKS)
def test_fails_on_a_name_that_the_model_does_not_know(task: str) -> None:
    """The refusal names it and those that are known."""
    with pytest.raises(DataError, match=r"does not know the (class|label|column|point) b; it knows a"):
        _some(task).align(["a"], np.array([0, 1, 2]))


def test_what_is_unknown_and_what_is_missing_are_said_together() -> None:
    """Points of another kind: both lists stand in one message."""
    with pytest.raises(
        DataError, match=r"does not know the point a, b and the data lack the point c, d; it knows c, d"
    ):
        _some("landmarks").align(["c", "d"], np.array([0]))


@pytest.mark.parametrize("task", ["regression", "landmarks"])
def test_fails_on_numbers_and_points_that_are_missing_as_a_whole(task: str) -> None:
    """A model of three columns cannot be scored on two."""
    with pytest.raises(DataError, match="lack the"):
        _some(task).align(["a", "b", "c"], np.array([0]))


@pytest.mark.parametrize("task", TASKS)
def test_another_target_is_another_text_and_another_digest(task: str) -> None:
    """`split.csv` and the fingerprint show every change of a target."""
    targets, other = _some(task), _some(task)
    other.values[(0,) * other.values.ndim] = 0 if task != "regression" else 1.25
    assert targets.text(0) != other.text(0) and targets.digest() != other.digest()
    assert targets.text(1) == other.text(1)


def test_numbers_are_standardised_by_what_is_known() -> None:
    """Mean and standard deviation leave NaN out; a column that does not vary is divided by 1."""
    spec = TargetSpec("regression", ("a", "b")).standardised(np.array([[1, 7], [math.nan, 7], [3, 7.0]]))
    assert (spec.mean, spec.std) == ((2.0, 7.0), (1.0, 1.0))
    with pytest.raises(DataError, match="has a number in column a"):
        TargetSpec("regression", ("a",)).standardised(np.array([[math.nan]]))
