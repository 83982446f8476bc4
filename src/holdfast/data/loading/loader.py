"""Batches, in an order that workers and processes cannot change, from any step at once.

The loader decides *which* samples make a batch (`order.py`) and seeds the random generators before each sample is
transformed. torch's DataLoader is used for its worker processes only. The cursor counts batches delivered to the
caller, never those prefetched.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch.multiprocessing import get_all_start_methods, get_start_method
from torch.utils.data import DataLoader, Sampler

from holdfast.data.folders.listing import give_back_freed_memory
from holdfast.data.loading.delivery import Delivery, handover_for
from holdfast.data.loading.order import epoch_order
from holdfast.data.loading.reading import Collate, CollateFunction, Failure, ReadSample, collate
from holdfast.data.loading.samplers import positions_of, refuse_sampler
from holdfast.data.loading.sampling import Draw, Sampling, Weighted
from holdfast.data.loading.workers import (
    begin_work,
    close_at_exit,
    one_thread,
    picklable_or_refused,
    refuse_long_temporary_folder,
    signals_held,
)
from holdfast.data.sample import Indices, Pictures
from holdfast.distributed import World
from holdfast.errors import CheckpointMismatch, ConfigError, DataError, first_of
from holdfast.randomness import derive_seed, seed_generators
from holdfast.words import count

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
    ) -> None:
        _refuse_arguments(batch_size, num_workers, prefetch_factor, timeout, multiprocessing_context)
        self.pictures = pictures
        self.indices = np.arange(len(pictures), dtype=np.int64) if indices is None else np.asarray(indices, np.int64)
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.sampler = sampler
        self.drop_last = drop_last
        self.world = world or World()
        self.epoch = 0
        self.batches_delivered = 0
        self._draw = None if sampling == "natural" else Draw(sampling, pictures.labels[self.indices], seed)
        if sampler is not None:
            refuse_sampler(sampler, self._draw is not None)
        drawn = self.indices if self._draw is None else range(self._draw.size)
        self._num_samples = num_samples = len(drawn if sampler is None else cast(Sequence[int], sampler))
        self.steps_per_epoch = _count_batches(num_samples, batch_size, drop_last)
        if len(pictures) > _LARGE:
            give_back_freed_memory()  # what a scan leaves: every worker would fill it anew with pages of its own
        self._read = ReadSample(pictures, transform, seed)
        # Without an accelerator torch would refuse to pin in this process, and warn and go on with workers.
        self._pin = pin_memory and torch.accelerator.is_available()
        self._keep_workers = persistent_workers
        under_way = 2 if prefetch_factor is None else prefetch_factor
        travels = collate_fn is None and not self._pin
        places = num_workers if travels and (multiprocessing_context or get_start_method()) == "fork" else 0
        handover = handover_for(transform, places, under_way, batch_size)
        self._collate = Collate(collate_fn or collate, pictures, handover)
        self._deliver = Delivery(transform, device, handover)
        self._workers: DataLoader[Any] | None = None
        if num_workers:
            picklable_or_refused(
                multiprocessing_context, transform=transform, collate_fn=collate_fn, collection=pictures
            )
            self._workers = self._make_workers(num_workers, multiprocessing_context, under_way, timeout)
            close_at_exit(self)

    def _make_workers(
        self, num: int, start_method: str | None, prefetch_factor: int, timeout: float
    ) -> DataLoader[Any]:
        refuse_long_temporary_folder()
        return DataLoader(
            cast(Any, self._read),
            batch_sampler=cast(Any, _RestOfEpoch(self)),
            num_workers=num,
            collate_fn=self._collate,
            pin_memory=self._pin,
            persistent_workers=True,  # where they are not to be kept the loader closes them, and rightly
            multiprocessing_context=start_method,
            prefetch_factor=prefetch_factor,
            timeout=timeout,
            worker_init_fn=begin_work,
            # Its base seed would otherwise be drawn from the generator that the model uses.
            generator=torch.Generator().manual_seed(0),
        )

    def __len__(self) -> int:
        """Batches in a whole epoch."""
        return self.steps_per_epoch

    def __iter__(self) -> Iterator[Any]:
        if self.batches_delivered >= self.steps_per_epoch:
            self.epoch, self.batches_delivered = self.epoch + 1, 0
        batches = self._from_workers() if self._workers is not None else self._from_this_process()
        for batch in batches:
            if isinstance(batch, Failure):
                self.close()  # the error's traceback may keep this loader until it is too late to end workers well
                raise DataError(batch.message)
            self.batches_delivered += 1
            yield self._deliver(batch)

    def close(self) -> None:
        """Ends the worker processes; the next iteration starts new ones."""
        iterator = getattr(self._workers, "_iterator", None)
        if iterator is not None:
            workers = list(iterator._workers)
            iterator._shutdown_workers()
            for worker in workers:
                if worker.is_alive():  # stuck in code that no signal reaches
                    worker.kill()
            cast(Any, self._workers)._iterator = None

    def seek(self, step: int) -> None:
        """Moves the cursor to where it stands after `step` batches since the start of training; costs nothing."""
        self.epoch, self.batches_delivered = divmod(step, self.steps_per_epoch)

    def batch_indices(self, epoch: int, batch: int) -> Indices:
        """Returns this rank's share of batch `batch` of epoch `epoch`: indices into the collection."""
        return self._batch(self._epoch_indices(epoch), batch)

    def state_dict(self) -> dict[str, Any]:
        """Returns the cursor: epoch, batches delivered, and what they were counted in."""
        counted: dict[str, Any] = {
            "epoch": self.epoch,
            "batches_delivered": self.batches_delivered,
            "batch_size": self.batch_size,
            "num_samples": len(self.indices),
            "seed": self.seed,
        }
        return counted if self._draw is None else {**counted, "sampling": self._draw.describe()}

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

    def _epoch_indices(self, epoch: int) -> Indices:
        if self.sampler is not None:
            if hasattr(self.sampler, "set_epoch"):
                self.sampler.set_epoch(epoch)
            seed_generators(derive_seed("sampler", self.seed, epoch))
            return self.indices[positions_of(self.sampler, self._num_samples, len(self.indices))]
        if self._draw is not None:
            return self.indices[self._draw.positions(epoch)]
        return self.indices[epoch_order(self.seed, epoch, len(self.indices))] if self.shuffle else self.indices

    def _batch(self, epoch_indices: Indices, batch: int) -> Indices:
        return _members(epoch_indices, batch, self.batch_size, self.world.share)

    def rest_of_epoch(self) -> Iterator[list[tuple[int, int]]]:
        """Yields, for each batch from the cursor to the end of the epoch, its (epoch, index) pairs."""
        epoch, epoch_indices = self.epoch, self._epoch_indices(self.epoch)
        batches = range(self.batches_delivered, self.steps_per_epoch)
        batch_size, share = self.batch_size, self.world.share
        del self  # torch keeps this generator, which must not keep the loader: see _RestOfEpoch
        for batch in batches:
            yield [(epoch, int(index)) for index in _members(epoch_indices, batch, batch_size, share)]

    def _from_this_process(self) -> Iterator[Any]:
        for positions in self.rest_of_epoch():
            with one_thread():
                batch = self._collate([self._read[position] for position in positions])
            yield torch.utils.data._utils.pin_memory.pin_memory(batch) if self._pin else batch

    def _from_workers(self) -> Iterator[Any]:
        assert self._workers is not None
        try:
            with signals_held():
                batches = iter(self._workers)
            yield from batches
        except RuntimeError as error:
            if "DataLoader timed out" in str(error):
                self.close()
                raise DataError(
                    f"No batch came from the workers in time ({error}). Look for a slow disk, or raise timeout."
                ) from error
            if "DataLoader worker" not in str(error):
                raise
            raise DataError(
                f"A worker process that prepares pictures died ({str(error).splitlines()[0]}). It is often memory that "
                "ran out: take fewer --workers or a smaller --batch-size, and run the same command again."
            ) from error
        finally:
            if not self._keep_workers:
                self.close()


