"""Starting from weights that were trained before: the part that fits is taken, and what did not is said."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from holdfast.errors import CheckpointError, CheckpointMismatch


@dataclass(frozen=True)
class WeightsReport:
    """What became of each of the model's tensors: taken as they were, adapted (input channels), or left fresh."""

    matched: list[str]
    adapted: list[str]
    fresh: list[str]
    unused: list[str]

    def __str__(self) -> str:
        parts = [f"{len(self.matched)} tensors taken"]
        if self.adapted:
            parts.append(f"adapted to the input channels: {', '.join(self.adapted)}")
        if self.fresh:
            parts.append(f"fresh: {', '.join(self.fresh[:4])}" + (" …" if len(self.fresh) > 4 else ""))
        if self.unused:
            parts.append(f"unused: {', '.join(self.unused[:4])}" + (" …" if len(self.unused) > 4 else ""))
        return "; ".join(parts)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Reads a flat state dict from `.safetensors`, or from a `.pt`/`.pth` that holds tensors and nothing else.

    Raises:
        CheckpointError: the file is neither, or holds more than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # three libraries' own errors
        raise CheckpointError(f"Reading weights from {path}: {(str(error) or repr(error)).splitlines()[0]}") from error
    state = loaded.get("state_dict", loaded.get("model", loaded)) if isinstance(loaded, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(
            f"Reading weights from {path}: expected a flat state dict of tensors. Save model.state_dict() and "
            "give that."
        )
    return cast(dict[str, Tensor], state)


def load_pretrained(model: nn.Module, state: dict[str, Tensor], source: str) -> WeightsReport:
    """Copies into `model` every tensor that fits by name and shape; a stem's RGB filters are summed for grey input.

    Args:
        state: a state dict, perhaps of a model with another class count.
        source: where it came from, for the error.

    Raises:
        CheckpointMismatch: fewer than half of the model's values would come from `state`.
    """
    own = model.state_dict()
    taken: dict[str, Tensor] = {}
    adapted: list[str] = []
    for name, target in own.items():
        value = state.get(name)
        if value is None:
            continue
        if value.shape == target.shape:
            taken[name] = value
        elif _differs_in_channels_only(value, target):
            # A grey picture is the same value in all three channels: the sum of the filters answers as RGB did.
            taken[name] = (
                value.sum(1, keepdim=True) if target.shape[1] == 1 else (value / target.shape[1]).expand_as(target)
            )
            adapted.append(name)
    fitting = sum(own[name].numel() for name in taken)
    total = sum(tensor.numel() for tensor in own.values())
    if fitting * 2 < total:
        raise CheckpointMismatch(
            f"Loading weights from {source}: {fitting / max(total, 1):.0%} of the model's values fit by name "
            "and shape; "
            f"expected half at least. Its names begin {', '.join(list(state)[:3])}; the model's "
            f"{', '.join(list(own)[:3])}."
        )
    model.load_state_dict(taken, strict=False)
    matched = [name for name in taken if name not in adapted]
    return WeightsReport(matched, adapted, [n for n in own if n not in taken], [n for n in state if n not in taken])


def _differs_in_channels_only(value: Tensor, target: Tensor) -> bool:
    return (
        value.ndim == 4
        and target.ndim == 4
        and value.shape[0] == target.shape[0]
        and value.shape[2:] == target.shape[2:]
        and {value.shape[1], target.shape[1]} == {1, 3}
    )
