"""The last steps of a batch, in the main process: to the device, and bytes become floats there."""

from __future__ import annotations

from typing import Any

import torch

from holdfast.data.loading.buffers import Buffers
from holdfast.data.loading.handover import Handover, Left
from holdfast.data.loading.workers import one_thread
from holdfast.data.preprocessing.transforms import StagedTransform
from holdfast.data.sample import Batch


class Delivery:
    """Finishes batches.

    Args:
        transform: of a `StagedTransform` the last stage is done here; others are finished already.
        device: where batches go; None leaves them where they are.
        handover: where workers leave batches; None when they send them.
    """

    def __init__(self, transform: Any, device: torch.device | None, handover: Handover | None) -> None:
        self._finish = transform.finish if isinstance(transform, StagedTransform) else None
        self._device, self._handover, self._buffers = device, handover, Buffers()

    def __call__(self, batch: Any) -> Any:
        """Returns a batch on the device, its pictures finished; what a user's collate_fn makes is returned as it is."""
        if isinstance(batch, Left) and self._handover is not None:
            batch = self._handover.take(batch)
        if not isinstance(batch, Batch):
            return batch
        if self._device is not None:
            batch = Batch(*(value.to(self._device, non_blocking=True) for value in batch))
        if self._finish is None:
            return batch
        empty = self._buffers.empty if batch.inputs.device.type == "cpu" else None
        with one_thread():  # small pieces of work: threads would wait for one another, and for the workers' cores
            return batch._replace(inputs=self._finish(batch.inputs, empty))


def handover_for(transform: Any, num_workers: int, under_way: int, batch_size: int) -> Handover | None:
    """Returns memory for workers to leave their batches in; None without workers, or when shapes are not known."""
    shape = transform.shape if isinstance(transform, StagedTransform) else None
    return Handover(num_workers, under_way, batch_size, shape) if num_workers and shape else None
