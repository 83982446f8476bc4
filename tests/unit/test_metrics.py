"""The figures, by hand."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import average_precision_score, r2_score

from holdfast import metrics

NAN = math.nan


@pytest.mark.row("D3")
def test_nme_is_told_in_units_of_the_eyes_distance() -> None:
    """Two points off by 3 and 4 pixels, and eyes 10 pixels apart, make 0.35."""
    truth = torch.tensor([[[0.0, 0.0], [10.0, 0.0]]])
    points = truth + torch.tensor([[[3.0, 0.0], [0.0, 4.0]]])
    assert metrics.normalised_mean_error(points, truth, (0, 1)) == pytest.approx(0.35)


@pytest.mark.row("D3")
def test_without_eyes_the_unit_is_the_diagonal_of_the_points() -> None:
    """Points in a box of 30 × 40 have a unit of 50; a missing eye falls back to it."""
    truth = torch.tensor([[[0.0, 0.0], [30.0, 40.0], [NAN, NAN]]])
    points = torch.tensor([[[5.0, 0.0], [30.0, 40.0], [9.0, 9.0]]])
    assert metrics.normalised_mean_error(points, truth) == pytest.approx(5 / 50 / 2)
    assert metrics.normalised_mean_error(points, truth, (0, 2)) == pytest.approx(5 / 50 / 2)


@pytest.mark.row("D3")
def test_missing_points_count_for_nothing() -> None:
    """An error of a point that is not known changes nothing, and each picture counts once however many it has."""
    truth = torch.tensor([[[0.0, 0.0], [10.0, 0.0], [NAN, NAN]], [[0.0, 0.0], [10.0, 0.0], [5.0, 0.0]]])
    points = torch.tensor([[[1.0, 0.0], [10.0, 0.0], [99.0, 9.0]], [[0.0, 0.0], [10.0, 0.0], [5.0, 3.0]]])
    assert metrics.normalised_mean_error(points, truth) == pytest.approx((0.05 + 0.1) / 2)
    assert metrics.point_errors(points, truth).isnan().sum() == 1


def test_nme_does_not_depend_on_the_pictures_size() -> None:
    """Scaling a picture and its points by 7 leaves its error as it is."""
    generator = torch.Generator().manual_seed(0)
    truth, points = torch.rand(3, 5, 2, generator=generator), torch.rand(3, 5, 2, generator=generator)
    one, other = (metrics.normalised_mean_error(points * k, truth * k) for k in (1.0, 7.0))
    assert one == pytest.approx(other)


def test_an_object_without_size_has_no_error() -> None:
    """One known point, or none, has no unit: the picture is left out, and alone gives NaN."""
    truth = torch.tensor([[[4.0, 4.0], [NAN, NAN]]])
    assert math.isnan(metrics.normalised_mean_error(torch.zeros(1, 2, 2), truth))
    assert math.isnan(metrics.normalised_mean_error(torch.zeros(1, 2, 2), torch.full((1, 2, 2), NAN)))


def test_average_precision_is_that_of_scikit_learn_and_nan_for_a_label_nobody_has() -> None:
    """Label by label; a label without pictures has none."""
    generator = torch.Generator().manual_seed(1)
    scores = torch.rand(40, 3, generator=generator)
    truth = (torch.rand(40, 3, generator=generator) < 0.3).float()
    truth[:, 2] = 0
    found = metrics.average_precision(scores, truth)
    assert found[:2] == [average_precision_score(truth[:, k], scores[:, k].double()) for k in (0, 1)]
    assert math.isnan(found[2])


def test_label_accuracy_counts_both_kinds_of_right() -> None:
    """Rightly given and rightly not given, at the threshold."""
    probabilities = torch.tensor([[0.9, 0.2], [0.5, 0.6]])
    assert metrics.label_accuracy(probabilities, torch.tensor([[1.0, 0.0], [0.0, 1.0]])).tolist() == [0.5, 1.0]


def test_regression_errors_are_those_of_scikit_learn_with_the_missing_left_out() -> None:
    """MAE, RMSE and R² by column; a column that does not vary has no R²."""
    truth = torch.tensor([[1.0, 5.0, 2.0], [2.0, NAN, 2.0], [4.0, 9.0, 2.0]])
    values = torch.tensor([[1.5, 5.0, 2.0], [2.0, 100.0, 2.0], [3.0, 7.0, 3.0]])
    errors = metrics.regression_errors(values, truth)
    assert errors["mae"].tolist() == pytest.approx([0.5, 1.0, 1 / 3])
    assert errors["rmse"].tolist() == pytest.approx([math.sqrt(1.25 / 3), math.sqrt(2), math.sqrt(1 / 3)])
    assert errors["r2"][0] == pytest.approx(r2_score(truth[:, 0], values[:, 0]))
    assert math.isnan(errors["r2"][2])


def test_accuracy_is_for_classes_only() -> None:
    """The share whose greatest output is the target; 0 where targets are no classes."""
    assert metrics.accuracy(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([1, 1])) == 0.5
    assert metrics.accuracy(torch.zeros(2, 2), torch.zeros(2, 2)) == 0.0
