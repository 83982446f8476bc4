"""The last steps of a batch, in the main process: to the device, and on an accelerator bytes become floats there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from holdfast.data.loading.batching import CollateFunction, Waiting, shape_known
from holdfast.data.loading.handover import Handover, Left
from holdfast.data.preprocessing.transforms import StagedTransform
from holdfast.data.sample import Batch


class Delivery:
    """Finishes batches.

    Args:
        transform: of a `StagedTransform` the last stages are done here to batches that wait for them.
        device: where batches go; None leaves them where they are.
        handover: where workers leave batches; None when they send them.
    """

    def __init__(
        self, transform: Callable[..., Any] | None, device: torch.device | None, handover: Handover | None
    ) -> None:
        self._transform, self._device, self._handover = transform, device, handover

    def __call__(self, made: Any) -> Any:
        """Returns a batch on the device, its pictures finished; what a user's collate_fn makes is returned as it is."""
        numbers = None
        if isinstance(made, Left) and self._handover is not None:
            numbers = made.numbers
            made = Batch(self._handover.take(made), torch.from_numpy(made.targets), torch.from_numpy(made.indices))
        elif isinstance(made, Waiting):
            made, numbers = made
        if not isinstance(made, Batch):
            return made
        if self._device is not None:
            # Only CUDA waits for what is not pinned; elsewhere the place could be filled again before it was copied.
            made = Batch(*(value.to(self._device, non_blocking=self._device.type == "cuda") for value in made))
        if numbers is None or not isinstance(self._transform, StagedTransform):
            return made
        inputs = self._transform.augmented(made.inputs, numbers.tolist())
        return made._replace(inputs=self._transform.finish(inputs))


def handover_for(
    transform: Callable[..., Any] | None,
    collate_fn: CollateFunction | None,
    num_workers: int,
    under_way: int,
    batch_size: int,
    *,
    on_device: bool,
) -> Handover | None:
    """Returns memory for workers to leave their batches in; None without workers, or when shapes are not known.

    Args:
        transform, collate_fn: the loader's.
        num_workers: processes.
        under_way: batches that one of them may have been asked for and not delivered (DataLoader's `prefetch_factor`).
        batch_size: pictures in a batch, at most.
        on_device: whether bytes are left, to become floats on an accelerator.
    """
    shape = shape_known(transform, collate_fn)
    if not num_workers or shape is None:
        return None
    dtype = torch.uint8 if on_device and isinstance(transform, StagedTransform) else torch.float32
    return Handover(num_workers, under_way, batch_size, shape, dtype)
