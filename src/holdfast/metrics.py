"""How good answers are, as numbers: what training, the end of a run and `val` all compute here, so that they agree to
the bit. Tensors only, on the CPU, in float64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def accuracy(outputs: Tensor, targets: Tensor) -> float:
    """Returns the share in [0, 1] whose greatest output `[N, K]` is the target `[N]`; 0 where these are no classes."""
    if outputs.ndim != 2 or targets.ndim != 1:
        return 0.0
    return float((outputs.argmax(1) == targets).double().mean())


def point_errors(points: Tensor, truth: Tensor, eyes: tuple[int, int] | None = None) -> Tensor:
    """Returns each point's distance from the truth, in units of the size of its object.

    The unit is the distance of the two `eyes`, as in the 300-W challenge (C. Sagonas et al., ICCVW 2013, where these
    are the outer corners); without them, or where one of them is missing, the diagonal of the upright box around the
    known points (NME_diag in A. Kumar et al., LUVLi, CVPR 2020, section 5).

    Args:
        points: `[N, P, 2]`, in pixels.
        truth: `[N, P, 2]`, in pixels, NaN where a point is missing.
        eyes: two places among the P points.

    Returns:
        `[N, P]` float64; NaN where the point is missing, or where an object has no size.
    """
    points, truth = points.double(), truth.double()
    low = torch.where(truth.isnan(), math.inf, truth).amin(1)
    high = torch.where(truth.isnan(), -math.inf, truth).amax(1)
    unit = torch.where(low.isinf() | high.isinf(), math.nan, high - low).norm(dim=-1)
    if eyes is not None:
        between = (truth[:, eyes[0]] - truth[:, eyes[1]]).norm(dim=-1)
        unit = torch.where(between > 0, between, unit)
    unit = torch.where(unit > 0, unit, math.nan)
    errors: Tensor = (points - truth).norm(dim=-1) / unit[:, None]
    return errors


def normalised_mean_error(points: Tensor, truth: Tensor, eyes: tuple[int, int] | None = None) -> float:
    """Returns NME: `point_errors`, averaged over the known points of each picture, then over pictures. NaN for none."""
    return mean_of_known(point_errors(points, truth, eyes).nanmean(1))


def average_precision(scores: Tensor, truth: Tensor) -> list[float]:
    """Returns each label's average precision in [0, 1]; NaN for a label that no picture has.

    The mean of the precision at each picture that has the label, in the order of the scores; pictures of equal score
    count together (as scikit-learn's `average_precision_score`, which computes it).

    Args:
        scores: `[N, K]`.
        truth: `[N, K]`, 0 or 1.
    """
    from sklearn.metrics import average_precision_score

    columns = zip(scores.double().T.numpy(), truth.T.numpy(), strict=True)
    return [float(average_precision_score(true, score)) if true.any() else math.nan for score, true in columns]


def label_accuracy(probabilities: Tensor, truth: Tensor, threshold: float = 0.5) -> Tensor:
    """Returns `[K]` float64: for each label the share of pictures it is rightly given to, or not given to."""
    return ((probabilities >= threshold) == (truth > 0.5)).double().mean(0)


def regression_errors(values: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """Returns `mae`, `rmse` and `r2` of each column, `[K]` float64 each; NaN where a column has no known number.

    `r2` is 1 minus the squared error over that of the mean of the truth; NaN where the truth does not vary.

    Args:
        values: `[N, K]`.
        truth: `[N, K]`, NaN where missing.
    """
    error = values.double() - truth.double()
    spread = truth.double() - truth.double().nanmean(0)
    total = spread.square().nansum(0)
    r2 = 1 - error.square().nansum(0) / torch.where(total > 0, total, math.nan)
    return {"mae": error.abs().nanmean(0), "rmse": error.square().nanmean(0).sqrt(), "r2": r2}


def mean_of_known(values: Tensor) -> float:
    """Returns the mean of what is no NaN; NaN when nothing is."""
    return float(values.double().nanmean())
