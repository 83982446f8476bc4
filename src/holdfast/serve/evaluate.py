"""`val`: the figures of a checkpoint on pictures whose targets are known, one row a picture on request."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from holdfast.data.answers import PER_NAME, figures, figures_by_name
from holdfast.data.preprocessing.encoded import open_picture
from holdfast.data.sample import Indices, Pictures
from holdfast.data.targets import TargetSpec, targets_of
from holdfast.errors import DataError
from holdfast.inference import fixed_batch_size
from holdfast.serve.predictor import Predictor


@dataclass(frozen=True)
class Score:
    """The figures of a set.

    Attributes:
        spec: what the model's outputs mean.
        metrics: name → number, NaN where it cannot be told.
        loss: cross-entropy of classes; None for other targets.
        by_name: class, label, column or point → its own metrics.
        answers: of N pictures, as `in_own_terms` gives them; `[N, K]` probabilities of classes.
        targets: of N pictures, in the order of the model's names; `[N]` int64 classes.
    """

    spec: TargetSpec
    metrics: dict[str, float]
    loss: float | None
    by_name: dict[str, dict[str, Any]]
    answers: Tensor
    targets: Tensor

    @property
    def num_samples(self) -> int:
        """N."""
        return len(self.targets)

    def to_json(self) -> dict[str, Any]:
        """Returns the figures as the command line prints them."""
        known = {name: value if math.isfinite(value) else None for name, value in self.metrics.items()}
        loss = {} if self.loss is None else {"loss": self.loss}
        return {**known, **loss, "num_samples": self.num_samples, PER_NAME[self.spec.task]: self.by_name}


def score(predictor: Predictor, pictures: Pictures, indices: Indices, targets: Tensor) -> Score:
    """Evaluates a model on pictures.

    Args:
        indices: which pictures.
        targets: theirs, in the order of the **model's** names: `[N]` int64 classes, or as `align_targets` gives them.

    Raises:
        DataError: a picture cannot be read.
    """
    if not len(indices):
        raise DataError("Evaluating: there are no pictures in the set.")
    known_sizes, spec = targets_of(pictures).sizes, predictor.spec
    rows: list[Tensor] = []
    for chunk in torch.from_numpy(indices).split(fixed_batch_size(predictor.device)):
        opened = [open_picture(pictures, int(i)) for i in chunk]
        pixels = torch.stack([predictor.pixels(picture) for picture in opened])
        sizes = np.array([picture[:2] for picture in opened]) if known_sizes is None else known_sizes[chunk.numpy()]
        rows.append(predictor.answers(pixels, sizes))
    answers, truth = torch.cat(rows), targets.numpy()
    # From probabilities, as every model that ends in logits or log-probabilities has them.
    loss = float(F.nll_loss(answers.clamp_min(1e-12).log(), targets)) if spec.task == "classification" else None
    return Score(spec, figures(answers, truth, spec), loss, figures_by_name(answers, truth, spec), answers, targets)


def align_targets(pictures: Pictures, indices: Indices, spec: TargetSpec) -> Tensor:
    """Returns the pictures' targets in the order of the model's names, matched by name, never by order.

    Returns:
        `[N]` int64 classes, `[N, K]` labels or numbers, or `[N, P, 2]` points in pixels.

    Raises:
        DataError: targets of another task, or a name that the model does not know.
    """
    targets = targets_of(pictures)
    if targets.task != spec.task:
        raise DataError(f"The model is for {spec.task}, and the targets of these pictures are for {targets.task}.")
    return torch.from_numpy(targets.align(spec.names, indices))


def align_labels(pictures: Pictures, indices: Indices, classes: list[str]) -> Tensor:
    """Returns the pictures' labels as indices into the model's `classes`; see `align_targets`."""
    return align_targets(pictures, indices, TargetSpec("classification", tuple(classes)))
