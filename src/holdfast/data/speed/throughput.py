"""How many pictures a second come out of the loader, and what the way between processes takes of it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from holdfast.data.loading.loader import Loader
from holdfast.data.preprocessing.crops import Whole
from holdfast.data.preprocessing.normalise import Normalise
from holdfast.data.preprocessing.transforms import StagedTransform
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
            return Rate(workers, len(picked) / _second_epoch(loader, device))
        finally:
            loader.close()


def measure_handover(ready: Sequence[Tensor]) -> Stage:
    """Has one worker hand over pictures that are ready, and does nothing else to them.

    Args:
        ready: some `[C, S, S]`, all of one shape.
    """
    shape = ready[0].shape if ready[0].dtype == torch.uint8 else None
    transform = StagedTransform(Whole(), _nothing, _AsTheyAre((), ()), scaled=False, shape=shape)  # type: ignore[arg-type]
    held = _Held(ready)
    times = max(1, 512 // len(ready))
    picked = np.tile(np.arange(len(ready)), times)
    loader = Loader(held, picked, batch_size=len(ready), transform=transform, num_workers=1)
    try:
        return Stage("hand over to the main process", "hand-over", _second_epoch(loader, None) / len(picked), "worker")
    finally:
        loader.close()


def _second_epoch(loader: Loader, device: torch.device | None) -> float:
    for _ in loader:
        pass
    began = time.perf_counter()
    for _ in loader:
        pass
    if device is not None and device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter() - began


def _nothing(picture: Tensor) -> Tensor:
    return picture


class _AsTheyAre(Normalise):
    """A last stage that leaves batches as bytes."""

    def __call__(self, pictures: Tensor, empty: Any = None) -> Tensor:  # noqa: ARG002  # as Normalise is called
        return pictures


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
