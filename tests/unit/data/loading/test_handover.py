from __future__ import annotations

import multiprocessing
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from holdfast.data import Loader
from holdfast.data.arrays import ArrayPictures
from holdfast.data.loading.delivery import handover_for
from holdfast.data.loading.handover import Handover, Left
from holdfast.data.preprocessing.transforms import Preprocessing, train_transform

SHARED = Path("/dev/shm")  # noqa: S108  # looked at, nothing is made there
OPEN_FILES = Path("/proc/self/fd")
TRANSFORM = train_transform(Preprocessing(16, 18, (0.5,) * 3, (0.25,) * 3), "crop+flip")

# Its finish takes one channel, and its shape says three.
GREY_IN_COLOURS = replace(train_transform(Preprocessing(16, 18, (0.5,), (0.25,)), "crop+flip"), shape=(3, 16, 16))


def pictures(num: int) -> ArrayPictures:
    """Random pictures of 20 × 24."""
    pixels = np.random.default_rng(0).integers(0, 256, (num, 3, 20, 24), dtype=np.uint8)
    return ArrayPictures(pixels, np.arange(num) % 5)


def batches(num_workers: int, **options: object) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Two epochs, every batch kept."""
    loader = Loader(pictures(67), batch_size=4, transform=TRANSFORM, shuffle=True, num_workers=num_workers, **options)  # type: ignore[arg-type]
    try:
        return [tuple(batch) for _ in range(2) for batch in loader]
    finally:
        loader.close()


@pytest.mark.parametrize("num_workers", [1, 2])
def test_no_batch_is_overwritten_while_it_is_kept(num_workers: int) -> None:
    """All batches of two epochs, kept to the end, are those that are made without workers, the short last ones too."""
    for expected, found in zip(batches(0), batches(num_workers), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_a_slow_consumer_and_a_deep_queue_change_nothing() -> None:
    """Workers that are far ahead wait; they never fill the place of a batch that is still to be delivered."""
    loader = Loader(pictures(67), batch_size=4, transform=TRANSFORM, shuffle=True, num_workers=2, prefetch_factor=5)
    try:
        found = []
        for batch in loader:
            time.sleep(0.01)
            found.append(batch)
    finally:
        loader.close()
    for expected, batch in zip(batches(0)[: len(found)], found, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(expected, batch, strict=True))


def test_an_epoch_that_is_given_up_leaves_nothing_in_the_next() -> None:
    """After a break in mid-epoch, and a seek, batches are those of the place that was sought."""
    loader = Loader(pictures(67), batch_size=4, transform=TRANSFORM, shuffle=True, num_workers=2)
    expected = batches(0)
    try:
        for _ in range(3):
            loader.seek(0)
            for number, batch in enumerate(loader):
                assert torch.equal(batch.inputs, expected[number][0])
                if number == 4:
                    break
    finally:
        loader.close()


def test_a_place_in_use_is_given_to_nobody() -> None:
    """A place is free when no batch is under way to it and nobody holds a tensor that lies in it, or a view of one."""
    handover = Handover(1, 2, 4, (1, 2, 2), torch.float32)
    places = [handover.reserve() for _ in range(5)]
    assert sorted(place for place in places if place is not None) == [0, 1, 2, 3, 4]
    assert handover.reserve() is None
    batch = handover.take(Left(2, np.array([7, 8]), np.array([3, 4]), None))
    assert batch.shape == (2, 1, 2, 2) and batch.dtype == torch.float32
    view = batch[0, 0, :1]
    del batch
    assert handover.reserve() is None
    del view
    assert handover.reserve() == 2


def test_what_is_given_up_is_free_again() -> None:
    """Batches that nobody waits for any more hold no place."""
    handover = Handover(2, 2, 4, (1, 2, 2), torch.uint8)
    taken = [handover.reserve() for _ in range(7)]
    assert handover.reserve() is None
    handover.forget()
    assert [handover.reserve() for _ in range(7)] == taken


def test_each_worker_gets_its_places_again() -> None:
    """Workers are asked in turn; what one has written into comes to it again, and not to the other."""
    handover = Handover(2, 2, 4, (1, 2, 2), torch.uint8)
    seen: dict[int, set[int | None]] = {0: set(), 1: set()}
    for turn in range(12):
        place = handover.reserve()
        assert place is not None
        seen[turn % 2].add(place)
        handover.take(Left(place, np.array([0]), np.array([0]), None))
    assert not seen[0] & seen[1]


@pytest.mark.parametrize("device", [None, torch.device("cpu")])
def test_batches_lie_where_the_worker_wrote_them(device: torch.device | None) -> None:
    """On a CPU nothing is copied after that: batches of later epochs lie in the few places that there are."""
    loader = Loader(pictures(64), batch_size=4, transform=TRANSFORM, shuffle=True, num_workers=1, device=device)
    try:
        addresses = {batch.inputs.data_ptr() for _ in range(3) for batch in loader}
    finally:
        loader.close()
    assert len(addresses) <= 4  # two under way, the one in use, and one that is asked for meanwhile


@pytest.mark.skipif(not OPEN_FILES.is_dir(), reason="counts open files where the system lists them")
def test_who_keeps_all_batches_keeps_no_files_open() -> None:
    """Batches that are kept lie in memory of this process: a thousand of them do not run out of files."""
    loader = Loader(pictures(200), batch_size=4, transform=TRANSFORM, num_workers=2)
    try:
        kept = [next(batches := iter(loader))]
        before = len(list(OPEN_FILES.iterdir()))
        kept += list(batches)
        assert len(kept) == 50 and len(list(OPEN_FILES.iterdir())) <= before
    finally:
        loader.close()
    expected = list(Loader(pictures(200), batch_size=4, transform=TRANSFORM))
    assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(kept, expected, strict=True))


def test_pictures_of_another_shape_are_sent_the_usual_way() -> None:
    """Grey pictures in a place for colours do not fit; they come all the same."""
    grey = ArrayPictures(np.random.default_rng(0).integers(0, 256, (8, 1, 20, 24), dtype=np.uint8), np.arange(8))
    found = []
    for num_workers in (0, 1):
        loader = Loader(grey, batch_size=4, transform=GREY_IN_COLOURS, num_workers=num_workers)
        try:
            found.append([batch.inputs for batch in loader])
        finally:
            loader.close()
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert found[0][0].shape == (4, 1, 16, 16)


def test_without_workers_or_a_known_shape_there_are_no_places() -> None:
    """A user's own transform decides the shape, and a collate_fn what a batch is, so batches are sent."""
    assert handover_for(TRANSFORM, None, 0, 2, 4, on_device=False) is None
    assert handover_for(lambda image: image, None, 2, 2, 4, on_device=False) is None
    assert handover_for(TRANSFORM, list, 2, 2, 4, on_device=False) is None
    assert handover_for(TRANSFORM, None, 2, 2, 4, on_device=False) is not None


