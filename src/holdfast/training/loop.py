"""The training loop: a generator that yields once after each optimizer step.

Every `yield` is a legal place to save, evaluate, log or stop; nowhere else is. The body of the loop belongs to the
caller. Nothing is held across a `yield` but what is in the state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from holdfast.randomness import derive_seed, seed_generators
from holdfast.training.freeze import train_mode
from holdfast.training.state import StepResult, TrainState


def train_steps(state: TrainState, batches: Iterable[Any], until: int | None = None) -> Iterator[StepResult]:
    """Makes one optimizer step a batch and yields after each.

        for each batch, until the state has made `until` steps:
            seed the random generators from (seed, step, rank)
            set each group's learning rate from the schedule
            zero the gradients, forward, loss, backward, optimizer step
            count the step and yield

    The model is put into training mode whenever the loop goes on, so the caller may evaluate at a `yield`. Layers
    whose parameters are frozen keep their batch-norm statistics too.

    Args:
        state: mutated: weights, buffers, optimizer slots, `step`.
        batches: any iterable of `(inputs, targets, ...)`: inputs `[B, ...]`, targets as the loss wants them.
        until: stop once `state.step` reaches this; None goes on to the end of `batches`.

    Yields:
        A `StepResult`; its loss stays on the device, and reading it is the caller's wait.
    """
    source = iter(batches)
    while until is None or state.step < until:
        batch = next(source, None)
        if batch is None:
            return
        device = state.device
        inputs, targets, *_ = batch
        inputs, targets = _to(inputs, device), _to(targets, device)

        train_mode(state.model)
        seed_generators(derive_seed("step", state.seed, state.step, state.rank), cuda=device.type == "cuda")
        lr = state.set_learning_rates()
        state.optimizer.zero_grad()
        with state.autocast(device):
            loss = state.loss_fn(state.model(inputs), targets)
        loss.backward()
        state.optimizer.step()
        state.step += 1

        yield StepResult(state.step, loss.detach(), lr, batch)


def _to(value: Any, device: torch.device) -> Any:
    return value.to(device, non_blocking=True) if isinstance(value, Tensor) and value.device != device else value
