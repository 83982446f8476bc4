"""See a model: names, shapes, and counts of its parameters and buffers."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class TensorInfo:
    """One parameter or buffer: name, shape, dtype as torch prints it, number of values, and whether it is trained."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    num_values: int
    kind: str
    trained: bool


@dataclass(frozen=True)
class ModelSummary:
    """All tensors of a model in the order of its state dict, with totals in values (not bytes)."""

    tensors: list[TensorInfo]
    num_parameters: int
    num_trained: int
    num_buffer_values: int


def summarize_model(model: nn.Module) -> ModelSummary:
    """Returns names, shapes and counts. A tied tensor is listed once, under its first name."""
    tensors = [
        TensorInfo(n, tuple(p.shape), str(p.dtype).removeprefix("torch."), p.numel(), "parameter", p.requires_grad)
        for n, p in model.named_parameters()
    ]
    tensors += [
        TensorInfo(n, tuple(b.shape), str(b.dtype).removeprefix("torch."), b.numel(), "buffer", False)
        for n, b in model.named_buffers()
    ]
    parameters = [t for t in tensors if t.kind == "parameter"]
    return ModelSummary(
        tensors,
        sum(t.num_values for t in parameters),
        sum(t.num_values for t in parameters if t.trained),
        sum(t.num_values for t in tensors if t.kind == "buffer"),
    )
