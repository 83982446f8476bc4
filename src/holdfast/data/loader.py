"""Batches, in an order that workers and processes cannot change, from any step at once.

The loader decides *which* samples make a batch (`order.py`) and seeds the random generators before each sample is
transformed. torch's DataLoader is used for its worker processes only. The cursor counts batches delivered to the
caller, never those prefetched.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torchvision import tv_tensors

from holdfast.data.order import epoch_order
from holdfast.data.sample import Batch, Indices, Pictures
from holdfast.data.targets import Target, targets_of
from holdfast.data.workers import close_at_exit, ignore_signals, refuse_long_temporary_folder, signals_held
from holdfast.distributed import World
from holdfast.errors import CheckpointMismatch, ConfigError, DataError
from holdfast.randomness import derive_seed, seed_generators

Item = tuple[Tensor, Target, int]
Collate = Callable[[list[Item]], Any]


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
            draws from the global generators is reproducible too: they are seeded from (seed, epoch) first.
        drop_last: leave out the last, smaller batch of an epoch.
        num_workers: worker processes; 0 works in this one. Changes speed, and nothing else.
        collate_fn: makes a batch of a list of `(input, target, index)`.
        pin_memory: put batches into page-locked memory (for CUDA).
        world: this process's place among all.

    Raises:
        ConfigError: a batch size below 1, or `drop_last` that would leave no batch.
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
        drop_last: bool = False,
        num_workers: int = 0,
        collate_fn: Collate | None = None,
        pin_memory: bool = False,
        world: World | None = None,
    ) -> None:
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
        num_samples = len(self.indices) if sampler is None else len(cast(Sequence[int], sampler))
        if batch_size < 1:
            raise ConfigError(f"The batch size is {batch_size}; expected 1 or more.")
        if num_samples == 0 or (drop_last and num_samples < batch_size):
            raise ConfigError(
                f"No batch can be made of {num_samples} samples with batch size {batch_size}; "
                "take a smaller batch or keep the last one (drop_last=False)."
            )
        self.steps_per_epoch = num_samples // batch_size if drop_last else -(-num_samples // batch_size)
        self._read = _ReadSample(pictures, transform, seed)
        self._collate = _Collate(collate_fn or collate, pictures)
        # Without an accelerator torch would refuse to pin in this process, and warn and go on with workers.
        self._pin = pin_memory and torch.accelerator.is_available()
        self._workers: DataLoader[Any] | None = None
        if num_workers:
            refuse_long_temporary_folder()
            self._workers = DataLoader(
                cast(Any, self._read),
                batch_sampler=cast(Any, _RestOfEpoch(self)),
                num_workers=num_workers,
                collate_fn=self._collate,
                pin_memory=self._pin,
                persistent_workers=True,
                worker_init_fn=ignore_signals,
                # Its base seed would otherwise be drawn from the generator that the model uses.
                generator=torch.Generator().manual_seed(0),
            )
            close_at_exit(self)

    def __len__(self) -> int:
        """Batches in a whole epoch."""
        return self.steps_per_epoch

    def __iter__(self) -> Iterator[Any]:
        if self.batches_delivered >= self.steps_per_epoch:
            self.epoch, self.batches_delivered = self.epoch + 1, 0
        batches = self._from_workers() if self._workers is not None else self._from_this_process()
        for batch in batches:
            if isinstance(batch, _Failure):
                self.close()  # the error's traceback may keep this loader until it is too late to end workers well
                raise DataError(batch.message)
            self.batches_delivered += 1
            yield batch

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
        return {
            "epoch": self.epoch,
            "batches_delivered": self.batches_delivered,
            "batch_size": self.batch_size,
            "num_samples": len(self.indices),
            "seed": self.seed,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Moves the cursor to where it stood.

        Raises:
            CheckpointMismatch: the batches were counted with another size, set or seed.
        """
        here = self.state_dict()
        other = [
            f"{key}: saved {state_dict.get(key)}, here {here[key]}"
            for key in ("batch_size", "num_samples", "seed")
            if state_dict.get(key) != here[key]
        ]
        if other:
            raise CheckpointMismatch(f"The data loader's place in the data means nothing here ({'; '.join(other)}).")
        self.epoch, self.batches_delivered = int(state_dict["epoch"]), int(state_dict["batches_delivered"])

    def _epoch_indices(self, epoch: int) -> Indices:
        if self.sampler is not None:
            if hasattr(self.sampler, "set_epoch"):
                self.sampler.set_epoch(epoch)
            seed_generators(derive_seed("sampler", self.seed, epoch))
            return self.indices[np.fromiter(self.sampler, np.int64)]
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
            with _one_thread():
                batch = self._collate([self._read[position] for position in positions])
            yield torch.utils.data._utils.pin_memory.pin_memory(batch) if self._pin else batch

    def _from_workers(self) -> Iterator[Any]:
        assert self._workers is not None
        try:
            with signals_held():
                batches = iter(self._workers)
            yield from batches
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise DataError(
                f"A worker process that prepares pictures died ({str(error).splitlines()[0]}). It is often memory that "
                "ran out: take fewer --workers or a smaller --batch-size, and run the same command again."
            ) from error


