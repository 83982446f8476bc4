from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms import v2

from holdfast.data.preprocessing.augment import BatchStep, ColorJitter, RandomFlip
from holdfast.data.preprocessing.transforms import AUGMENTATIONS, Preprocessing, train_transform
from holdfast.randomness import seed_generators

# Ours, and the transform of torchvision's whose numbers and pixels it has.
STEPS = [(RandomFlip(), v2.RandomHorizontalFlip()), (ColorJitter(0.3), v2.ColorJitter(0.3, 0.3, 0.3))]
NAMES = [type(ours).__name__ for ours, _ in STEPS]


def pictures(num: int, channels: int = 3, side: int = 24) -> Tensor:
    """Random pictures, some of them of little contrast."""
    pixels = np.random.default_rng(num).integers(0, 256, (num, channels, side, side), dtype=np.uint8)
    pixels[::3] = pixels[::3] // 5 + 90
    return torch.from_numpy(pixels)


@pytest.mark.parametrize(("ours", "theirs"), STEPS, ids=NAMES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("channels_last", [False, True])
def test_one_picture_gets_what_torchvision_makes_of_it(
    ours: BatchStep, theirs: v2.Transform, channels: int, channels_last: bool
) -> None:
    """Both give the same pixels and leave the generator in the same state, whatever the layout in memory."""
    changed = 0
    layout = torch.channels_last if channels_last else torch.contiguous_format
    for seed, picture in enumerate(pictures(40, channels).contiguous(memory_format=layout)):
        seed_generators(seed)
        expected, state = theirs(picture), torch.get_rng_state()
        seed_generators(seed)
        found = ours(picture)
        assert torch.equal(found, expected)
        assert torch.equal(torch.get_rng_state(), state)
        changed += not torch.equal(found, picture)
    assert changed > 10


@pytest.mark.parametrize(("ours", "theirs"), STEPS, ids=NAMES)
@pytest.mark.parametrize(("side", "most"), [(224, 0), (256, 0), (320, 1)])
def test_so_do_pictures_of_every_days_size(ours: BatchStep, theirs: v2.Transform, side: int, most: int) -> None:
    """Up to 256 pixels to the bit; torchvision's mean of more is not exact, and a level is all that makes."""
    for seed, picture in enumerate(pictures(6, side=side)):
        seed_generators(seed)
        expected = theirs(picture)
        seed_generators(seed)
        assert (ours(picture).int() - expected.int()).abs().max() <= most


@pytest.mark.parametrize(("ours", "theirs"), STEPS, ids=NAMES)
def test_pictures_of_floats_are_those_of_torchvision_too(ours: BatchStep, theirs: v2.Transform) -> None:
    """A collection of floats counts as [0, 1], and nothing is rounded to levels."""
    for seed, picture in enumerate(pictures(12) / 255):
        seed_generators(seed)
        expected = theirs(picture)
        seed_generators(seed)
        assert torch.allclose(ours(picture), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("step", [ours for ours, _ in STEPS], ids=NAMES)
@settings(deadline=None, max_examples=40)
@given(st.integers(1, 9), st.sampled_from([1, 3]), st.integers(0, 1000))
def test_in_a_batch_a_picture_gets_what_it_gets_alone(step: BatchStep, num: int, channels: int, seed: int) -> None:
    """Whatever is beside it, and with the batch left as it was."""
    batch = pictures(num, channels)
    before = batch.clone()
    seed_generators(seed)
    numbers = [step.draw() for _ in range(num)]
    assert all(len(row) == step.num_numbers for row in numbers)
    together = step.apply(batch, numbers)
    for place, row in enumerate(numbers):
        assert torch.equal(together[place], step.apply(before[place : place + 1], [row])[0])
    assert torch.equal(batch, before)


@pytest.mark.parametrize("step", [ours for ours, _ in STEPS], ids=NAMES)
def test_numbers_may_go_through_float64(step: BatchStep) -> None:
    """They travel between processes in an array of float64, and come back as they were."""
    seed_generators(3)
    numbers = [step.draw() for _ in range(6)]
    batch = pictures(6)
    assert torch.equal(step.apply(batch, np.array(numbers, np.float64).tolist()), step.apply(batch, numbers))


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_what_waits_for_the_batch_gives_the_pixels_of_the_whole_transform(augmentation: str) -> None:
    """Cut one by one and augmented together, pictures are what the transform makes of each by itself."""
    from holdfast.data.preprocessing.encoded import decoded

    transform = train_transform(Preprocessing(24, 28, (0.5,) * 3, (0.25,) * 3), augmentation)
    sources = pictures(7, side=40)
    alone, squares, numbers = [], [], []
    for seed, source in enumerate(sources):
        seed_generators(seed)
        alone.append(transform(source))
        seed_generators(seed)
        square, row = transform.cut(decoded(source))
        squares.append(square)
        numbers.append(row)
    together = transform.finish(transform.augmented(torch.stack(squares), numbers))
    assert torch.equal(together, torch.stack(alone))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("step", [ours for ours, _ in STEPS], ids=NAMES)
def test_on_an_accelerator_a_byte_differs_by_one_at_most(step: BatchStep) -> None:
    """Its sums are rounded in its own way: fewer than one byte in a thousand moves, and by a few levels at most."""
    batch = pictures(32, side=64)
    seed_generators(0)
    numbers = [step.draw() for _ in batch]
    here, there = step.apply(batch, numbers), step.apply(batch.to("cuda"), numbers).cpu()
    difference = (here.int() - there.int()).abs()
    assert difference.max() <= 3 and (difference > 0).float().mean() < 1e-3
