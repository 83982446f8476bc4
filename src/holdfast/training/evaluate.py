"""Loss and metrics over a set, without gradients, in eval mode, and what the model said of each picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from holdfast.errors import DataError
from holdfast.inference import forward_fixed
from holdfast.metrics import accuracy

# (outputs `[N, K]`, targets `[N, ...]`, indices `[N]`) → name → number
Measure = Callable[[Tensor, Tensor, Tensor], Mapping[str, float]]


@dataclass(frozen=True)
class Evaluation:
    """What came out.

    Attributes:
        loss: mean over the samples.
        accuracy: share in [0, 1] whose most probable class is the target; 0 where targets are no classes.
        num_samples: N.
        indices: `[N]` int64, each sample's index in its collection, in the order evaluated.
        targets: `[N]` int64, or whatever the batches had, joined.
        outputs: `[N, K]` float32 on the CPU.
        metrics: name → number, as `measure` said; accuracy by default.
    """

    loss: float
    accuracy: float
    num_samples: int
    indices: Tensor
    targets: Tensor
    outputs: Tensor
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def probabilities(self) -> Tensor:
        """`[N, K]` float32, each row adds up to 1."""
        return F.softmax(self.outputs, 1)

    def per_class(self, classes: list[str]) -> dict[str, dict[str, float | int | None]]:
        """Returns class name → accuracy (None without samples) and num_samples."""
        right = self.outputs.argmax(1) == self.targets
        table: dict[str, dict[str, float | int | None]] = {}
        for k, name in enumerate(classes):
            members = self.targets == k
            count = int(members.sum())
            table[name] = {"accuracy": float(right[members].double().mean()) if count else None, "num_samples": count}
        return table


def evaluate(
    model: nn.Module,
    batches: Iterable[Any],
    loss_fn: Callable[[Any, Any], Tensor] | None = None,
    *,
    precision: str = "fp32",
    should_stop: Callable[[], bool] = lambda: False,
    measure: Measure | None = None,
) -> Evaluation | None:
    """Evaluates `model` and puts every module back into the mode it was in.

    Args:
        model: maps `[B, ...]` to `[B, K]`; evaluated where its first parameter lies.
        batches: `(inputs, targets, indices)` or `(inputs, targets)`, of any sizes: they are cut and padded to forward
            passes of one size, so that no result depends on how the set was cut.
        loss_fn: cross-entropy by default. Called once with all outputs `[N, K]` and targets `[N]`, on the CPU.
        should_stop: asked after each batch; True gives the evaluation up.
        measure: maps all outputs, targets and indices to metrics by name; accuracy by default. Called once, on the CPU.

    Returns:
        The evaluation; None when it was given up.

    Raises:
        DataError: there is no batch.
    """
    modes = [(module, module.training) for module in model.modules()]
    try:
        return _evaluate(model, batches, loss_fn or F.cross_entropy, precision, should_stop, measure)
    finally:
        for module, training in modes:
            module.training = training


def _evaluate(
    model: nn.Module,
    batches: Iterable[Any],
    loss_fn: Callable[[Any, Any], Tensor],
    precision: str,
    should_stop: Callable[[], bool],
    measure: Measure | None,
) -> Evaluation | None:
    parameter = next(model.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    outputs, all_targets, all_indices = [], [], []
    for inputs, targets, indices in _with_indices(batches):
        outputs.append(forward_fixed(model, inputs.to(device), precision).cpu())
        all_targets.append(targets)
        all_indices.append(indices)
        if should_stop():
            return None
    if not outputs:
        raise DataError("Evaluating: the batch source gave no batch; expected one at least.")
    scores, targets, indices = torch.cat(outputs), torch.cat(all_targets), torch.cat(all_indices)
    with torch.inference_mode():
        loss = float(loss_fn(scores, targets))
        share = accuracy(scores, targets)
        metrics = {"accuracy": share} if measure is None else measure(scores, targets, indices)
    return Evaluation(loss, share, len(scores), indices, targets, scores, metrics)


def _with_indices(batches: Iterable[Any]) -> Iterable[tuple[Tensor, Tensor, Tensor]]:
    """Passes batches on as (inputs, targets, indices), counting where the source gives no indices."""
    start = 0
    for batch in batches:
        inputs, targets, *rest = batch
        yield inputs, targets, rest[0] if rest else torch.arange(start, start + len(inputs))
        start += len(inputs)
