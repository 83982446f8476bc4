from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from holdfast.data import Batch, Loader
from holdfast.data.arrays import ArrayPictures
from holdfast.data.loading.batching import MakeBatch, Request, Waiting
from holdfast.data.loading.delivery import Delivery, handover_for
from holdfast.data.loading.epochs import Epochs
from holdfast.data.loading.handover import Left
from holdfast.data.loading.reading import Failure, ReadSample
from holdfast.data.loading.stream import Stream
from holdfast.data.preprocessing.crops import Whole
from holdfast.data.preprocessing.normalise import Normalise
from holdfast.data.preprocessing.transforms import (
    AUGMENTATIONS,
    Preprocessing,
    StagedTransform,
    eval_transform,
    train_transform,
)
from holdfast.distributed import World
from holdfast.errors import DataError

pytestmark = pytest.mark.row("D6")
PREPROCESSING = Preprocessing(16, 18, (0.5, 0.4, 0.3), (0.25, 0.2, 0.3))
HERE = torch.device("cpu")


def pictures(dtype: type = np.uint8, channels: int = 3) -> ArrayPictures:
    """Eleven random pictures of 20 × 24."""
    pixels = np.random.default_rng(0).integers(0, 256, (11, channels, 20, 24), dtype=np.uint8)
    return ArrayPictures(pixels if dtype is np.uint8 else (pixels / 255).astype(dtype), np.arange(11) % 5)


def made(transform: Any, collection: ArrayPictures, *, on_device: bool) -> Any:
    """What the first five of them become, before it is delivered."""
    make = MakeBatch(ReadSample(collection, transform, 7), None, on_device=on_device, handover=None)
    return make.__getitems__(Request(2, np.arange(5)))


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_what_waits_for_the_device_becomes_the_same(augmentation: str) -> None:
    """Bytes that are augmented and normalised when they are delivered have the bits of floats made by the workers."""
    transform = train_transform(PREPROCESSING, augmentation)
    waiting = made(transform, pictures(), on_device=True)
    assert isinstance(waiting, Waiting) and waiting.batch.inputs.dtype == torch.uint8
    finished = made(transform, pictures(), on_device=False)
    assert isinstance(finished, Batch)
    delivered = Delivery(transform, HERE, None)(waiting)
    assert all(torch.equal(a, b) for a, b in zip(delivered, finished, strict=True))


def test_bytes_and_their_numbers_come_through_a_place() -> None:
    """What a worker leaves for a device is what it would have sent, numbers and all."""
    transform = train_transform(PREPROCESSING, "crop+flip+color")
    handover = handover_for(transform, None, 1, 2, 4, on_device=True)
    make = MakeBatch(ReadSample(pictures(), transform, 7), None, on_device=True, handover=handover)
    epochs = Epochs(np.arange(11), None, batch_size=4)
    stream = Stream(make, epochs, handover, num_workers=1)
    deliver = Delivery(transform, HERE, handover)
    try:
        found = []
        for left in stream.rest_of_epoch(0, 0):
            assert isinstance(left, Left) and left.numbers is not None
            found.append(deliver(left))
    finally:
        stream.close()
    expected = list(Loader(pictures(), batch_size=4, transform=transform, seed=7))
    assert len(found) == len(expected) == 3
    for a, b in zip(found, expected, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("on_device", [False, True])
def test_pictures_that_are_floats_already_are_finished_at_once(on_device: bool) -> None:
    """A collection of floats never waits: it is not bytes that would travel."""
    transform = train_transform(PREPROCESSING, "crop+flip+color")
    batch = made(transform, pictures(np.float32), on_device=on_device)
    assert isinstance(batch, Batch) and batch.inputs.dtype == torch.float32
    assert torch.equal(batch.inputs, made(transform, pictures(np.float32), on_device=False).inputs)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_collate_function_gets_finished_pictures(num_workers: int) -> None:
    """A user's function sees what the transform makes, normalised floats, and what it makes is left alone."""
    transform = eval_transform(PREPROCESSING)
    loader = Loader(pictures(), batch_size=4, transform=transform, num_workers=num_workers, collate_fn=_as_batch)
    try:
        first = next(iter(loader))
    finally:
        loader.close()
    expected = torch.stack([transform(pictures().read(index)) for index in range(4)])
    assert isinstance(first, Batch) and torch.equal(first.inputs, expected)


def _as_batch(items: list[tuple[Tensor, int, int]]) -> Batch:
    images, targets, indices = zip(*items, strict=True)
    return Batch(torch.stack(images), torch.tensor(targets), torch.tensor(indices))


def test_a_transform_of_the_users_own_may_draw_from_any_generator() -> None:
    """All three generators are seeded for it, so a picture gets the same whoever made it and whatever came before."""
    own = StagedTransform(Whole(), _noisy, Normalise((0.5,) * 3, (0.25,) * 3, floats=False), scaled=False, foreign=True)
    first = made(own, pictures(), on_device=False).inputs
    np.random.rand(3)
    torch.rand(3)
    assert torch.equal(made(own, pictures(), on_device=False).inputs, first)


def _noisy(image: Tensor) -> Tensor:
    return image.float() + float(np.random.rand()) + torch.rand(())


def test_a_sample_that_cannot_be_made_is_what_comes_back() -> None:
    """The first failure takes the place of the batch."""

    def broken(_: Tensor) -> Tensor:
        raise ValueError("no")

    failure = made(broken, pictures(), on_device=False)
    assert isinstance(failure, Failure) and "ValueError: no" in failure.message


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 1, 1)], ids=["in a place", "sent"])
def test_batches_can_be_learned_from(num_workers: int, shape: tuple[int, int, int]) -> None:
    """Autograd takes whatever a loader gives: nothing is an inference tensor, in a place or sent."""
    transform = replace(train_transform(PREPROCESSING, "crop+flip"), shape=shape)
    loader = Loader(pictures(), batch_size=4, transform=transform, num_workers=num_workers)
    try:
        batch = next(iter(loader))
    finally:
        loader.close()
    assert not any(value.is_inference() for value in batch)
    weight = torch.ones(3, 16, 16, requires_grad=True)
    (batch.inputs * weight).sum().backward()
    assert weight.grad is not None


