from __future__ import annotations

import multiprocessing
import os
import signal
import time
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from holdfast.data import ArrayPictures, Loader, Weighted
from holdfast.data.loading.delivery import Delivery
from holdfast.data.preprocessing.transforms import Preprocessing, train_transform
from holdfast.data.sample import Indices
from holdfast.errors import DataError

pytestmark = pytest.mark.row("D6")
NUM, BATCH = 23, 4
TRANSFORM = train_transform(Preprocessing(8, 8, (0.5,), (0.25,)), "crop+flip")
Seen = tuple[list[int], bytes]


class Counted:
    """Pictures that count, over all processes, how often one was read."""

    def __init__(self) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (NUM, 1, 9, 11), dtype=np.uint8)
        self.plain = ArrayPictures(pixels, np.arange(NUM) % 3)
        self.reads: Any = multiprocessing.Value("i", 0)
        self.classes, self.labels = self.plain.classes, self.plain.labels

    def __len__(self) -> int:
        return NUM

    def name(self, index: int) -> str:
        """As the collection names it."""
        return self.plain.name(index)

    def read(self, index: int) -> Tensor:
        """Reads and counts."""
        with self.reads.get_lock():
            self.reads.value += 1
        return self.plain.read(index)

    def fingerprint(self) -> str:
        """The collection's."""
        return self.plain.fingerprint()


def loader_of(pictures: Any, num_workers: int, **options: Any) -> Loader:
    """A loader that shuffles."""
    settings = {"batch_size": BATCH, "transform": TRANSFORM, "shuffle": True, "seed": 5, **options}
    return Loader(pictures, num_workers=num_workers, **settings)


def plain(batch: Any) -> Seen:
    """A batch as values that compare."""
    return batch.indices.tolist(), batch.inputs.numpy().tobytes()


def seen(loader: Loader, num: int) -> list[list[Seen]]:
    """What so many epochs deliver."""
    try:
        return [[plain(batch) for batch in loader] for _ in range(num)]
    finally:
        loader.close()


@pytest.mark.parametrize("num_workers", [1, 2])
@pytest.mark.parametrize(
    "options", [{}, {"sampling": "balanced"}, {"sampling": Weighted(np.arange(NUM))}, {"drop_last": True}]
)
def test_one_epoch_into_the_next_is_what_no_worker_makes(num_workers: int, options: dict[str, Any]) -> None:
    """Workers that go on into the next epoch deliver the bits of a loader without workers, in every epoch."""
    expected = seen(loader_of(Counted(), 0, **options), 4)
    assert seen(loader_of(Counted(), num_workers, epochs=4, **options), 4) == expected


@pytest.mark.parametrize("stop", range(0, 13, 3))
def test_a_break_and_a_seek_leave_nothing_behind(stop: int) -> None:
    """After a break anywhere the loader goes on there; after a seek it begins there, whatever was under way."""
    expected = [batch for epoch in seen(loader_of(Counted(), 0), 4) for batch in epoch]
    loader = loader_of(Counted(), 2, epochs=4)
    try:
        found: list[Seen] = []
        while len(found) < stop:
            for batch in loader:
                found.append(plain(batch))
                if len(found) == stop:
                    break
        found += [plain(batch) for batch in loader]
        assert found == expected[: len(found)]
        for step in (3, 17, 6):
            loader.seek(step)
            assert plain(next(iter(loader))) == expected[step]
    finally:
        loader.close()


def test_the_next_epoch_is_begun_before_its_turn() -> None:
    """When the last batch of an epoch has been delivered, the first of the next are being made already."""
    pictures = Counted()
    loader = loader_of(pictures, 1, epochs=2)
    try:
        for _ in loader:
            pass
        deadline = time.monotonic() + 60
        while pictures.reads.value < NUM + BATCH and time.monotonic() < deadline:
            time.sleep(0.01)
        assert pictures.reads.value >= NUM + BATCH
    finally:
        loader.close()


@pytest.mark.parametrize(
    "options",
    [{"epochs": 2}, {}, {"epochs": 9, "sampler": list(range(NUM))}, {"epochs": 9, "persistent_workers": False}],
)
def test_nothing_is_read_that_nobody_will_ask_for(options: dict[str, Any]) -> None:
    """After the last epoch that was told, and where nobody told or a sampler decides, workers stop at its end."""
    pictures = Counted()
    shuffle = "sampler" not in options
    loader = loader_of(pictures, 2, **{"shuffle": shuffle, **options})
    for _ in range(2):
        for _ in loader:
            pass
    loader.close()
    assert pictures.reads.value == 2 * NUM


def test_a_sampler_is_asked_when_its_epoch_begins() -> None:
    """A sampler may change between epochs: it is not asked ahead."""

    class Sampler:
        asked = 0

        def __len__(self) -> int:
            return NUM

        def __iter__(self) -> Any:
            Sampler.asked += 1
            return iter(range(NUM))

    loader = Loader(Counted(), batch_size=BATCH, transform=TRANSFORM, num_workers=1, sampler=Sampler(), epochs=5)  # type: ignore[arg-type]
    try:
        for _ in loader:
            pass
        assert Sampler.asked == 1
    finally:
        loader.close()


