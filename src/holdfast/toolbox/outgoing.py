"""What is about to be written: tensors that are read when their turn comes, and what is known beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from holdfast.errors import CheckpointMismatch


@dataclass(frozen=True)
class OutgoingTensor:
    """One tensor.

    Attributes:
        dtype, shape: what `read` will return.
        read: returns the values on the CPU; called each time that they are needed, and not kept.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    read: Callable[[], Tensor]

    @property
    def num_bytes(self) -> int:
        """Bytes of its values."""
        return self.ghost().numel() * self.dtype.itemsize

    def ghost(self) -> Tensor:
        """Returns a tensor of this type and shape without memory."""
        return torch.empty(self.shape, dtype=self.dtype, device="meta")


@dataclass(frozen=True)
class OutgoingModel:
    """The tensors of one model.

    Attributes:
        tensors: name → tensor, each memory once.
        ties: name → the name in `tensors` that stands for the same tensor.
    """

    tensors: Mapping[str, OutgoingTensor]
    ties: Mapping[str, str] = field(default_factory=dict)

    @property
    def num_bytes(self) -> int:
        """Bytes of all its values, tied tensors once."""
        return sum(tensor.num_bytes for tensor in self.tensors.values())

    def all_names(self) -> dict[str, OutgoingTensor]:
        """Returns every name with its tensor, tied ones too."""
        return {**self.tensors, **{alias: self.tensors[kept] for alias, kept in self.ties.items()}}


@dataclass(frozen=True)
class Outgoing:
    """A checkpoint that is about to be written.

    Attributes:
        models: part → model; kinds that hold one model have one here.
        optimizers: part → state, for kinds that can hold it.
        facts: classes, preprocessing, architecture …: what our own files carry.
        header: text → text, for the header of a plain safetensors file.
        step: optimizer updates made.
        metrics: name → finite number.
    """

    models: Mapping[str, OutgoingModel]
    optimizers: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    header: Mapping[str, str] = field(default_factory=dict)
    step: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def model(self) -> OutgoingModel:
        """The one model."""
        (model,) = self.models.values()
        return model


def refuse_empty(path: str, models: Iterable[OutgoingModel]) -> None:
    """Does nothing when there is a tensor to write.

    Args:
        path: where the models are from, for the message.

    Raises:
        CheckpointMismatch: there is none: a file without weights would pass for a checkpoint.
    """
    if not any(model.tensors for model in models):
        raise CheckpointMismatch(
            f"Writing the weights of {path}: found no tensor in them; expected one at least. Nothing was written. Look "
            "at what it holds (holdfast inspect), and choose another model (--role) or another file."
        )
