"""Measures what may wait until pictures are in their batch: augmentation, and how bytes become floats.

On a CPU all of it is done by the workers; an accelerator does it to a whole batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

from holdfast.data.preprocessing.keypoints import JointTransform
from holdfast.data.preprocessing.transforms import StagedTransform, nothing
from holdfast.data.speed.timing import Place, Stage

_REPEATS = 5  # of a batch: one alone is a few milliseconds


def steps_before(transform: StagedTransform, device: torch.device) -> Sequence[Callable[[Tensor], Any]]:
    """Returns the steps that a worker does one by one after cropping."""
    then: Any = transform.then
    steps = list(then.transforms) if isinstance(then, v2.Compose) else [] if then is nothing else [then]
    return [*steps, *(transform.augment if device.type == "cpu" else ())]


def finish_in_stages(
    ready: Sequence[Tensor], transform: StagedTransform | JointTransform, device: torch.device
) -> Iterator[Stage]:
    """Measures the way to the device, what waited for it, and normalising.

    Args:
        ready: pictures after all that is done before, `[C, S, S]`, all of one shape.
    """
    batch = torch.stack(list(ready))
    place: Place = "worker" if device.type == "cpu" else "main"
    if device.type != "cpu":
        yield Stage(f"to {device}", "finish", _seconds(partial(batch.to, device), device) / len(batch), place)
        batch = batch.to(device)
    if not isinstance(transform, StagedTransform):
        return
    for step in transform.augment if device.type != "cpu" else ():
        numbers = [step.draw() for _ in batch]
        seconds = _seconds(partial(step.apply, batch, numbers), device)
        yield Stage(f"{name_of(step)} on {device}", "finish", seconds / len(batch), place)
    into = torch.empty(batch.shape, device=device)
    yield Stage("normalise", "finish", _seconds(partial(transform.finish, batch, into), device) / len(batch), place)


def name_of(step: object) -> str:
    """Returns a step's name, as a table shows it."""
    return str(getattr(step, "__name__", type(step).__name__)).lstrip("_")


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Returns what something takes on the device, a mean; the first time, which starts it, is left out."""
    now = time.thread_time if device.type == "cpu" else time.perf_counter
    work()
    _wait_for(device)
    began = now()
    for _ in range(_REPEATS):
        work()
    _wait_for(device)
    return (now() - began) / _REPEATS


def _wait_for(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
