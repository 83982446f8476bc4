"""From outputs to answers, tables and figures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from holdfast.data.answer_table import answer_header, answer_rows
from holdfast.data.answers import FIGURES, PER_NAME, figures, figures_by_name, format_figure, in_own_terms
from holdfast.data.preprocessing.transforms import Preprocessing
from holdfast.data.targets import TASKS, TargetSpec

PLAIN = Preprocessing(10, 10, (0.0,), (1.0,), exact=True)
SPECS = {
    "classification": TargetSpec("classification", ("a", "b")),
    "multilabel": TargetSpec("multilabel", ("a", "b")),
    "regression": TargetSpec("regression", ("a", "b"), (10.0, 0.0), (2.0, 1.0)),
    "landmarks": TargetSpec("landmarks", ("a", "b"), eyes=(0, 1)),
}
TRUTH = {
    "classification": np.array([0, 1]),
    "multilabel": np.array([[1, 0], [1, 1]], np.float32),
    "regression": np.array([[10, math.nan], [12, 3.0]]),
    "landmarks": np.array([[[9.5, 4.5], [14.5, 4.5]], [[9.5, 4.5], [9.5, 14.5]]]),
}
SIZES = np.array([[10, 20], [30, 20]])


def _outputs(task: str) -> torch.Tensor:
    return torch.tensor([[0.0, 0.0, 0.5, 0.0], [0.0, -2 / 3, 0.0, 0.0]])[:, : SPECS[task].num_outputs]


def test_every_task_has_its_own_terms() -> None:
    """Probabilities add up or stand alone, numbers are in their units, points in pixels of each picture."""
    found = {task: in_own_terms(_outputs(task), SPECS[task], PLAIN, SIZES) for task in TASKS}
    assert found["classification"].sum(1).tolist() == pytest.approx([1, 1])
    assert found["multilabel"][0].tolist() == [0.5, 0.5]
    assert found["regression"].dtype == torch.float64 and found["regression"][0].tolist() == [10.0, 0.0]
    # The middle of 20 × 10 pixels lies between pixel 9 and 10, and between 4 and 5.
    np.testing.assert_allclose(found["landmarks"], [[[9.5, 4.5], [14.5, 4.5]], [[9.5, 4.5], [9.5, 14.5]]], atol=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_figures_have_the_names_of_the_task_in_all_and_by_name(task: str) -> None:
    """What is measured is what FIGURES says, for the set and for each class, label, column or point."""
    spec = SPECS[task]
    answers = in_own_terms(_outputs(task), spec, PLAIN, SIZES)
    assert tuple(figures(answers, TRUTH[task], spec)) == FIGURES[task]
    table = figures_by_name(answers, TRUTH[task], spec)
    assert list(table) == ["a", "b"] and all("num_samples" in row for row in table.values())
    assert PER_NAME[task].startswith("per_")


def test_mean_average_precision_by_hand_and_by_scikit_learn() -> None:
    """Label a: its pictures come 1st and 3rd, (1 + 2/3) / 2; b: 2nd of four, 1/2; nobody has c. To the last digit."""
    scores = torch.tensor([[0.9, 0.8, 0.1], [0.8, 0.7, 0.2], [0.7, 0.2, 0.3], [0.1, 0.1, 0.4]])
    truth = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0]], np.float32)
    spec = TargetSpec("multilabel", ("a", "b", "c"))
    found = figures(scores, truth, spec)
    assert found["map"] == pytest.approx((5 / 6 + 1 / 2) / 2, abs=1e-15)
    assert found["map"] == pytest.approx(average_precision_score(truth[:, :2], scores[:, :2].double()), abs=1e-15)
    assert found["accuracy"] == pytest.approx((3 / 4 + 3 / 4 + 4 / 4) / 3, abs=1e-15)
    assert figures_by_name(scores, truth, spec)["c"]["average_precision"] is None


def test_the_figures_by_hand() -> None:
    """Perfect points have no error; numbers are counted where they are known."""
    spec = SPECS["landmarks"]
    answers = in_own_terms(_outputs("landmarks"), spec, PLAIN, SIZES)
    assert figures(answers, TRUTH["landmarks"], spec)["nme"] == pytest.approx(0, abs=1e-6)
    numbers = torch.tensor([[11.0, 5.0], [12.0, 1.0]], dtype=torch.float64)
    found = figures(numbers, TRUTH["regression"], SPECS["regression"])
    assert found["mae"] == pytest.approx((0.5 + 2) / 2)
    by_name = figures_by_name(numbers, TRUTH["regression"], SPECS["regression"])
    assert by_name["b"] == {"mae": 2.0, "rmse": 2.0, "r2": None, "num_samples": 1}


@pytest.mark.parametrize("task", TASKS)
def test_a_row_has_a_cell_for_every_column(task: str) -> None:
    """predictions.csv and `val --csv` have one row a picture, as long as their header; what is unknown is empty."""
    answers = in_own_terms(_outputs(task), SPECS[task], PLAIN, SIZES)
    rows = list(answer_rows(answers, TRUTH[task], SPECS[task]))
    assert [len(row) for row in rows] == [len(answer_header(SPECS[task]))] * 2
    expected = {
        "classification": ["a", "a", 0.5, 1],
        "multilabel": ["a", "a|b", 0.5, 0.5],
        "regression": [10.0, 10.0, "", 0.0],
        "landmarks": [pytest.approx(0, abs=1e-6), *map(pytest.approx, (9.5, 4.5, 14.5, 4.5))],
    }
    assert rows[0] == expected[task]


def test_figures_are_written_as_people_read_them() -> None:
    """Shares as percentages, others as numbers, what cannot be told as a dash."""
    assert [format_figure("accuracy", 0.5), format_figure("nme", 0.123456), format_figure("r2", math.nan)] == [
        "50.00%", "0.1235", "–",
    ]  # fmt: skip
