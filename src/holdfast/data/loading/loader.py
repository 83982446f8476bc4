"""Batches, in an order that workers and processes cannot change, from any step at once.

The loader decides *which* samples make a batch (`order.py`) and seeds the random generators before each sample is
transformed. torch's DataLoader is used for its worker processes only. The cursor counts batches delivered to the
caller, never those prefetched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.multiprocessing import get_all_start_methods, get_start_method
from torch.utils.data import Sampler

from holdfast.data.folders.listing import give_back_freed_memory
from holdfast.data.loading.batching import CollateFunction, MakeBatch, Request
from holdfast.data.loading.delivery import Delivery, handover_for
from holdfast.data.loading.epochs import Epochs
from holdfast.data.loading.reading import Failure, ReadSample
from holdfast.data.loading.sampling import Sampling, Weighted
from holdfast.data.loading.stream import Stream
from holdfast.data.loading.workers import close_at_exit, one_thread, picklable_or_refused
from holdfast.data.sample import Indices, Pictures
from holdfast.distributed import World
from holdfast.errors import CheckpointMismatch, ConfigError, DataError, first_of

_LARGE = 50_000  # pictures: from here on the memory of their paths is megabytes


class Loader:
    """Iterates over the rest of the current epoch; the next iteration is the next epoch.

    Args:
        pictures: the collection.
        indices: the members of the set, `[n]` int64; by default all pictures.
        batch_size: samples in a *global* batch; each of `world`'s processes gets its share.
        transform: maps `[C, H, W]` to the network's input; for pictures with points, picture and `KeyPoints` to both,
            as any v2 pipeline of torchvision does. Before each call Python's, NumPy's and torch's generators
            are seeded from (seed, epoch, index). Transforms run on one torch thread, in workers and without.
        seed: decides order and augmentation.
        shuffle: a new order every epoch; otherwise the order of `indices`.
        sampler: your own order instead: a torch `Sampler` (or any sequence) of positions in the set. A sampler that
            draws from the global generators is reproducible too: they are seeded from (seed, epoch) first. It must have
            a `len()`, and give so many positions; one that gives batches, or shares of ranks, is refused.
        sampling: what an epoch visits when not every sample once: "balanced" (every class equally often), "sqrt"
            (half-way), or `Weighted(weights)`; see `sampling.py`. A new order every epoch. A pure function of
            (seed, epoch), as everything here.
        drop_last: leave out the last, smaller batch of an epoch.
        num_workers: worker processes; 0 works in this one. Changes speed, and nothing else.
        collate_fn: makes a batch of a list of `(input, target, index)`.
        pin_memory: put batches into page-locked memory (for CUDA).
        device: where batches are delivered; by default they stay where they were made, on the CPU.
        multiprocessing_context: how workers start: "fork", "spawn" or "forkserver"; by default as Python does here.
            Where they are not forked, transform and collate_fn must be picklable; paths and arrays are shared.
        prefetch_factor: batches that each worker makes ahead; 2 by default.
        timeout: seconds to wait for a batch from the workers before giving up; 0 waits for ever.
        persistent_workers: keep the workers from epoch to epoch; otherwise every epoch starts new ones.
        epochs: how many there will be in all. Workers then go on from the last batches of an epoch to the first of the
            next, and nobody waits for those. Not with a `sampler`, which is asked when its epoch begins.
        world: this process's place among all.

    Raises:
        ConfigError: numbers outside their ranges (all of them at once), `drop_last` that would leave no batch, a
            sampler that cannot be used, or what cannot be sent to workers that are not forked.
    """

    def __init__(
        self,
        pictures: Pictures,
        indices: Indices | None = None,
        *,
        batch_size: int,
        transform: Callable[..., Any] | None = None,
        seed: int = 0,
        shuffle: bool = False,
        sampler: Sampler[int] | Sequence[int] | None = None,
        sampling: Sampling | Weighted = "natural",
        drop_last: bool = False,
        num_workers: int = 0,
        collate_fn: CollateFunction | None = None,
        pin_memory: bool = False,
        device: torch.device | None = None,
        world: World | None = None,
        multiprocessing_context: str | None = None,
        prefetch_factor: int | None = None,
        timeout: float = 0,
        persistent_workers: bool = True,
        epochs: int | None = None,
    ) -> None:
        _refuse_arguments(batch_size, num_workers, prefetch_factor, timeout, multiprocessing_context, epochs)
        self.pictures = pictures
        self.indices = np.arange(len(pictures), dtype=np.int64) if indices is None else np.asarray(indices, np.int64)
        self.batch_size, self.seed, self.shuffle = batch_size, seed, shuffle
        self.sampler, self.drop_last, self.world = sampler, drop_last, world or World()
        self.epoch = self.batches_delivered = 0
        labels = None if sampling == "natural" else pictures.labels[self.indices]
        self._epochs = Epochs(
            self.indices, labels, batch_size=batch_size, seed=seed, shuffle=shuffle, sampler=sampler,
            sampling=sampling, drop_last=drop_last, world=self.world,
        )  # fmt: skip
        self.steps_per_epoch = self._epochs.num_batches
        if len(pictures) > _LARGE:
            give_back_freed_memory()  # what a scan leaves: every worker would fill it anew with pages of its own
        # Without an accelerator torch would refuse to pin in this process, and warn and go on with workers.
        self._pin = pin_memory and torch.accelerator.is_available()
        self._keep_workers = persistent_workers
        on_device = device is not None and device.type != "cpu"
        # Asking for the platform's own method settles it for the whole process: not where nobody will be started.
        forked = num_workers > 0 and not self._pin and (multiprocessing_context or get_start_method()) == "fork"
        under_way = 2 if prefetch_factor is None else prefetch_factor
        handover = handover_for(
            transform, collate_fn, num_workers if forked else 0, under_way, batch_size, on_device=on_device
        )
        read = ReadSample(pictures, transform, seed)
        self._make = MakeBatch(read, collate_fn, on_device=on_device, handover=handover)
        self._deliver = Delivery(transform, device, handover)
        self._stream: Stream | None = None
        if num_workers:
            method = multiprocessing_context
            picklable_or_refused(method, transform=transform, collate_fn=collate_fn, collection=pictures)
            self._stream = Stream(
                self._make, self._epochs, handover, num_workers=num_workers, start_method=method,
                last_epoch=epochs - 1 if epochs and persistent_workers and sampler is None else None,
                prefetch_factor=under_way, timeout=timeout, pin=self._pin,
            )  # fmt: skip
            close_at_exit(self)

    def __len__(self) -> int:
        """Batches in a whole epoch."""
        return self.steps_per_epoch

    def __iter__(self) -> Iterator[Any]:
        if self.batches_delivered >= self.steps_per_epoch:
            self.epoch, self.batches_delivered = self.epoch + 1, 0
        for made in self._rest_of_epoch(self.epoch, self.batches_delivered):
            if isinstance(made, Failure):
                self.close()  # the error's traceback may keep this loader until it is too late to end workers well
                raise DataError(made.message)
            batch = self._deliver(made)
            self.batches_delivered += 1
            yield batch
            del batch, made  # their memory is free when nobody else holds it, before the next batch is asked for

    def close(self) -> None:
        """Ends the worker processes; the next iteration starts new ones."""
        if self._stream is not None:
            self._stream.close()

    def seek(self, step: int) -> None:
        """Moves the cursor to where it stands after `step` batches since the start of training; costs nothing."""
        self.epoch, self.batches_delivered = divmod(step, self.steps_per_epoch)

    def batch_indices(self, epoch: int, batch: int) -> Indices:
        """Returns this rank's share of batch `batch` of epoch `epoch`: indices into the collection."""
        return self._epochs.batch(self._epochs.order(epoch), batch)

    def state_dict(self) -> dict[str, Any]:
        """Returns the cursor: epoch, batches delivered, and what they were counted in."""
        counted: dict[str, Any] = {
            "epoch": self.epoch,
            "batches_delivered": self.batches_delivered,
            "batch_size": self.batch_size,
            "num_samples": len(self.indices),
            "seed": self.seed,
        }
        return {**counted, **self._epochs.sampling()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Moves the cursor to where it stood.

        Raises:
            CheckpointMismatch: the batches were counted with another size, set, seed or sampling.
        """
        here = self.state_dict()
        other = [
            f"{key}: saved {state_dict.get(key)}, here {here.get(key)}"
            for key in ("batch_size", "num_samples", "seed", "sampling")
            if state_dict.get(key) != here.get(key)
        ]
        if other:
            raise CheckpointMismatch(f"The data loader's place in the data means nothing here ({'; '.join(other)}).")
        self.epoch, self.batches_delivered = int(state_dict["epoch"]), int(state_dict["batches_delivered"])

    def _rest_of_epoch(self, epoch: int, batch: int) -> Iterator[Any]:
        if self._stream is None:
            yield from self._from_this_process(epoch, batch)
            return
        try:
            yield from self._stream.rest_of_epoch(epoch, batch)
        finally:
            if not self._keep_workers:
                self.close()

    def _from_this_process(self, epoch: int, batch: int) -> Iterator[Any]:
        order = self._epochs.order(epoch)
        for number in range(batch, self.steps_per_epoch):
            with one_thread():
                made = self._make.__getitems__(Request(epoch, self._epochs.batch(order, number)))
            yield torch.utils.data._utils.pin_memory.pin_memory(made) if self._pin else made


def _refuse_arguments(
    batch_size: int,
    num_workers: int,
    prefetch_factor: int | None,
    timeout: float,
    start_method: str | None,
    epochs: int | None,
) -> None:
    """Raises ConfigError naming every argument that is outside its range."""
    methods = get_all_start_methods()
    rules: list[tuple[str, Any, bool, str]] = [
        ("batch_size", batch_size, batch_size >= 1, "1 or more"),
        ("num_workers", num_workers, num_workers >= 0, "0 or more"),
        ("prefetch_factor", prefetch_factor, prefetch_factor is None or prefetch_factor >= 1, "1 or more"),
        ("epochs", epochs, epochs is None or epochs >= 1, "1 or more"),
        ("timeout", timeout, timeout >= 0, "seconds, or 0 to wait for ever"),
        (
            "multiprocessing_context",
            start_method,
            start_method is None or start_method in methods,
            f"one of {', '.join(methods)}",
        ),
    ]
    wrong = [f"{name} is {value!r}; expected {expected}" for name, value, good, expected in rules if not good]
    if wrong:
        raise ConfigError(f"A loader cannot be made so:\n{first_of(wrong)}")
