from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from holdfast.data import ImageFolder
from holdfast.data.cache.cached_pictures import CachedPictures
from holdfast.data.cache.key import Prefix
from holdfast.data.loading.reading import ReadSample, Sample
from holdfast.data.preprocessing.transforms import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, train_transform
from holdfast.data.speed.stages import measure_stages


@pytest.mark.parametrize("prefix", [Prefix(), Prefix(80, scaled=True), Prefix(48, square=True)])
def test_what_is_measured_is_what_a_training_does(tmp_path: Path, prefix: Prefix) -> None:
    """The prepared pictures have the bits that the loader's own reading gives, whatever comes before the crop."""
    random = np.random.default_rng(0)
    for number in range(4):
        place = tmp_path / "ab"[number % 2] / f"{number}.jpg"
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 256, (10, 8, 3), np.uint8)).resize((200, 260)).save(place)
    pictures = ImageFolder(tmp_path)
    preprocessing = Preprocessing(32, 36, IMAGENET_MEAN, IMAGENET_STD, scaled_decode=True)
    transform = train_transform(preprocessing, "crop+flip+color")
    picked = np.array([2, 0, 3])
    sampled, stages, ready = measure_stages(
        pictures, picked, prefix, transform, batch_size=8, device=torch.device("cpu"), other_side=64
    )
    read = ReadSample(CachedPictures(pictures, prefix), transform, 0)
    for square, index in zip(ready, picked.tolist(), strict=True):
        sample = read(0, index)
        assert isinstance(sample, Sample)
        assert torch.equal(square, transform.augmented(sample.image[None], [sample.numbers])[0])
    assert (sampled.num, sampled.num_all, sampled.short_side) == (3, 4, 200)
    assert sampled.megapixels == pytest.approx(0.052)
    assert "decode for --decode-size 64" in [stage.name for stage in stages if not stage.place]
    assert stages[-1].name == "normalise" and stages[-1].place == "worker"  # on a CPU