def test_code_of_the_users_own_runs_under_autograd() -> None:
    """A collection and a transform of the user's own make ordinary tensors, which they may keep."""
    kept: list[Tensor] = []

    class Own(ArrayPictures):
        def read(self, index: int) -> Tensor:
            kept.append(super().read(index).float())
            return kept[-1].to(torch.uint8)

    own = Own(np.random.default_rng(0).integers(0, 256, (4, 3, 20, 24), dtype=np.uint8), np.arange(4))
    next(iter(Loader(own, batch_size=4, transform=train_transform(PREPROCESSING, "crop+flip"))))
    assert kept and not any(tensor.is_inference() for tensor in kept)


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize(
    "kinds", [(torch.float32, torch.float64), (torch.float64, torch.float32), (torch.uint8, torch.float32)]
)
def test_tensors_of_several_types_become_a_batch_that_holds_them_all(
    num_workers: int, kinds: tuple[torch.dtype, torch.dtype]
) -> None:
    """A transform that gives now this type and now that loses nothing, in a worker as without."""

    def transform(image: Tensor) -> Tensor:
        return (image.double() / 3).to(kinds[int(image[0, 0, 0]) % 2])

    loader = Loader(pictures(), batch_size=11, transform=transform, num_workers=num_workers)
    try:
        inputs = next(iter(loader)).inputs
    finally:
        loader.close()
    each = [transform(pictures().read(index)) for index in range(11)]
    assert len({image.dtype for image in each}) == 2
    assert torch.equal(inputs, torch.stack([image.to(torch.promote_types(*kinds)) for image in each]))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_what_cannot_be_put_together_is_an_error_that_names_the_pictures(num_workers: int) -> None:
    """Tensors that make no batch, and grey pictures where the mean has three channels, fail in a line that says so."""
    for transform, words in (
        (lambda image: image.float().to_sparse(), "Making a batch of #0, #1, #2 …: RuntimeError"),
        (eval_transform(PREPROCESSING), r"Finishing #0, which has shape \[1, 16, 16\]"),
    ):
        loader = Loader(pictures(channels=1), batch_size=4, transform=transform, num_workers=num_workers)
        try:
            with pytest.raises(DataError, match=words):
                next(iter(loader))
        finally:
            loader.close()


def test_a_transform_that_writes_into_its_picture_leaves_the_collection_alone() -> None:
    """Pictures in memory are the same in the next epoch, whatever a user's transform did to them."""
    own = StagedTransform(
        Whole(), _spoiling, Normalise((0.5,) * 3, (0.25,) * 3, floats=False), scaled=False, foreign=True
    )
    for transform in (own, _spoiling):
        loader = Loader(pictures(), batch_size=11, transform=transform)
        first, second = (next(iter(loader)).inputs for _ in range(2))
        assert torch.equal(first, second)


def _spoiling(image: Tensor) -> Tensor:
    return image.add_(3)


def test_writing_into_the_indices_of_a_batch_changes_no_order() -> None:
    """A batch's indices are its own; those that the loader and its caller keep are others."""
    members = np.arange(11)
    loader = Loader(pictures(), members, batch_size=4)
    next(iter(loader)).indices.add_(100)
    assert (members == np.arange(11)).all() and loader.batch_indices(0, 0).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(("num_workers", "method"), [(0, None), (1, "fork"), (1, "spawn")])
def test_a_rank_without_a_share_gets_a_batch_of_no_pictures(num_workers: int, method: str | None) -> None:
    """The last batch may be smaller than the world: its shape and types are those of any other."""
    loader = Loader(
        pictures(), np.arange(9), batch_size=4, transform=eval_transform(PREPROCESSING), num_workers=num_workers,
        world=World(0, 2), multiprocessing_context=method,
    )  # fmt: skip
    try:
        found = [(tuple(batch.inputs.shape), batch.targets.dtype, len(batch.indices)) for batch in loader]
    finally:
        loader.close()
    assert found == [((num, 3, 16, 16), torch.int64, num) for num in (2, 2, 0)]


def test_a_loader_without_workers_leaves_the_start_method_open() -> None:
    """A program may still choose how its own processes start."""
    code = """
import multiprocessing, numpy
from holdfast.data import ArrayPictures, Loader
Loader(ArrayPictures(numpy.zeros((2, 1, 4, 4), numpy.uint8), numpy.arange(2)), batch_size=2)
multiprocessing.set_start_method("spawn")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
