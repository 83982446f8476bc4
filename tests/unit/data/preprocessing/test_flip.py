from __future__ import annotations

import torch
from torchvision.transforms import v2

from holdfast.data.preprocessing.flip import RandomFlip
from holdfast.randomness import seed_generators


def test_the_same_pictures_are_mirrored_as_by_torchvision() -> None:
    """Both give the same pixels and leave the generator in the same state, on both sides of the coin."""
    picture = torch.arange(24, dtype=torch.uint8).view(2, 3, 4)
    mirrored = 0
    for seed in range(40):
        seed_generators(seed)
        expected, state = v2.RandomHorizontalFlip()(picture), torch.get_rng_state()
        seed_generators(seed)
        found = RandomFlip()(picture)
        assert torch.equal(found, expected)
        assert torch.equal(torch.get_rng_state(), state)
        mirrored += not torch.equal(found, picture)
    assert 0 < mirrored < 40
