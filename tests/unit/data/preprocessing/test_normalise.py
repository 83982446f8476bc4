from __future__ import annotations

import torch
from torchvision.transforms import v2

from holdfast.data.preprocessing.normalise import Normalise

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PIXELS = torch.randint(0, 256, (5, 3, 17, 19), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_bytes_become_what_torchvision_makes_of_them() -> None:
    """The bits are those of ToDtype and Normalize."""
    expected = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(MEAN), list(STD))])(PIXELS)
    assert torch.equal(Normalise(MEAN, STD)(PIXELS), expected)


def test_a_picture_does_not_depend_on_its_batch() -> None:
    """Alone, in a batch or in another place of it, a picture becomes the same floats; nothing is changed in place."""
    before = PIXELS.clone()
    batch = Normalise(MEAN, STD)(PIXELS)
    for k, alone in enumerate(PIXELS):
        assert torch.equal(Normalise(MEAN, STD)(alone), batch[k])
    assert torch.equal(Normalise(MEAN, STD)(PIXELS.flip(0)), batch.flip(0))
    assert torch.equal(PIXELS, before)


def test_floats_are_normalised_unscaled_or_passed_on() -> None:
    """Pictures that are floats are taken as they are; those of a user's own transform are finished already."""
    floats = torch.rand(2, 3, 4, 4)
    expected = v2.Normalize(list(MEAN), list(STD))(floats)
    assert torch.equal(Normalise(MEAN, STD)(floats), expected)
    assert Normalise(MEAN, STD, floats=False)(floats) is floats


def test_it_fills_the_memory_it_is_given() -> None:
    """What is given is what is returned."""
    given = torch.full((5, 3, 17, 19), torch.nan)
    made = Normalise(MEAN, STD)(PIXELS, given)
    assert made.data_ptr() == given.data_ptr()
    assert torch.equal(given, Normalise(MEAN, STD)(PIXELS))


def test_floats_are_of_32_bits_whatever_torch_makes_by_default() -> None:
    """A program that computes in doubles gets the same batches."""
    picture, normalise = torch.arange(12, dtype=torch.uint8).view(1, 3, 4), Normalise((0.5,), (0.25,))
    expected = normalise(picture)
    torch.set_default_dtype(torch.float64)
    try:
        found = normalise(picture)
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.dtype == torch.float32 and torch.equal(found, expected)
