"""From a network's outputs to answers in the picture's own terms, and how good they are.

A run and `val`, `predict` and `predictions.csv` all come here, so that they say the same to the bit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from holdfast import metrics
from holdfast.data.preprocessing.keypoints import to_picture
from holdfast.data.preprocessing.transforms import Preprocessing
from holdfast.data.targets import TargetSpec, Task

# What is measured of each task; the first is what is said.
FIGURES: dict[Task, tuple[str, ...]] = {
    "classification": ("accuracy",),
    "multilabel": ("map", "accuracy"),
    "regression": ("mae", "rmse", "r2"),
    "landmarks": ("nme",),
}
# What a table of metrics by name is called.
PER_NAME: dict[Task, str] = {
    "classification": "per_class",
    "multilabel": "per_label",
    "regression": "per_column",
    "landmarks": "per_point",
}
SHARES = frozenset({"accuracy"})  # shown as percentages


def in_own_terms(
    outputs: Tensor, spec: TargetSpec, preprocessing: Preprocessing, sizes: npt.NDArray[np.int64] | None = None
) -> Tensor:
    """Returns what the outputs `[N, num_outputs]` float32 say of N pictures.

    Args:
        sizes: landmarks: `[N, 2]`, height and width of each picture in pixels.

    Returns:
        classification: probabilities `[N, K]` float32 that add up to 1; multilabel: probabilities `[N, K]` float32;
        regression: numbers `[N, K]` float64; landmarks: `[N, P, 2]` float32, in pixels of each picture.
    """
    if spec.task == "classification":
        return F.softmax(outputs, 1)
    if spec.task == "multilabel":
        return torch.sigmoid(outputs)
    if spec.task == "regression":
        wide = outputs.double()
        return wide * wide.new_tensor(spec.std) + wide.new_tensor(spec.mean)
    assert sizes is not None
    if spec.mean:
        outputs = outputs * outputs.new_tensor(spec.std) + outputs.new_tensor(spec.mean)
    placed = [to_picture(row, (int(h), int(w)), preprocessing) for row, (h, w) in zip(outputs, sizes, strict=True)]
    return torch.stack(placed)


def figures(answers: Tensor, truth: npt.NDArray[Any], spec: TargetSpec) -> dict[str, float]:
    """Returns the metrics of FIGURES; NaN where one cannot be told.

    Of several columns of numbers `mae` and `rmse` are means over columns, each in its own unit.

    Args:
        answers: as `in_own_terms` gives them.
        truth: `Targets.align`ed with `spec.names`.
    """
    true = torch.from_numpy(np.ascontiguousarray(truth))
    if spec.task == "classification":
        return {"accuracy": metrics.accuracy(answers, true)}
    if spec.task == "multilabel":
        precision = torch.tensor(metrics.average_precision(answers, true), dtype=torch.float64)
        shares = metrics.label_accuracy(answers, true)
        return {"map": metrics.mean_of_known(precision), "accuracy": metrics.mean_of_known(shares)}
    if spec.task == "regression":
        errors = metrics.regression_errors(answers, true)
        return {name: metrics.mean_of_known(errors[name]) for name in ("mae", "rmse", "r2")}
    return {"nme": metrics.normalised_mean_error(answers, true, spec.eyes)}


def figures_by_name(answers: Tensor, truth: npt.NDArray[Any], spec: TargetSpec) -> dict[str, dict[str, Any]]:
    """Returns class, label, column or point name → its own metrics (None where one cannot be told) and num_samples."""
    true = torch.from_numpy(np.ascontiguousarray(truth))
    table: dict[str, dict[str, Any]] = {}
    if spec.task == "classification":
        right = answers.argmax(1) == true
        for k, name in enumerate(spec.names):
            members = true == k
            share = float(right[members].double().mean()) if members.any() else None
            table[name] = {"accuracy": share, "num_samples": int(members.sum())}
        return table
    if spec.task == "multilabel":
        precision, shares = metrics.average_precision(answers, true), metrics.label_accuracy(answers, true).tolist()
        has = true.sum(0).int().tolist()
        rows = zip(precision, shares, has, strict=True)
        return {
            name: {"average_precision": _known(p), "accuracy": _known(s), "num_samples": n}
            for name, (p, s, n) in zip(spec.names, rows, strict=True)
        }
    known = ~true.isnan()
    if spec.task == "regression":
        errors = metrics.regression_errors(answers, true)
        for k, name in enumerate(spec.names):
            table[name] = {metric: _known(float(column[k])) for metric, column in errors.items()}
            table[name]["num_samples"] = int(known[:, k].sum())
        return table
    by_point = metrics.point_errors(answers, true, spec.eyes)
    for k, name in enumerate(spec.names):
        table[name] = {"nme": _known(metrics.mean_of_known(by_point[:, k])), "num_samples": int(known[:, k, 0].sum())}
    return table


def format_figure(name: str, value: float | None) -> str:
    """Returns a metric as people read it: shares as percentages, the rest as numbers."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.2%}" if name in SHARES else f"{value:.4g}"


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
