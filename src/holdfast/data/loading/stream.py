"""Batches as worker processes make them: one stream, from one epoch into the next.

torch's DataLoader starts the processes and keeps what they make in order. It comes to a stop at the end of every epoch:
nothing is asked for until the next one begins, and then its first batch is waited for while all else stands still.
Where the loader knows that another epoch follows, its first batches are asked for with the last ones of this.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch.utils.data import DataLoader

from holdfast.data.loading.batching import MakeBatch, Request, as_it_is
from holdfast.data.loading.epochs import Epochs
from holdfast.data.loading.handover import Handover, workers_start
from holdfast.data.loading.workers import begin_work, refuse_long_temporary_folder, signals_held
from holdfast.errors import DataError

Position = tuple[int, int]  # epoch, and batch in it
_OF_PARENTS: list[Any] = []  # torch's iterators over workers of another process: freed, they would end those


class Stream:
    """What workers make, in order, from a position on.

    Args:
        make: what a worker does with a request.
        epochs: what to ask for.
        handover: gives each request a place, unless None.
        last_epoch: the last epoch that will be asked for; None: nobody knows, and no epoch is begun before its turn.
        num_workers, start_method, prefetch_factor, timeout, pin: as for `Loader`.
    """

    def __init__(
        self,
        make: MakeBatch,
        epochs: Epochs,
        handover: Handover | None,
        *,
        num_workers: int,
        last_epoch: int | None = None,
        start_method: str | None = None,
        prefetch_factor: int = 2,
        timeout: float = 0,
        pin: bool = False,
    ) -> None:
        refuse_long_temporary_folder()
        self._requests, self._handover, self._process = _Requests(epochs, handover, last_epoch), handover, os.getpid()
        self._batches: Iterator[Any] | None = None
        self._next: Position | None = None  # what `_batches` will give next; None when it has to begin anew
        self._workers: DataLoader[Any] = DataLoader(
            cast(Any, make),
            batch_sampler=cast(Any, self._requests),
            num_workers=num_workers,
            collate_fn=as_it_is,
            pin_memory=pin,
            persistent_workers=True,  # where they are not to be kept the loader closes them, and rightly
            multiprocessing_context=start_method,
            prefetch_factor=prefetch_factor,
            timeout=timeout,
            worker_init_fn=begin_work,
            # Its base seed would otherwise be drawn from the generator that the model uses.
            generator=torch.Generator().manual_seed(0),
        )

    def rest_of_epoch(self, epoch: int, batch: int) -> Iterator[Any]:
        """Yields what workers make of the batches from this one to the end of the epoch.

        Raises:
            DataError: a worker died, or none answered in time.
        """
        for number in range(batch, len(self._requests)):
            yield self._take((epoch, number))

    def _take(self, position: Position) -> Any:
        """Returns what workers make of this batch; begins anew where another one, or none, would come next."""
        self._leave_workers_of_parent()
        try:
            if self._batches is None or self._next != position:
                self._begin(position)
            self._next = None  # and so it stays when the next line raises
            made = next(cast(Iterator[Any], self._batches))
        except BaseException as error:
            self.close()  # nobody knows what is under way in torch's queues; a worker that died would be waited for
            if isinstance(error, RuntimeError):
                _raise_in_words(error)
            raise
        epoch, number = position
        if number + 1 < len(self._requests):
            self._next = (epoch, number + 1)
        elif self._requests.go_beyond(epoch):
            self._next = (epoch + 1, 0)
        return made

    def _begin(self, position: Position) -> None:
        self._requests.start = position
        with signals_held(), workers_start():
            if self._handover is not None and self._iterator is None:
                self._handover.renew()
            self._batches = iter(self._workers)

    @property
    def _iterator(self) -> Any:
        return getattr(self._workers, "_iterator", None)

    def _leave_workers_of_parent(self) -> None:
        """In a process that was forked since, the workers are its parent's: they are neither asked nor ended there."""
        if self._process != os.getpid():
            _OF_PARENTS.append(self._iterator)
            cast(Any, self._workers)._iterator = None
            self._batches, self._next, self._process = None, None, os.getpid()

    def close(self) -> None:
        """Ends the worker processes; the next call starts new ones."""
        self._leave_workers_of_parent()
        self._batches = self._next = None
        iterator = self._iterator
        if iterator is not None:
            workers = list(iterator._workers)
            iterator._shutdown_workers()
            for worker in workers:
                if worker.is_alive():  # stuck in code that no signal reaches
                    worker.kill()
            cast(Any, self._workers)._iterator = None


def _raise_in_words(error: RuntimeError) -> None:
    """Raises DataError where torch says that a worker died or did not answer; returns from what a worker raised."""
    if "DataLoader timed out" in str(error):
        raise DataError(
            f"No batch came from the workers in time ({error}). Look for a slow disk, or raise timeout."
        ) from error
    if "DataLoader worker (pid" in str(error):
        raise DataError(
            f"A worker process that prepares pictures died ({str(error).splitlines()[0]}). It is often memory that "
            "ran out: take fewer --workers or a smaller --batch-size, and run the same command again."
        ) from error


class _Requests:
    """What torch's DataLoader asks for batches, each time from `start` on.

    Neither the stream nor the loader is kept alive from here: freed in a cycle, torch's queues lose the message that
    ends the workers.
    """

    def __init__(self, epochs: Epochs, handover: Handover | None, last_epoch: int | None) -> None:
        self._epochs, self._handover, self._last_epoch = epochs, handover, last_epoch
        self.start: Position = (0, 0)

    def __len__(self) -> int:
        return self._epochs.num_batches

    def __iter__(self) -> Iterator[Request]:
        if self._handover is not None:
            self._handover.forget()
        epoch, batch = self.start
        while True:
            order = self._epochs.order(epoch)
            for number in range(batch, self._epochs.num_batches):
                place = None if self._handover is None else self._handover.reserve()
                yield Request(epoch, self._epochs.batch(order, number), place)
            if not self.go_beyond(epoch):
                return
            epoch, batch = epoch + 1, 0

    def go_beyond(self, epoch: int) -> bool:
        """Whether the batches of the next epoch are asked for as soon as those of this one have been."""
        return self._last_epoch is not None and epoch < self._last_epoch
