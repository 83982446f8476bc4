"""What must survive a crash, and what a step gives back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from holdfast.training.schedule import Schedule

Loss = Callable[[Any, Any], Tensor]


class StepResult(NamedTuple):
    """One optimizer step, just made.

    Attributes:
        step: steps made so far, this one included.
        loss: `[]` on the device, detached. `float(result.loss)` waits for the device.
        lr: learning rate of this step, before groups scale it; None when no schedule sets it.
        batch: what the batch source gave.
    """

    step: int
    loss: Tensor
    lr: float | None
    batch: Any


@dataclass
class TrainState:
    """The moving parts of training.

    Attributes:
        model: on `device`.
        optimizer: over the model's parameters. A group's `lr_scale` (default 1) multiplies the schedule.
        loss_fn: (outputs, targets) → `[]`.
        schedule: step → learning rate; None leaves the groups' own `lr` alone, so that you may change it at any step.
        seed, rank: with the step, they decide the model's random numbers.
        precision: "fp32", or "bf16" for autocast.
        step: optimizer updates made.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss_fn: Loss
    schedule: Schedule | None = None
    seed: int = 0
    rank: int = 0
    precision: str = "fp32"
    step: int = 0

    @property
    def device(self) -> torch.device:
        """Where the model's first parameter lies (the CPU for a model without parameters)."""
        parameter = next(self.model.parameters(), None)
        return torch.device("cpu") if parameter is None else parameter.device

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """Returns the context of a forward pass: autocast for bf16, nothing for fp32 (an idle autocast costs 20 µs)."""
        return torch.autocast(device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()

    def set_learning_rates(self) -> float | None:
        """Sets every group's learning rate for the coming step; returns the schedule's value."""
        if self.schedule is None:
            return None
        lr = self.schedule(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0)
        return lr

    def parts(self) -> dict[str, Any]:
        """Returns what a checkpoint must hold of this state: name → something with `state_dict`."""
        return {"model": self.model, "optimizer": self.optimizer, "progress": self}

    def state_dict(self) -> dict[str, Any]:
        """Returns the counters. Model and optimizer are parts of their own."""
        return {"step": self.step, "seed": self.seed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the counters back."""
        self.step = int(state_dict["step"])
        self.seed = int(state_dict["seed"])
