"""Every image of the gallery decodes to what its table says, or is refused in the words that it says."""

from __future__ import annotations

import importlib.util
import re

import numpy as np
import pytest
import torch
from odd.gallery import SPECIMENS
from odd.page import PAGE, render
from odd.specimen import Specimen

from holdfast.data.decoding.decode import Decoder, decode_image
from holdfast.errors import DataError

DECODERS: tuple[Decoder, ...] = ("auto", "torchcodec", "pillow")


def _compared(specimen: Specimen, array: np.ndarray) -> np.ndarray:
    """The pixels that count: all, or the middles of tiles."""
    if not specimen.margin:
        return array
    inner = slice(specimen.margin, 16 - specimen.margin)
    height, width = array.shape[:2]
    return array.reshape(height // 16, 16, width // 16, 16, -1)[:, inner, :, inner]


@pytest.mark.parametrize("specimen", SPECIMENS, ids=lambda s: s.name)
def test_every_image_is_decided_as_documented(specimen: Specimen) -> None:
    """Whichever decoder is asked for, the pixels or the refusal are those of the table; colour and grey agree."""
    if specimen.needs and importlib.util.find_spec(specimen.needs) is None:
        pytest.skip(f"{specimen.needs} is not installed")
    data = specimen.data()
    for decoder in DECODERS:
        if specimen.pixels is None:
            with pytest.raises(DataError) as caught:
                decode_image(data, decoder=decoder)
            assert re.search(specimen.refusal, str(caught.value)), (decoder, str(caught.value))
            assert "\n" not in str(caught.value)
            continue
        pixels = decode_image(data, decoder=decoder)
        assert pixels.dtype == torch.uint8
        assert pixels.shape == (3, *specimen.pixels.shape[:2]), decoder
        far = np.abs(pixels.permute(1, 2, 0).numpy().astype(np.int64) - specimen.pixels.astype(np.int64))
        assert _compared(specimen, far).max() <= specimen.tolerance, (decoder, far.max())
        grey = decode_image(data, 1, decoder)
        red, green, blue = pixels.to(torch.int32)
        assert torch.equal(grey[0], ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).to(torch.uint8))
        assert torch.equal(pixels, decode_image(data)), f"{decoder} differs from auto"


def test_names_are_unique() -> None:
    """No two specimens share a name, so the gallery can be written into one folder."""
    names = [specimen.name for specimen in SPECIMENS]
    assert len(set(names)) == len(names), sorted({n for n in names if names.count(n) > 1})


def test_the_page_of_images_is_true() -> None:
    """docs/images.md is what `python tests/images/make.py` writes today."""
    assert PAGE.read_text(encoding="utf-8") == render()
