"""`val`: loss and accuracy of a checkpoint on labelled pictures, one row a picture on request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from holdfast.data.encoded import open_picture
from holdfast.data.sample import Indices, Pictures
from holdfast.errors import DataError
from holdfast.inference import fixed_batch_size
from holdfast.serve.predictor import Predictor


@dataclass(frozen=True)
class Score:
    """The figures of a set: `probabilities` is `[N, K]` float32, `targets` `[N]` int64."""

    accuracy: float
    loss: float
    num_samples: int
    per_class: dict[str, dict[str, float | int | None]]
    probabilities: Tensor
    targets: Tensor

    def to_json(self) -> dict[str, Any]:
        """Returns the figures as the command line prints them."""
        return {
            "accuracy": self.accuracy,
            "loss": self.loss,
            "num_samples": self.num_samples,
            "per_class": self.per_class,
        }


def score(predictor: Predictor, pictures: Pictures, indices: Indices, targets: Tensor) -> Score:
    """Evaluates a model on pictures.

    Args:
        indices: which pictures.
        targets: `[N]` int64, each picture's class as an index into the **model's** classes.

    Raises:
        DataError: a picture cannot be read.
    """
    if not len(indices):
        raise DataError("Evaluating: there are no pictures in the set.")
    rows: list[Tensor] = []
    for chunk in torch.from_numpy(indices).split(fixed_batch_size(predictor.device)):
        inputs = [predictor.pixels(open_picture(pictures, int(i))) for i in chunk]
        rows.append(predictor.probabilities(torch.stack(inputs)))
    probabilities = torch.cat(rows)
    right = probabilities.argmax(1) == targets
    # From probabilities, as every model that ends in logits or log-probabilities has them.
    loss = float(F.nll_loss(probabilities.clamp_min(1e-12).log(), targets))
    per_class: dict[str, dict[str, float | int | None]] = {}
    for k, name in enumerate(predictor.classes):
        members = targets == k
        count = int(members.sum())
        per_class[name] = {"accuracy": float(right[members].double().mean()) if count else None, "num_samples": count}
    return Score(float(right.double().mean()), loss, len(targets), per_class, probabilities, targets)


def align_labels(pictures: Pictures, indices: Indices, classes: list[str]) -> Tensor:
    """Returns the pictures' labels as indices into the model's `classes`, matched by name, never by order.

    Raises:
        DataError: a class of the pictures that the model does not know.
    """
    used = {pictures.classes[k] for k in pictures.labels[indices].tolist()}
    unknown = sorted(used - set(classes))
    if unknown:
        raise DataError(
            f"The model does not know the class {', '.join(unknown[:5])}; it knows {', '.join(classes[:10])}. "
            "Give pictures of its classes."
        )
    index = {name: k for k, name in enumerate(classes)}
    return torch.tensor([index[pictures.classes[k]] for k in pictures.labels[indices].tolist()])
