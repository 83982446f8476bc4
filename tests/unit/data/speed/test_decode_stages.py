from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from holdfast.data.cache.key import Prefix
from holdfast.data.preprocessing.encoded import decoded
from holdfast.data.preprocessing.picture_file import open_bytes
from holdfast.data.speed.clock import Clock
from holdfast.data.speed.decode_stages import decode_in_stages


@pytest.mark.parametrize(
    ("prefix", "names"),
    [
        (Prefix(), ["decode"]),
        (Prefix(80, scaled=True), ["decode", "decode in full", "resize to a short side of 80"]),
        (Prefix(48, square=True), ["decode", "resize to 48 × 48"]),
    ],
)
def test_the_picture_is_that_of_the_prefix(tmp_path: Path, prefix: Prefix, names: list[str]) -> None:
    """Bit for bit; decoding in full is measured beside it only where JPEGs come out smaller."""
    path = tmp_path / "a.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (10, 8, 3), np.uint8)).resize((200, 260)).save(path)
    opened = partial(open_bytes, path.read_bytes(), path, 3, "auto")
    clock = Clock()
    made = decode_in_stages(clock, opened(), opened, prefix, prefix.most_reduced(opened()), None)
    assert torch.equal(made, prefix.of(opened()))
    stages = clock.stages(1)
    assert [stage.name for stage in stages] == names
    assert [stage.name for stage in stages if not stage.place] == [name for name in names if name == "decode in full"]


def test_pixels_are_not_decoded() -> None:
    """A picture in memory has no time of decoding, and is given back as it is."""
    clock, picture = Clock(), torch.zeros(3, 8, 8, dtype=torch.uint8)
    assert decode_in_stages(clock, decoded(picture), None, Prefix(), 1.0, 64) is picture
    assert not clock.seconds
