"""What a model said of pictures beside the truth, as rows of a CSV: `predictions.csv` and `val --csv`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from holdfast.data.targets import TargetSpec
from holdfast.metrics import point_errors


def answer_header(spec: TargetSpec) -> list[str]:
    """Returns the names of the cells that `answer_rows` gives."""
    if spec.task == "classification":
        return ["label", "predicted", "probability", "correct"]
    if spec.task == "multilabel":
        return ["labels", "predicted", *spec.names]
    if spec.task == "regression":
        return [column for name in spec.names for column in (name, f"{name}_predicted")]
    return ["nme", *(f"{name}_{axis}" for name in spec.names for axis in "xy")]


def answer_rows(answers: Tensor, truth: npt.NDArray[Any], spec: TargetSpec) -> Iterator[list[Any]]:
    """Yields the cells of one picture after the other.

    - classification: label, prediction, that class's probability in [0, 1], whether it is right;
    - multilabel: labels, labels of a probability of a half and more, and every label's probability;
    - regression: every number and the one predicted;
    - landmarks: the normalised mean error, and every point predicted, in pixels of the picture.

    Args:
        answers: as `in_own_terms` gives them.
        truth: `Targets.align`ed with `spec.names`.
    """
    if spec.task == "classification":
        top = answers.max(1)
        rows = zip(truth.tolist(), top.indices.tolist(), top.values.tolist(), strict=True)
        for target, predicted, probability in rows:
            yield [spec.names[target], spec.names[predicted], probability, int(target == predicted)]
    elif spec.task == "multilabel":
        names = np.array(spec.names)
        for has, probabilities in zip(truth, answers.tolist(), strict=True):
            said = names[np.array(probabilities) >= 0.5]
            yield ["|".join(names[has > 0]), "|".join(said), *probabilities]
    elif spec.task == "regression":
        for numbers, predicted in zip(truth.tolist(), answers.tolist(), strict=True):
            yield [_cell(value) for pair in zip(numbers, predicted, strict=True) for value in pair]
    else:
        errors = point_errors(answers, torch.from_numpy(np.ascontiguousarray(truth)), spec.eyes).nanmean(1)
        for error, points in zip(errors.tolist(), answers, strict=True):
            yield [_cell(error), *points.flatten().tolist()]


def _cell(number: float) -> float | str:
    return "" if math.isnan(number) else number