def test_an_epoch_that_failed_is_begun_anew() -> None:
    """After a failure in the first batches of an epoch that were made ahead, the loader goes on from there."""
    pictures = Breaking()
    loader = loader_of(pictures, 1, epochs=3)
    try:
        first = [plain(batch) for batch in loader]
        assert len(first) == loader.steps_per_epoch
        pictures.broken.value = 1
        loader.close()
        with pytest.raises(Exception, match="not today"):
            next(iter(loader))
        pictures.broken.value = 0
        assert [plain(batch) for batch in loader] == seen(loader_of(Counted(), 0), 2)[1]
    finally:
        loader.close()


class Breaking(Counted):
    """Pictures that cannot be read while something is wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.broken: Any = multiprocessing.Value("i", 0)

    def read(self, index: int) -> Tensor:
        """Reads, if it can."""
        if self.broken.value:
            raise OSError("not today")
        return super().read(index)


def test_the_indices_of_a_batch_do_not_depend_on_how_far_workers_are() -> None:
    """What is asked for ahead changes no order."""
    loader = loader_of(Counted(), 2, epochs=3)
    known: list[Indices] = [loader.batch_indices(1, number) for number in range(loader.steps_per_epoch)]
    epochs = seen(loader, 2)
    assert [indices for indices, _ in epochs[1]] == [row.tolist() for row in known]


@pytest.mark.parametrize("epochs", [None, 4])
def test_iterators_side_by_side_each_keep_their_place(epochs: int | None) -> None:
    """Two iterators over one loader, or one inside the other, give what they give without workers."""
    found = []
    for num_workers in (0, 2):
        loader = loader_of(Counted(), num_workers, epochs=epochs)
        try:
            pairs = [(plain(a), plain(b)) for a, b in zip(loader, loader, strict=False)]
            after = [plain(batch) for batch in loader]
            loader.seek(0)
            nested = [[plain(a), *(plain(b) for b in loader)] for _, a in zip(range(2), loader, strict=False)]
            found.append((pairs, after, nested, loader.epoch, loader.batches_delivered))
        finally:
            loader.close()
    assert found[0] == found[1]


def test_an_epoch_whose_workers_are_ended_goes_on_with_new_ones() -> None:
    """Closed in mid-epoch, a loader starts workers again for what is left of it."""
    loader = loader_of(Counted(), 2, epochs=2)
    found = []
    try:
        for batch in loader:
            found.append(plain(batch))
            if len(found) == 2:
                loader.close()
    finally:
        loader.close()
    assert found == seen(loader_of(Counted(), 0), 1)[0]


def test_after_a_worker_was_killed_the_loader_goes_on_where_it_was() -> None:
    """The death of a worker is an error once; iterated again, the loader starts new ones and leaves no batch out."""
    loader = loader_of(Counted().plain, 2, epochs=2)  # a count's lock would die with the worker that holds it
    found: list[Seen] = []
    errors = 0
    try:
        for _ in range(4):
            try:
                for batch in loader:
                    found.append(plain(batch))
                    if len(found) == 1:
                        stream: Any = loader._stream
                        victim = stream._workers._iterator._workers[1]  # the last batch of the epoch will be its
                        os.kill(victim.pid, signal.SIGKILL)
                        victim.join(60)  # torch may say here already that it died
            except (DataError, RuntimeError):
                errors += 1
            else:
                break
    finally:
        loader.close()
    assert errors and found == seen(loader_of(Counted(), 0), 1)[0]


@pytest.mark.parametrize("begun", [False, True])
def test_a_loader_works_in_a_forked_process_and_in_its_parent_at_once(begun: bool) -> None:
    """Processes share no place with one another, and neither asks nor ends the other's workers."""
    expected = seen(loader_of(Counted(), 0), 2)
    loader = loader_of(Counted(), 2)
    here = iter(loader)
    first = [plain(next(here)) for _ in range(2 if begun else 0)]
    context = multiprocessing.get_context("fork")
    found, halfway, answer = context.Queue(), context.Event(), context.Event()

    def child() -> None:
        loader.seek(loader.steps_per_epoch)
        there = iter(loader)
        batches = [next(there) for _ in range(2)]
        halfway.set()
        answer.wait(60)
        found.put([plain(batch) for batch in [*batches, *there]])
        loader.close()

    process = context.Process(target=child)
    process.start()
    try:
        assert halfway.wait(60)
        rest = [plain(batch) for batch in here]
        answer.set()
        assert found.get(timeout=60) == expected[1]
        assert [*first, *rest] == expected[0]
        process.join(60)
        assert [plain(batch) for batch in loader] == expected[1]
    finally:
        process.kill()
        loader.close()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_batch_that_could_not_be_delivered_comes_again(num_workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cursor counts what the caller got: where the device had no room, the same batch is next."""
    loader = loader_of(Counted(), num_workers, epochs=2)
    found = []
    try:
        batches = iter(loader)
        found.append(plain(next(batches)))
        with monkeypatch.context() as patch:
            patch.setattr(Delivery, "__call__", _no_room)
            with pytest.raises(MemoryError):
                next(batches)
        found += [plain(batch) for batch in loader]
    finally:
        loader.close()
    assert found == seen(loader_of(Counted(), 0), 1)[0]


def _no_room(_delivery: Delivery, _made: Any) -> Any:
    raise MemoryError
