"""What a replay holds at a step, as digests: small enough to compare after every step, and exact."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from holdfast.checkpoints.digest import digest_of
from holdfast.checkpoints.flatten import flatten
from holdfast.checkpoints.tensors import tensor_bytes


@dataclass(frozen=True)
class StepRecord:
    """What a replay holds after a step.

    Attributes:
        step: steps made.
        tensors: `part.name` → digest, of every tensor of model, optimizer and whatever else a checkpoint holds.
        numbers: part → digest of all of it that is no tensor.
        batch: "inputs", "targets", "indices" → digest; empty before the first step.
        loss: its exact value as hexadecimal text; None before the first step.
        hidden: what no checkpoint holds (`hidden_state`).
    """

    step: int
    tensors: dict[str, str]
    numbers: dict[str, str]
    batch: dict[str, str] = field(default_factory=dict)
    loss: str | None = None
    hidden: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ready:
    """What a replay says once it is built and restored: where it stands, and how long the run is."""

    record: StepRecord
    steps_per_epoch: int
    total_steps: int
    workers: int
    deterministic: bool
    recipe: str
    fingerprint: dict[str, Any]


def record_of(step: int, trees: Mapping[str, Any]) -> StepRecord:
    """Returns the digests of a checkpoint's parts.

    Args:
        trees: part → its state: what `state_of` gives of live objects, or `Checkpoint.read` of saved ones.
    """
    tensors: dict[str, str] = {}
    numbers: dict[str, str] = {}
    for part, tree in trees.items():
        flat = flatten(tree, part)
        tensors |= {f"{part}.{name}": digest_of(tensor_bytes(tensor)) for name, tensor in flat.tensors.items()}
        rest = json.dumps([flat.skeleton, flat.aliases], sort_keys=True)
        numbers[part] = digest_of(rest.encode())
    return StepRecord(step, tensors, numbers)