def test_bytes_go_to_an_accelerator_and_floats_stay() -> None:
    """Places hold what travels."""
    for on_device, dtype in ((True, torch.uint8), (False, torch.float32)):
        handover = handover_for(TRANSFORM, None, 1, 1, 4, on_device=on_device)
        assert handover is not None and handover.room(0).dtype == dtype


@pytest.mark.skipif(not SHARED.is_dir(), reason="only where shared memory has a folder")
def test_the_memory_has_no_name_that_a_kill_could_leave_behind() -> None:
    """Nothing appears in the folder of shared memory."""
    before = set(SHARED.iterdir())
    Handover(2, 2, 4, (3, 16, 16), torch.uint8)
    made = {path for path in set(SHARED.iterdir()) - before if path.name.startswith("torch_")}
    assert not made


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_forked_process_keeps_the_batch_that_was_held_when_it_was_forked(num_workers: int) -> None:
    """What a child process was given stays what it was, though its parent has let go of it and goes on."""
    loader = Loader(pictures(67), batch_size=4, transform=TRANSFORM, shuffle=True, num_workers=num_workers)
    context = multiprocessing.get_context("fork")
    done, found = context.Event(), context.Queue()

    def child() -> None:
        done.wait(60)
        found.put(batch.inputs.numpy().tobytes())

    try:
        batches = iter(loader)
        batch = next(batches)
        expected = batch.inputs.numpy().tobytes()
        process = context.Process(target=child)
        process.start()
        batch = None
        for _ in batches:
            pass
        done.set()
        assert found.get(timeout=60) == expected
        process.join(60)
    finally:
        loader.close()


def test_the_places_that_a_child_may_look_at_are_given_to_nobody_until_there_are_new_ones() -> None:
    """A fork takes away those that are held, no others; workers that start later get as many as ever."""
    handover = Handover(1, 2, 4, (1, 2, 2), torch.float32)
    held = handover.room(2)
    process = multiprocessing.get_context("fork").Process(target=int)
    process.start()
    process.join()
    del held
    assert sorted(place for _ in range(4) if (place := handover.reserve()) is not None) == [0, 1, 3, 4]
    handover.renew()
    assert sorted(place for _ in range(4) if (place := handover.reserve()) is not None) == [0, 1, 2, 3]


def test_workers_of_another_loader_take_no_place_away() -> None:
    """Workers look at no batch that there is, so that a place which is held while they start is given again."""
    handover = Handover(1, 2, 4, (1, 2, 2), torch.float32)
    held = handover.room(2)
    batches(1)
    del held
    assert sorted(place for _ in range(4) if (place := handover.reserve()) is not None) == [0, 1, 2, 3]


def test_new_places_leave_what_lies_in_the_old_ones() -> None:
    """What somebody holds of an old place is not what workers write from then on."""
    handover = Handover(1, 2, 4, (1, 2, 2), torch.float32)
    old = handover.room(0).fill_(1)
    handover.renew()
    handover.room(0).fill_(2)
    assert (old == 1).all()
