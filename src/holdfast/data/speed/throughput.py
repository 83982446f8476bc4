"""How many pictures a second come out of the loader, and what the way between processes takes of it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from holdfast.data.loading.batching import MakeBatch
from holdfast.data.loading.delivery import Delivery, handover_for
from holdfast.data.loading.epochs import Epochs
from holdfast.data.loading.loader import Loader
from holdfast.data.loading.reading import ReadSample
from holdfast.data.loading.stream import Stream
from holdfast.data.preprocessing.crops import Whole
from holdfast.data.preprocessing.normalise import Normalise
from holdfast.data.preprocessing.transforms import StagedTransform, nothing
from holdfast.data.sample import Indices, Pictures
from holdfast.data.speed.timing import Rate, Stage

_BATCHES_EACH = 4  # a worker, in an epoch that is timed: fewer would measure who gets the last one


def measure_rate(
    pictures: Pictures,
    picked: Indices,
    transform: Callable[..., Any],
    *,
    workers: int,
    batch_size: int,
    device: torch.device,
) -> Rate:
    """Runs two epochs over the picked pictures and times the second; the first starts the workers.

    Batches are smaller than `batch_size` where there would be too few of them.

    Args:
        transform: as the loader takes it: for pictures with points, one of picture and points.

    Raises:
        DataError: a picture cannot be read.
    """
    fitting = max(1, min(batch_size, len(picked) // (_BATCHES_EACH * max(workers, 1))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of more workers than cores, and that is what is measured
        loader = Loader(
            pictures, picked, batch_size=fitting, transform=transform, shuffle=True, num_workers=workers,
            device=device, pin_memory=device.type == "cuda",
        )  # fmt: skip
        try:
            _timed(loader)
            return Rate(workers, len(picked) / _timed(loader, device))
        finally:
            loader.close()


def measure_handover(ready: Sequence[Tensor], device: torch.device) -> Stage:
    """Has one worker hand over pictures that are ready, and does nothing else to them.

    Args:
        ready: some `[C, S, S]`, all of one shape.
        device: where they are wanted: to an accelerator bytes go, and elsewhere floats.
    """
    on_device = device.type != "cpu"
    shape = ready[0].shape if ready[0].dtype == torch.uint8 or not on_device else None
    transform = StagedTransform(Whole(), nothing, _AsTheyAre((), ()), scaled=False, shape=shape)  # type: ignore[arg-type]
    picked = np.tile(np.arange(len(ready)), max(1, 512 // len(ready)))
    handover = handover_for(transform, None, 1, 2, len(ready), on_device=on_device)
    make = MakeBatch(ReadSample(_Held(ready), transform, 0), None, on_device=on_device, handover=handover)
    epochs = Epochs(picked, None, batch_size=len(ready))
    stream = Stream(make, epochs, handover, num_workers=1)
    deliver = Delivery(None, None, handover)
    try:
        seconds = [_timed(map(deliver, stream.rest_of_epoch(epoch, 0))) for epoch in range(2)]
        return Stage("hand over to the main process", "hand-over", seconds[-1] / len(picked), "worker")
    finally:
        stream.close()


def _timed(batches: Iterable[Any], device: torch.device | None = None) -> float:
    began = time.perf_counter()
    for _ in batches:
        pass
    if device is not None and device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter() - began


class _AsTheyAre(Normalise):
    """A last stage that does nothing: pictures are finished in the place where they are handed over."""

    def __call__(self, pictures: Tensor, into: Tensor | None = None) -> Tensor:
        return pictures if into is None else into


@dataclass
class _Held:
    """A collection of pictures in memory, whatever their type."""

    ready: Sequence[Tensor]

    @property
    def classes(self) -> list[str]:
        return [""]

    @property
    def labels(self) -> Indices:
        return np.zeros(len(self.ready), np.int64)

    def __len__(self) -> int:
        return len(self.ready)

    def name(self, index: int) -> str:
        return f"#{index}"

    def read(self, index: int) -> Tensor:
        return self.ready[index]

    def fingerprint(self) -> str:
        return ""
