from __future__ import annotations

import time
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
TRANSFORM = train_transform(Preprocessing(16, 18, (0.5,) * 3, (0.25,) * 3), "crop+flip")


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


def test_pictures_of_another_shape_or_type_are_sent_the_usual_way() -> None:
    """A place holds bytes of one shape; what does not fit is not left there."""
    handover = Handover(1, 2, 4, (3, 16, 16))
    assert handover.leave([torch.zeros(3, 16, 16)]) is None
    assert handover.leave([torch.zeros(3, 15, 16, dtype=torch.uint8)]) is None


def test_outside_a_worker_nothing_is_left() -> None:
    """Only a worker has places of its own."""
    assert Handover(1, 2, 4, (3, 2, 2)).leave([torch.zeros(3, 2, 2, dtype=torch.uint8)]) is None


def test_what_was_left_comes_with_its_targets_and_indices() -> None:
    """The batch has as many pictures as indices."""
    handover = Handover(1, 2, 4, (1, 2, 2))
    batch = handover.take(Left(2, np.array([7, 8]), np.array([3, 4])))
    assert batch.inputs.shape == (2, 1, 2, 2)
    assert batch.targets.tolist() == [7, 8] and batch.indices.tolist() == [3, 4]


def test_without_workers_or_a_known_shape_there_are_no_places() -> None:
    """A user's own transform decides the shape, so batches are sent."""
    assert handover_for(TRANSFORM, 0, 2, 4) is None
    assert handover_for(lambda image: image, 2, 2, 4) is None
    assert handover_for(TRANSFORM, 2, 2, 4) is not None


@pytest.mark.skipif(not SHARED.is_dir(), reason="only where shared memory has a folder")
def test_the_memory_has_no_name_that_a_kill_could_leave_behind() -> None:
    """Nothing appears in the folder of shared memory."""
    before = set(SHARED.iterdir())
    Handover(2, 2, 4, (3, 16, 16))
    made = {path for path in set(SHARED.iterdir()) - before if path.name.startswith("torch_")}
    assert not made
