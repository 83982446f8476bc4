from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms import v2

from holdfast.data.preprocessing.crops import CentreCrop, Crop, RandomResizedCrop, Whole, WholeSquare
from holdfast.randomness import seed_generators

BILINEAR = v2.InterpolationMode.BILINEAR
SIDES = st.integers(1, 120)


def picture(height: int, width: int, channels: int = 3) -> Tensor:
    """Random pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (channels, height, width), dtype=np.uint8)
    return torch.from_numpy(pixels)


@settings(deadline=None, max_examples=150)
@given(SIDES, SIDES, st.integers(0, 1000), st.sampled_from([0.08, 0.25, 1.0]), st.booleans(), st.sampled_from([1, 3]))
def test_at_full_size_a_random_resized_crop_is_torchvisions(
    height: int, width: int, seed: int, least: float, channels_last: bool, channels: int
) -> None:
    """The same generator gives the same rectangle and the same pixels, to the bit, and is left in the same state:
    of pictures that no rectangle fits into, of grey ones, and as decoders and caches lay them out."""
    source = picture(height, width, channels)
    if channels_last:
        source = source.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    seed_generators(seed)
    expected, state = v2.RandomResizedCrop(24, (least, 1.0), antialias=True)(source), torch.get_rng_state()
    seed_generators(seed)
    found = RandomResizedCrop(24, (least, 1.0), BILINEAR).plan(height, width).crop(source)
    assert torch.equal(found, expected)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("mode", [BILINEAR, v2.InterpolationMode.BICUBIC])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_large_crops_of_every_kind_are_torchvisions_too(mode: v2.InterpolationMode, dtype: torch.dtype) -> None:
    """Reduced by several times, with either interpolation, bytes and floats: the same bits."""
    source = picture(375, 500).permute(1, 2, 0).contiguous().permute(2, 0, 1).to(dtype)
    for seed in range(20):
        seed_generators(seed)
        expected = v2.RandomResizedCrop(64, (0.08, 1.0), interpolation=mode, antialias=True)(source)
        seed_generators(seed)
        assert torch.equal(RandomResizedCrop(64, (0.08, 1.0), mode).plan(375, 500).crop(source), expected)


@settings(deadline=None, max_examples=40)
@given(SIDES, SIDES)
def test_at_full_size_the_others_are_torchvisions_too(height: int, width: int) -> None:
    """The centre crop is Resize and CenterCrop, the square is Resize to both sides."""
    source = picture(height, width)
    centre = v2.Compose([v2.Resize(28, antialias=True), v2.CenterCrop(24)])
    assert torch.equal(CentreCrop(24, 28, BILINEAR).plan(height, width).crop(source), centre(source))
    square = v2.Resize((24, 24), antialias=True)
    assert torch.equal(WholeSquare(24, BILINEAR).plan(height, width).crop(source), square(source))


@settings(deadline=None, max_examples=80)
@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(0, 1000), st.sampled_from(["random", "centre", "whole"]))
def test_a_reduced_picture_still_has_every_pixel_that_is_shown(height: int, width: int, seed: int, kind: str) -> None:
    """Reduced by as much as the plan allows, what is cut out has at least the sides of the output: nothing is enlarged
    that was not enlarged before."""
    crop: Crop = {
        "random": RandomResizedCrop(24, (0.25, 1.0), BILINEAR),
        "centre": CentreCrop(24, 28, BILINEAR),
        "whole": WholeSquare(24, BILINEAR),
    }[kind]
    seed_generators(seed)
    plan = crop.plan(height, width)
    assert plan.most_reduced >= 1
    if plan.most_reduced > 1:
        least = 28 if kind == "centre" else 24
        assert min(height, width) / plan.most_reduced >= least - 1e-9
    small = picture(-(-height // int(plan.most_reduced)), -(-width // int(plan.most_reduced)), 1)
    assert plan.crop(small).shape == (1, 24, 24)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_of_a_reduced_picture_the_same_part_is_cut_out(factor: int) -> None:
    """A smooth picture at a fraction of its size gives the same crop to within a few levels of 255."""
    down, across = torch.meshgrid(torch.linspace(0, 255, 480), torch.linspace(0, 255, 640), indexing="ij")
    whole = torch.stack([down, across, (down + across) / 2]).to(torch.uint8)
    reduced = v2.Resize((480 // factor, 640 // factor), antialias=True)(whole)
    for seed in range(20):
        seed_generators(seed)
        plan = RandomResizedCrop(24, (0.25, 1.0), BILINEAR).plan(480, 640)
        difference = (plan.crop(whole).int() - plan.crop(reduced).int()).abs()
        assert difference.max() <= 1 + factor


def test_a_transform_of_the_users_own_gets_every_pixel() -> None:
    """Its plan allows no reduction and changes nothing."""
    plan = Whole().plan(1000, 2000)
    source = picture(10, 20)
    assert plan.most_reduced == 1
    assert plan.crop(source) is source


@pytest.mark.parametrize(("size", "decoded"), [((800, 800), (1, 1)), ((800, 600), (2, 3)), ((90, 90), (10, 10))])
@pytest.mark.parametrize("channels_last", [False, True])
def test_no_pixel_beyond_the_picture_is_shown(
    size: tuple[int, int], decoded: tuple[int, int], channels_last: bool
) -> None:
    """However much smaller it was decoded: a rectangle never becomes empty, and never reaches into what lies beside
    the picture in memory."""
    around = torch.full((1, 3, decoded[0] + 4, decoded[1] + 4), 255, dtype=torch.uint8)
    around[..., 2:-2, 2:-2] = 7
    layout = torch.channels_last if channels_last else torch.contiguous_format
    source = around.contiguous(memory_format=layout)[0, :, 2:-2, 2:-2]
    for seed in range(100):
        seed_generators(seed)
        found = RandomResizedCrop(4, (0.01, 1.0), BILINEAR).plan(*size).crop(source)
        assert found.shape == (3, 4, 4) and (found == 7).all()