def _members(epoch_indices: Indices, batch: int, batch_size: int, share: Callable[[int], slice]) -> Indices:
    members = epoch_indices[batch * batch_size : (batch + 1) * batch_size]
    return members[share(len(members))]


def _refuse_arguments(
    batch_size: int, num_workers: int, prefetch_factor: int | None, timeout: float, start_method: str | None
) -> None:
    """Raises ConfigError naming every argument that is outside its range."""
    methods = get_all_start_methods()
    rules: list[tuple[str, Any, bool, str]] = [
        ("batch_size", batch_size, batch_size >= 1, "1 or more"),
        ("num_workers", num_workers, num_workers >= 0, "0 or more"),
        ("prefetch_factor", prefetch_factor, prefetch_factor is None or prefetch_factor >= 1, "1 or more"),
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


def _count_batches(num_samples: int, batch_size: int, drop_last: bool) -> int:
    if num_samples == 0 or (drop_last and num_samples < batch_size):
        raise ConfigError(
            f"No batch can be made of {count(num_samples, 'sample')} with batch size {batch_size}; "
            "take a smaller batch or keep the last one (drop_last=False)."
        )
    return num_samples // batch_size if drop_last else -(-num_samples // batch_size)


class _RestOfEpoch:
    """What torch's DataLoader asks for batches; it always starts from the loader's cursor.

    The loader is not kept alive from here: freed in a cycle, torch's queues lose the message that ends the workers.
    """

    def __init__(self, loader: Loader) -> None:
        self.loader = weakref.ref(loader)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        loader = self.loader()
        assert loader is not None
        return loader.rest_of_epoch()

    def __len__(self) -> int:
        loader = self.loader()
        assert loader is not None
        return loader.steps_per_epoch
