"""What a picture looks like, in 200 bytes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from holdfast.data.decoding.decode import decode_image
from holdfast.data.division.duplicates import NEAR_CORRELATION, NEAR_DISTANCE, near_duplicates
from holdfast.data.division.likeness import Likeness, likeness_of, likenesses_of, sampled


def _resaved(image: Image.Image, size: tuple[int, int], quality: int) -> np.ndarray:
    data = io.BytesIO()
    image.resize(size, Image.Resampling.BILINEAR).save(data, "JPEG", quality=quality)
    return decode_image(data.getvalue()).numpy()


def _correlation(a: Likeness, b: Likeness) -> float:
    return float(np.corrcoef(a.thumbnail.reshape(-1), b.thumbnail.reshape(-1))[0, 1])


@pytest.mark.parametrize("change", ["quality", "half", "square", "brighter"])
def test_a_photograph_resaved_looks_the_same(real_data: Path, change: str) -> None:
    """At quality 30, half the size, made square or 10 % brighter, real photographs stay within both thresholds."""
    for path in sorted((real_data / "hymenoptera_data/val/bees").glob("*.jpg"))[::8]:
        image = Image.open(path).convert("RGB")
        size = {"half": (image.width // 2, image.height // 2), "square": (224, 224)}.get(change, image.size)
        if change == "brighter":
            image = image.point(lambda value: min(255, int(value * 1.1)))
        again = likeness_of(_resaved(image, size, 30 if change == "quality" else 90))
        before = likeness_of(decode_image(path).numpy())
        assert (before.bits ^ again.bits).bit_count() <= NEAR_DISTANCE, path
        assert _correlation(before, again) >= NEAR_CORRELATION, path


def test_different_photographs_look_different(real_data: Path) -> None:
    """No two of the bees are near duplicates."""
    files = sorted((real_data / "hymenoptera_data/val/bees").glob("*.jpg"))
    found = [likeness_of(decode_image(path).numpy()) for path in files]
    hashes = np.array([one.bits for one in found], dtype=np.uint64)
    assert near_duplicates(hashes, np.stack([one.thumbnail for one in found])) == []


def test_a_bit_says_whether_it_grows_brighter_to_the_right() -> None:
    """A ramp from dark to light sets every bit; from light to dark, and level, none."""
    ramp = np.tile(np.arange(90, dtype=np.uint8), (3, 80, 1))
    assert likeness_of(ramp).bits == 2**64 - 1
    assert likeness_of(ramp[:, :, ::-1]).bits == 0
    assert likeness_of(np.full((3, 80, 90), 7, dtype=np.uint8)).bits == 0


def test_the_thumbnail_is_the_mean_of_each_cell() -> None:
    """Of a picture of 16 × 24 pixels, each value is the mean of 2 × 3 pixels, per colour."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 24), dtype=np.uint8)
    expected = pixels.reshape(3, 8, 2, 8, 3).mean(axis=(2, 4)).transpose(1, 2, 0)
    assert np.abs(likeness_of(pixels).thumbnail - expected).max() <= 0.5


def test_grey_is_its_own_three_channels() -> None:
    """A grey picture looks like itself in colour."""
    grey = np.random.default_rng(0).integers(0, 256, (1, 20, 30), dtype=np.uint8)
    one, three = likeness_of(grey), likeness_of(grey.repeat(3, axis=0))
    assert one.bits == three.bits and np.array_equal(one.thumbnail, three.thumbnail)


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 1, 500), (3, 3000, 2), (3, 7, 5)])
def test_any_shape_has_a_likeness(shape: tuple[int, int, int]) -> None:
    """Also a single pixel and slivers; white stays white."""
    found = likeness_of(np.full(shape, 255, dtype=np.uint8))
    assert found.bits == 0 and found.thumbnail.shape == (8, 8, 3) and found.thumbnail.min() == 255


def test_pictures_at_once_look_as_they_do_alone() -> None:
    """Several of different shapes, grey and in colour, worked on together, keep their order and their likeness."""
    rng = np.random.default_rng(0)
    shapes = [(3, 40, 50), (1, 40, 50), (3, 40, 50), (3, 500, 300), (3, 33, 700), (1, 40, 50)]
    pictures = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
    together = likenesses_of([sampled(one) for one in pictures])
    for one, found in zip(pictures, together, strict=True):
        alone = likeness_of(one)
        assert found.bits == alone.bits and np.array_equal(found.thumbnail, alone.thumbnail)
