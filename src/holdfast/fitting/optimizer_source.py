"""From an opened file to a live optimizer: which of its optimizers is meant, and what else that one may hold."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn
from torch.optim import Optimizer

from holdfast.fitting.optimizer import PreparedOptimizer, prepare_optimizer
from holdfast.fitting.optimizer_members import members_of
from holdfast.fitting.source import Weights


def prepare_from(
    weights: Weights,
    optimizer: Optimizer,
    model: nn.Module,
    pairs: Mapping[str, str],
    *,
    name: str | None = None,
    settings: bool = False,
    same_order: bool = False,
) -> PreparedOptimizer:
    """Reads and checks the state of the file's optimizer for what was taken of a role; changes nothing.

    Args:
        weights: what is loaded, of which file and role.
        optimizer: over parameters of `model`.
        model: as it is now, in any wrapper.
        pairs: plain name in the model → the file's own name, of the tensors whose values are taken as they are.
        name: which of the file's optimizers; without it the one that is proven to have driven the role.
        settings, same_order: as `prepare_optimizer`.

    Raises:
        CheckpointMismatch, CheckpointError, CheckpointCorrupt: as `Weights.optimizer_name` and `prepare_optimizer`.
    """
    wanted = {source for member in members_of(optimizer, model, pairs) for source in member.sources}
    chosen = weights.optimizer_name(name, wanted)
    return prepare_optimizer(
        optimizer,
        model,
        weights.optimizer_state(chosen),
        pairs,
        {own: tuple(tensor.shape) for own, tensor in weights.all_tensors.items()},
        tensors=weights.all_tensors,
        ordered=weights.keeps_order,
        others=weights.beside_optimizer(chosen),
        settings=settings,
        same_order=same_order,
        role=weights.role,
        source=weights.where,
    )