def _members(epoch_indices: Indices, batch: int, batch_size: int, share: Callable[[int], slice]) -> Indices:
    members = epoch_indices[batch * batch_size : (batch + 1) * batch_size]
    return members[share(len(members))]


def collate(items: list[Item]) -> Batch:
    """Stacks inputs to `[B, ...]` and targets that are tensors; class indices and indices become `[B]` int64."""
    inputs, targets, indices = zip(*items, strict=True)
    stacked = torch.tensor(targets) if isinstance(targets[0], int) else torch.stack(targets)
    return Batch(torch.stack(inputs), stacked, torch.tensor(indices))


class _Failure:
    """A sample that could not be read, sent back from a worker as a value, so that no traceback wraps it."""

    def __init__(self, message: str) -> None:
        self.message = message


class _ReadSample:
    """Reads and transforms the sample at (epoch, index). Holds no random state."""

    def __init__(self, pictures: Pictures, transform: Callable[..., Any] | None, seed: int) -> None:
        self.pictures, self.transform, self.seed = pictures, transform, seed
        self.targets = targets_of(pictures)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, position: tuple[int, int]) -> Item | _Failure:
        epoch, index = position
        try:
            image = self.pictures.read(index)
        except DataError as error:
            return _Failure(str(error))
        target = self.targets.of(index, image)
        if self.transform is not None:
            seed_generators(derive_seed("sample", self.seed, epoch, index))
            try:
                if self.targets.task == "landmarks":
                    image, target = self.transform(tv_tensors.Image(image), target)
                else:
                    image = self.transform(image)
            except Exception as error:  # a user's code may raise anything; the picture's name must not be lost
                return _Failure(f"Transforming {self.pictures.name(index)}: {type(error).__name__}: {error}")
        return image, target, index


class _Collate:
    """The collate function, passing failures on and naming the pictures whose shapes disagree."""

    def __init__(self, collate_fn: Collate, pictures: Pictures) -> None:
        self.collate_fn, self.pictures = collate_fn, pictures

    def __call__(self, items: list[Item | _Failure]) -> Any:
        for item in items:
            if isinstance(item, _Failure):
                return item
            image: object = item[0]  # a user's transform may return anything
            if self.collate_fn is collate and not isinstance(image, Tensor):
                return _Failure(
                    f"Making a batch: the transform made a {type(image).__name__} of {self.pictures.name(item[2])}; "
                    "expected a tensor. End it with v2.ToImage() and v2.ToDtype(torch.float32, scale=True)."
                )
        good = cast(list[Item], items)
        if self.collate_fn is collate:
            first = good[0]
            for other in good[1:]:
                if other[0].shape != first[0].shape:
                    return _Failure(
                        f"Making a batch: {self.pictures.name(first[2])} has shape {list(first[0].shape)} and "
                        f"{self.pictures.name(other[2])} {list(other[0].shape)} after the transform; expected one "
                        "shape. Let the transform resize or crop, or give a collate_fn."
                    )
        return self.collate_fn(good)


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


@contextmanager
def _one_thread() -> Iterator[None]:
    """Transforms run on one thread here too: reductions in a transform depend on the number of threads."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)
